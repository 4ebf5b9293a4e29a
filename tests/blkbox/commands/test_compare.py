"""What recordings and replays compare on a large disk, and what they say of it."""

import json
import os
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.drivers import toml
from tests.kit.faulty.workload import KIB, make_trace
from tests.kit.guests import qemu_io
from tests.kit.peers import background, need
from tests.kit.system import wait_until
from tracer.op import Kind

SIZE = 1 << 30
FAR = 705 << 20
"""Bytes: far from everything that an op comes to, and in no sample."""

OPS = [
    (Kind.WRITE, 0, 64 * KIB, 0),
    (Kind.WRITE, 5 << 20, 4 * KIB, 0),
    (Kind.ZERO, 5 << 20, 4 * KIB, 0),
    (Kind.READ, 9 << 20, 4 * KIB, 0),
]


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    return make_trace(tmp_path / "w.trace", OPS, size=SIZE)


def astray(folder: Path, spoil: str, *serve: str, create: list[str] | None = None) -> str:
    """A driver that has a stray write in its image ($1) when it is started for the second time."""
    script = f'if test -e $1.used; then {spoil}; fi; touch $1.used; socket=$0; exec "$@"'
    command = ["sh", "-c", script.replace('"$@"', " ".join(serve)), "{socket}", "{image}"]
    return toml(folder, serve=command, **({"create": create} if create else {}))


def test_a_stray_write_is_found_by_block_status(tmp_path: Path, workload: Path) -> None:
    need("qemu-nbd", "qemu-img", "qemu-io")
    driver = astray(
        tmp_path,
        f"qemu-io -f qcow2 -c 'write -q -P 9 {FAR} 4k' $1",
        *("qemu-nbd", "-t", "-f", "qcow2", "-k", "$socket", "--discard=unmap", "$1"),
        create=["qemu-img", "create", "-q", "-f", "qcow2", "{image}", "{size}"],
    )
    arguments = ("replay", "w.trace", "--driver", driver, "--no-locate", "--no-plot", "--json")
    verdict = json.loads(trace(*arguments, cwd=tmp_path, expect=1).stdout)
    assert verdict["symptom"] == "reopen"
    assert [(one["sector"], one["sectors"]) for one in verdict["damage"]] == [(FAR // 512, 8)]
    compared = verdict["compared"]
    assert compared["block_status"] == "whole"
    assert compared["touched"] == 128 * KIB
    assert compared["more"] == 64 * KIB


@pytest.mark.parametrize(
    ("option", "says"),
    [("--filter=noextents", "the driver calls 1023.9 MiB of that data"),
     ("--no-sr", "the driver has no block status")],
)  # fmt: skip
def test_without_block_status_a_stray_write_takes_a_comparison_of_the_whole(
    tmp_path: Path, workload: Path, option: str, says: str
) -> None:
    need("nbdkit")
    driver = astray(
        tmp_path,
        f"printf x | dd of=$1 bs=1 seek={FAR} conv=notrunc status=none",
        *("nbdkit", "-f", "-U", "$socket", option, "file", "$1"),
    )
    arguments = ("replay", "w.trace", "--driver", driver, "--no-locate", "--no-plot")
    missed = trace(*arguments, "--keep", "kept", cwd=tmp_path)
    assert (tmp_path / "kept/full/test.img").read_bytes()[FAR : FAR + 1] == b"x"
    (line,) = [line for line in missed.stdout.splitlines() if line.startswith("compared:")]
    assert line.startswith("compared: 128.0 KiB touched, ")
    assert says in line
    found = trace(*arguments, "--compare", "whole", cwd=tmp_path, expect=1)
    assert f"first in sector {FAR // 512}" in found.stdout
    assert "compared: all 1.0 GiB" in found.stdout


def test_a_recording_says_what_it_compared(tmp_path: Path) -> None:
    arguments = ("record", "t.trace", "--driver", "raw", "--size", "1P" if huge(tmp_path) else "1T")
    done = trace(*arguments, "--", *qemu_io("write -P 1 0 4k"), cwd=tmp_path)
    assert "compared: 64.0 KiB touched, 64 samples of the other 1.0" in done.stdout
    whole = trace(
        "record", "u.trace", "--driver", "raw", "--size", "1G", "--compare", "whole", "--",
        *qemu_io("write -P 1 0 4k"), cwd=tmp_path,
    )  # fmt: skip
    assert "compared: all 1.0 GiB" in whole.stdout


def test_a_recording_warns_of_what_it_could_not_see_at_the_start(tmp_path: Path) -> None:
    need("nbdkit")
    socket = tmp_path / "s"
    with background("nbdkit", "-f", "-U", socket, "--no-sr", "memory", "1G", cwd=tmp_path):
        wait_until(socket.exists)
        arguments = ("record", "--driver", f"nbd+unix:///?socket={socket}")
        guest = ("--", *qemu_io("read 0 4k"))
        done = trace(*arguments, "t.trace", *guest, cwd=tmp_path)
        assert "compared at the start: 0 B touched, 64 samples of the other 1.0 GiB" in done.stderr
        done = trace(*arguments, "u.trace", "--compare", "whole", *guest, cwd=tmp_path)
        assert "compared at the start" not in done.stderr


def test_a_large_image_that_starts_with_noise_is_not_written_whole(tmp_path: Path) -> None:
    """Reads of what was never written are not compared, in a later recording either."""
    need("qemu-nbd", "qemu-img", "qemu-io")
    driver = ("--driver", "luks")
    guest = qemu_io("write -P 1 1k 5k", "read -P 0 700M 4k", "read -P 0 8k 4k")
    trace("record", "t.trace", *driver, "--size", "1G", "--", *guest, cwd=tmp_path)
    image, raw = tmp_path / "t.test.luks", tmp_path / "t.raw"
    assert image.stat().st_blocks * 512 < 8 << 20
    assert raw.stat().st_blocks * 512 < 1 << 20
    again = qemu_io("read -P 1 1k 5k", "write -P 2 64k 5k", "read -P 0 700M 4k")
    images = ("--raw", raw, "--image", image)
    done = trace("record", "u.trace", *driver, *images, "--", *again, cwd=tmp_path)
    assert "at the start" not in done.stderr
    for name in ("t.trace", "u.trace"):
        trace("replay", name, *driver, cwd=tmp_path)


def test_a_small_image_that_starts_with_noise_is_made_blank(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img", "qemu-io")
    arguments = ("--driver", "luks", "--size", "4M", "--", *qemu_io("write -P 1 0 4k"))
    trace("record", "t.trace", *arguments, cwd=tmp_path)
    assert (tmp_path / "t.test.luks").stat().st_blocks * 512 >= 4 << 20


def huge(folder: Path) -> bool:
    """Whether the file system can hold a file of 1 PiB."""
    try:
        with (folder / "probe").open("wb") as file:
            os.truncate(file.fileno(), 1 << 50)
    except OSError:
        return False
    return True


# ---------------------------------------------------------------- disks that are not ours


@pytest.mark.parametrize("options", [[], ["--no-sr"]])
def test_a_server_is_blanked_where_it_has_data(
    tmp_path: Path, workload: Path, options: list[str]
) -> None:
    """Its own data, and what an earlier replay wrote."""
    need("nbdkit", "qemu-io")
    image, socket = tmp_path / "disk.raw", tmp_path / "s"
    with image.open("wb") as file:
        file.truncate(SIZE)
        file.seek(SIZE - 4096)
        file.write(b"x")
    with background("nbdkit", "-f", "-U", socket, *options, "file", image, cwd=tmp_path):
        wait_until(socket.exists)
        uri = f"nbd+unix:///?socket={socket}"
        arguments = ("replay", "w.trace", "--driver", uri)
        refused = trace(*arguments, cwd=tmp_path, expect=200)
        assert "--force" in refused.stderr
        assert image.read_bytes()[SIZE - 4096 : SIZE - 4095] == b"x"
        trace(*arguments, "--force", "--runs", "2", cwd=tmp_path)
        assert not image.read_bytes()[SIZE - 4096 :].strip(b"\0")


def test_a_place_that_the_trace_reads_must_be_blank(tmp_path: Path, workload: Path) -> None:
    """Though nothing is written there, and though block status does not tell."""
    need("nbdkit")
    image, socket = tmp_path / "disk.raw", tmp_path / "s"
    with image.open("wb") as file:
        file.truncate(SIZE)
        file.seek(9 << 20)
        file.write(b"x")
    with background("nbdkit", "-f", "-U", socket, "--no-sr", "file", image, cwd=tmp_path):
        wait_until(socket.exists)
        uri = f"nbd+unix:///?socket={socket}"
        trace("replay", "w.trace", "--driver", uri, cwd=tmp_path, expect=200)
        trace("replay", "w.trace", "--driver", uri, "--force", cwd=tmp_path)

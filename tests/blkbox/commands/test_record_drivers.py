"""``trace record`` with real programs as drivers."""

import shutil
from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import SIZE, record
from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.drivers import NBDKIT, toml
from tests.kit.guests import nbdsh, qemu_io
from tests.kit.peers import background, need, peer
from tests.kit.system import wait_until
from tracer.driver.spec import parse_driver
from tracer.errors import DriverError


def make_luks(image: Path) -> None:
    """qemu-img 7.2 measures how fast the machine is, and on a busy one now and then fails at
    that."""
    need("qemu-nbd", "qemu-img")
    driver = parse_driver("luks")
    for _ in range(4):
        try:
            driver.create_image(image, SIZE)
        except DriverError as error:
            if "CPU usage" not in error.log:
                raise
        else:
            break


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vmdk", "vdi", "vhdx", "qed", "vpc", "luks", "parallels"])
def test_the_other_formats(tmp_path: Path, name: str) -> None:
    if name == "luks":
        make_luks(tmp_path / "t.test.luks")
    commands = (
        "write -P 1 0 128k",
        "write -z 64k 4k",
        "discard 0 64k",
        "write -P 2 4096 512",
        "flush",
    )
    record(tmp_path, name, *qemu_io(*commands, "read -P 2 4096 512", "read -P 1 100k 1k"))
    assert (tmp_path / f"t.test.{name}").exists()


def test_a_build_in_a_folder(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    folder = Path(shutil.which("qemu-nbd") or "").parent
    result = record(tmp_path, f"raw@{folder}", *qemu_io("write -P 1 0 4k", "read -P 1 0 4k"))
    assert result["driver"] == f"raw@{folder}"
    assert (tmp_path / "t.test.raw").read_bytes() == (tmp_path / "t.raw").read_bytes()


def test_a_build_in_a_folder_below(tmp_path: Path) -> None:
    """A relative folder, which must not depend on where commands run."""
    need("qemu-nbd", "qemu-img")
    (tmp_path / "build").mkdir()
    for program in ("qemu-nbd", "qemu-img"):
        (tmp_path / "build" / program).symlink_to(shutil.which(program) or "")
    record(tmp_path, "qcow2@build", *qemu_io("write -P 1 0 4k"))


GUEST = ("write -P 1 0 128k", "write -z 64k 4k", "write -P 2 1M 512", "flush", "read -P 1 0 64k")


@pytest.mark.parametrize(
    "serve",
    [
        [*NBDKIT, "memory", "{size}"],
        [*NBDKIT, "file", "{image}"],
        [*NBDKIT, "--filter=blocksize-policy", "memory", "{size}", "blocksize-minimum=4096"],
        ["qemu-storage-daemon",
         "--blockdev", "driver=file,node-name=disk,filename={image},discard=unmap",
         "--nbd-server", "addr.type=unix,addr.path={socket}",
         "--export", "type=nbd,id=e,node-name=disk,name=,writable=on"],
    ],
    ids=["nbdkit-memory", "nbdkit-file", "nbdkit-blocks-of-4k", "qemu-storage-daemon"],
)  # fmt: skip
def test_drivers_from_a_file(tmp_path: Path, serve: list[str]) -> None:
    need(serve[0])
    result = record(tmp_path, toml(tmp_path, serve=serve), *qemu_io(*GUEST, "discard 0 64k"))
    assert result["driver"] == "mine"
    assert result["ops"]["trim"] == 1


def test_a_driver_with_its_own_create_and_check(tmp_path: Path) -> None:
    need("qemu-img", "qemu-nbd")
    driver = toml(
        tmp_path,
        create=[
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "cluster_size=4k",
            "{image}",
            "{size}",
        ],
        serve=[
            "qemu-nbd",
            "--persistent",
            "--shared=2",
            "--socket={socket}",
            "-f",
            "qcow2",
            "{image}",
        ],
    )
    record(tmp_path, driver, *qemu_io(*GUEST))
    assert '"cluster-size": 4096' in peer(
        "qemu-img", "info", "--output=json", tmp_path / "t.test.img"
    )


def test_the_drivers_environment(tmp_path: Path) -> None:
    need("nbdkit")
    script = "echo $COLOUR >colour; exec " + " ".join(NBDKIT) + " memory {size}"
    driver = toml(tmp_path, serve=["sh", "-c", script])
    with (tmp_path / driver).open("a") as file:
        file.write('[env]\nCOLOUR = "blue"\n')
    record(tmp_path, driver, *qemu_io("write 0 512"))
    assert (tmp_path / "colour").read_text() == "blue\n"


def test_a_server_that_is_up_already(tmp_path: Path) -> None:
    need("nbdkit")
    socket = tmp_path / "s"
    with background(
        "nbdkit", "--foreground", f"--unix={socket}", "memory", "4M", cwd=tmp_path
    ) as server:
        wait_until(socket.exists)
        uri = f"nbd+unix:///?socket={socket}"
        told = trace("record", "t.trace", "--driver", uri, "--size", "8M", cwd=tmp_path, expect=200)
        assert "has a disk of 4194304 bytes, not of 8388608" in told.stderr
        result = record(tmp_path, uri, *qemu_io(*GUEST), options=["--size", "4M"])
        assert result["size"] == 4 * MIB
        assert server.poll() is None
        peer(
            "qemu-img",
            "compare",
            "-f",
            "raw",
            "-F",
            "raw",
            tmp_path / "t.raw",
            f"nbd+unix:///?socket={socket}",
        )
    assert not (tmp_path / "t.test.img").exists()


def test_a_read_only_driver(tmp_path: Path) -> None:
    script = "assert h.is_read_only(); assert h.pread(512, 0) == bytes(512)"
    need("nbdkit")
    driver = toml(tmp_path, serve=[*NBDKIT, "--readonly", "memory", "{size}"])
    record(tmp_path, driver, *nbdsh(script))

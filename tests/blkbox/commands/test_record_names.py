"""Export names and descriptions: what guests are offered, and what drivers are asked for."""

from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import SIZE, record
from tests.kit.command import finish, recording, trace
from tests.kit.drivers import toml
from tests.kit.guests import nbdsh, qemu_io
from tests.kit.peers import need, peer
from tests.kit.servers import nbdkit, qemu_nbd
from tracer.errors import Exit

SERVED = ("t.trace", "--driver", "raw", "--size", SIZE)


def test_a_served_name(tmp_path: Path) -> None:
    """It is listed; it and the default are found, nothing else is."""
    need("nbdinfo")
    name = ("--listen", "unix:s", "--export-name", "düsk 1")
    with recording(*SERVED, *name, cwd=tmp_path) as (process, uri):
        assert uri == "nbd+unix:///d%C3%BCsk%201?socket=s"
        assert 'export="düsk 1"' in peer("nbdinfo", "--list", "nbd+unix:///?socket=s", cwd=tmp_path)
        for asked in (uri, "nbd+unix:///?socket=s"):
            assert peer("nbdinfo", "--size", asked, cwd=tmp_path) == f"{SIZE}\n"
        peer("nbdinfo", "--size", "nbd+unix:///other?socket=s", cwd=tmp_path, fails=True)
        finish(process)


def test_the_guests_uri_has_the_name(tmp_path: Path) -> None:
    script = """
assert h.get_export_name() == "düsk/1", h.get_export_name()
assert h.get_canonical_export_name() == "düsk/1"
h.pwrite(b"x" * 512, 0)
"""
    command = nbdsh("")
    command[command.index("-u") : command.index("-u") + 2] = []
    connect = 'import os; h.set_full_info(True); h.connect_uri(os.environ["NBD_URI"])'
    command[-1] = f"{connect}\n{script}"
    record(tmp_path, "raw", *command, options=["--export-name", "düsk/1"])


def test_the_drivers_description_reaches_the_guest(tmp_path: Path) -> None:
    need("nbdinfo")
    (tmp_path / "image").write_bytes(bytes(SIZE))
    described = ("--export-name=disk", "--description=für alle", "image")
    told = "description: für alle"
    with qemu_nbd(tmp_path, *described) as port:
        driver = ("--driver", f"nbd://localhost:{port}/disk", "--size", SIZE)
        with recording("t.trace", *driver, cwd=tmp_path) as (process, uri):
            assert told in peer("nbdinfo", uri)
            assert told in peer("nbdinfo", "--list", "--no-content", uri)
            finish(process)


def test_the_only_export_of_a_driver_need_not_be_named(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(SIZE))
    with qemu_nbd(tmp_path, "--export-name=my disk", "image") as port:
        record(tmp_path, f"nbd://localhost:{port}", *qemu_io("write -P 1 0 4k", "read -P 1 0 4k"))
    assert (tmp_path / "image").read_bytes()[:4096] == b"\1" * 4096


def test_a_driver_with_several_exports_is_asked_for_one_by_name(tmp_path: Path) -> None:
    (tmp_path / "disks").mkdir()
    for name in ("a", "b"):
        (tmp_path / "disks" / name).write_bytes(bytes(SIZE))
    with nbdkit(tmp_path, "file", f"dir={tmp_path}/disks") as path:
        done = trace(
            "record", "t.trace", "--driver", f"nbd+unix:///?socket={path}", "--size", SIZE,
            "--", "true", cwd=tmp_path, expect=Exit.UNDECIDABLE,
        )  # fmt: skip
        assert done.stderr.endswith(": it has no export '': name one of 'a', 'b'\n")
        record(tmp_path, f"nbd+unix:///b?socket={path}", *qemu_io("write -P 1 0 4k"))
    assert (tmp_path / "disks" / "a").read_bytes() == bytes(SIZE)
    assert (tmp_path / "disks" / "b").read_bytes()[:4096] == b"\1" * 4096


@pytest.mark.parametrize("named", [True, False])
def test_an_export_of_a_driver_from_a_file(tmp_path: Path, named: bool) -> None:
    need("qemu-nbd")
    serve = ["qemu-nbd", "--persistent", "--format=raw", "--export-name=my disk",
             "--socket={socket}", "{image}"]  # fmt: skip
    keys: dict[str, list[str] | str] = {"export": "my disk"} if named else {}
    driver = toml(tmp_path, serve=serve, **keys)
    record(tmp_path, driver, *qemu_io("write -P 1 0 4k", "read -P 1 0 4k"))


def test_an_export_that_a_driver_from_a_file_does_not_have(tmp_path: Path) -> None:
    need("qemu-nbd")
    serve = ["qemu-nbd", "--persistent", "--format=raw", "--export-name=my disk",
             "--socket={socket}", "{image}"]  # fmt: skip
    driver = toml(tmp_path, serve=serve, export="another")
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", SIZE, "--", "true",
        cwd=tmp_path, expect=Exit.UNDECIDABLE,
    )  # fmt: skip
    assert "mine: " in done.stderr
    assert "it refuses the export 'another': " in done.stderr


def test_what_is_ours_is_offered_whatever_the_driver_offers(tmp_path: Path) -> None:
    """docs/nbd.md, "What a guest is offered"."""
    need("nbdinfo")
    with nbdkit(tmp_path, "--no-sr", "--readonly", "memory", SIZE) as path:
        direct = peer("nbdinfo", f"nbd+unix:///?socket={path}")
        with recording(
            "t.trace", "--driver", f"nbd+unix:///?socket={path}", "--size", SIZE, cwd=tmp_path
        ) as (process, uri):
            offered = peer("nbdinfo", uri)
            finish(process)
    assert "using simple packets" in direct
    assert "using structured packets" in offered
    assert "base:allocation" in offered
    assert "base:allocation" not in direct
    assert "can_df: false" in direct
    assert "can_df: true" in offered
    assert "can_multi_conn: true" in offered
    for line in ("is_read_only: true", "can_trim: false", "can_zero: false"):
        assert line in direct
        assert line in offered

"""What --driver takes."""

from pathlib import Path

import pytest

from tests.kit.peers import need
from tracer.driver.command import exit_text, fill
from tracer.driver.driver import Driver
from tracer.driver.spec import FORMATS, parse_driver
from tracer.errors import BlkboxError, DriverError, Exit, UsageError
from tracer.nbd.uri import Address

SERVE = 'serve = ["server", "--socket={socket}", "{image}"]\n'


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def refused(text: str) -> str:
    """Why --driver TEXT is refused, in one line."""
    with pytest.raises(BlkboxError) as caught:
        parse_driver(text)
    message = str(caught.value)
    assert "\n" not in message
    assert message
    return message


# ---------------------------------------------------------------- formats and URIs


def test_raw_is_served_in_process() -> None:
    driver = parse_driver("raw")
    assert driver.serve is None
    assert driver.create is None
    assert driver.check is None
    assert driver.owns_image


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "raw"])
def test_formats(name: str) -> None:
    need("qemu-nbd", "qemu-img")
    driver = parse_driver(name)
    assert driver.name == driver.suffix == name
    assert driver.create is not None
    assert driver.serve is not None
    assert driver.create[:5] == (driver.create[0], "create", "-q", "-f", name)
    assert "--socket={socket}" in driver.serve
    assert "--discard=unmap" in driver.serve
    assert (driver.check is not None) == FORMATS[name].check
    assert driver.can_convert
    assert driver.can_back == (name in ("qcow2", "qed", "vmdk"))


def test_a_format_from_a_folder(tmp_path: Path) -> None:
    for program in ("qemu-nbd", "qemu-img"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    driver = parse_driver(f"qcow2@{tmp_path}")
    assert driver.name == f"qcow2@{tmp_path}"
    assert driver.suffix == "qcow2"
    assert driver.serve is not None
    assert driver.create is not None
    assert driver.serve[0] == str(tmp_path / "qemu-nbd")
    assert driver.create[0] == str(tmp_path / "qemu-img")


def test_a_folder_without_qemu_img_is_helped_out(tmp_path: Path) -> None:
    need("qemu-img")
    (tmp_path / "qemu-nbd").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-nbd").chmod(0o755)
    driver = parse_driver(f"raw@{tmp_path}")
    assert driver.serve is not None
    assert driver.create is not None
    assert driver.serve[0] == str(tmp_path / "qemu-nbd")
    assert Path(driver.create[0]).name == "qemu-img"


def test_a_folder_without_qemu_nbd(tmp_path: Path) -> None:
    assert refused(f"qcow2@{tmp_path}") == f"there is no program qemu-nbd in {tmp_path}"


def test_a_program_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("qemu-img")
    mine = tmp_path / "my-qemu-nbd"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("BLKBOX_QEMU_NBD", str(mine))
    serve = parse_driver("qcow2").serve
    assert serve is not None
    assert serve[0] == str(mine)


def test_a_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLKBOX_QEMU_NBD", "/nonexistent/qemu-nbd")
    with pytest.raises(DriverError, match="set BLKBOX_QEMU_NBD to its path") as caught:
        parse_driver("qcow2")
    assert caught.value.exit_code == Exit.UNDECIDABLE


def test_uris() -> None:
    driver = parse_driver("nbd+unix:///disk?socket=/tmp/s")
    assert driver.address == Address("disk", path="/tmp/s")
    assert not driver.owns_image


@pytest.mark.parametrize("text", ["", "qcow3", "@", "x@/usr/bin", "no/such/file"])
def test_drivers_that_are_not_known(text: str) -> None:
    message = refused(text)
    assert message.startswith(f"unknown driver {text!r}")
    assert "qcow2" in message


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("nbd:localhost:10809", "nbd://localhost:10809/"),
        ("nbd:10.0.0.1:1:exportname=a b", "nbd://10.0.0.1:1/a%20b"),
        ("nbd:unix:/tmp/s", "nbd+unix:///?socket=/tmp/s"),
        ("nbd:unix:s:exportname=a:b", "nbd+unix:///a%3Ab?socket=s"),
    ],
)
def test_what_qemu_wrote_before_there_were_uris(text: str, uri: str) -> None:
    assert refused(text) == f"{text!r} is no URI: write {uri}"
    assert parse_driver(uri).address is not None


@pytest.mark.parametrize("text", ["nbds+unix://", "nbd+unix:///", "nbd://host:port"])
def test_uris_that_are_refused(text: str) -> None:
    assert text in refused(text)


# ---------------------------------------------------------------- TOML files


def test_the_least_that_a_file_must_say(tmp_path: Path) -> None:
    driver = parse_driver(toml(tmp_path, SERVE))
    assert driver == Driver(
        "mine", serve=("server", "--socket={socket}", "{image}"), may_forget=True
    )


def test_all_that_a_file_can_say(tmp_path: Path) -> None:
    text = (
        'name = "my driver"\n'
        'create = ["make", "{image}", "{size}"]\n'
        + SERVE
        + 'export = "disk 1"\ncheck = ["fsck", "{image}"]\n[env]\nDEBUG = "1"\n'
    )
    driver = parse_driver(toml(tmp_path, text))
    assert driver.name == "my driver"
    assert driver.create == ("make", "{image}", "{size}")
    assert driver.check == ("fsck", "{image}")
    assert driver.export == "disk 1"
    assert driver.env == {"DEBUG": "1"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'serve' is missing"),
        ('name = "x"', "'serve' is missing"),
        ("serve = ", "is not TOML"),
        ("\0", "is not TOML"),
        ('serve = "server --socket={socket}"', "'serve' must be a list of strings"),
        ("serve = []", "'serve' must be a list of strings"),
        ('serve = ["server", 5]', "'serve' must be a list of strings"),
        ('serve = ["server", "{image}"]', "'serve' must have {socket}"),
        (SERVE + "create = 5", "'create' must be a list of strings"),
        (SERVE + "check = []", "'check' must be a list of strings"),
        (SERVE + "name = 5", "'name' must be a string"),
        (SERVE + "export = 5", "'export' must be a string: the name to ask the server for"),
        (SERVE + 'export = "a\\u0000b"', "an export's name is UTF-8 without NUL"),
        (SERVE + f'export = "{"x" * 4097}"', "at most 4096 bytes"),
        (SERVE + "env = 5", "'env' must be a table of strings"),
        (SERVE + "[env]\nDEBUG = 1", "'env' must be a table of strings"),
        (
            SERVE + "sreve = 1",
            "unknown key 'sreve'; known are name, create, convert, serve, export, check, env",
        ),
        (SERVE + 'convert = ["copy", "{image}"]', "'convert' must have {start}"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, why: str) -> None:
    path = toml(tmp_path, text)
    message = refused(path)
    assert message.startswith(path)
    assert why in message


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"serve = ['\xff']")
    assert "is not TOML" in refused(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        parse_driver(str(tmp_path / "no.toml"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "dir.toml").mkdir()
    assert "Is a directory" in refused(str(tmp_path / "dir.toml"))


# ---------------------------------------------------------------- commands


def test_placeholders_are_filled_in() -> None:
    command = ("serve", "{image}:{size}", "{socket}", "{other}", "{}")
    assert fill(command, image="/a", size=5, socket="/s") == [
        "serve",
        "/a:5",
        "/s",
        "{other}",
        "{}",
    ]


def test_commas_are_doubled_for_qemu() -> None:
    assert fill(("{image_option}", "{image}"), image="/a,b") == ["/a,,b", "/a,b"]


def test_a_file_may_name_a_raw_image_and_a_backing_file(tmp_path: Path) -> None:
    plain = parse_driver(toml(tmp_path, SERVE))
    assert not plain.can_convert
    assert not plain.can_back
    text = (
        SERVE + 'convert = ["cp", "{start}", "{image}"]\ncreate = ["make", "{base}", "{image}"]\n'
    )
    driver = parse_driver(toml(tmp_path, text))
    assert driver.convert == ("cp", "{start}", "{image}")
    assert driver.can_convert
    assert driver.can_back
    assert driver.backed_by(tmp_path).create == driver.create
    assert driver.backed_by(tmp_path).below() == {"base": tmp_path}


def test_what_was_filled_in_is_not_filled_in_again() -> None:
    assert fill(("{image}", "{size}"), image="/tmp/{size}/x", size=5) == ["/tmp/{size}/x", "5"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-11, "killed by SIGSEGV"),
        (-100, "killed by signal 100"),
    ],
)
def test_exit_codes_in_words(code: int, text: str) -> None:
    assert exit_text(code) == text

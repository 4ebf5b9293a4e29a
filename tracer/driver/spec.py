"""The values of ``--driver``: a format, a build's folder, a server, a block device or a .toml file.

``parse_driver`` makes a Driver from any of them.
"""

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tracer.driver import tools
from tracer.driver.command import fill
from tracer.driver.driver import Driver
from tracer.errors import UsageError
from tracer.files import read_toml
from tracer.nbd.uri import is_uri, modern, parse_name, parse_uri

QEMU_NBD = ("--persistent", "--shared=16", "--discard=unmap", "--detect-zeroes=off")
"""--persistent: keep running after a client leaves. --discard=unmap: pass trims on to the image
(the default ignores them). --detect-zeroes=off: do not turn writes of zeroes into write zeroes."""

SECRET = ("--object", "secret,id=blkbox,data=blkbox")
"""The key of encrypted images. It protects nothing."""

CHECK_PASSES = frozenset({0, 3})
"""Exit codes of ``qemu-img check`` that pass: 0 is no problem; 3 is leaked clusters only, which
waste space but lose no data."""


@dataclass(frozen=True, slots=True)
class Format:
    """How qemu-img and qemu-nbd handle an image format."""

    create: tuple[str, ...] = ()
    serve: tuple[str, ...] | None = None
    check: bool = True
    starts_blank: bool = True
    backing: str | None = None
    """The format of a backing file; None if images cannot have one."""


FORMATS = {
    "raw": Format(check=False),
    "qcow2": Format(backing="raw"),
    "qed": Format(backing="raw"),
    "vdi": Format(),
    "vhdx": Format(),
    "vmdk": Format(backing="vmdk"),  # qemu-img takes no other format as the parent of a vmdk
    "parallels": Format(),
    # without force_size, vpc rounds the size up to a BIOS geometry
    "vpc": Format(create=("-o", "force_size=on"), check=False),
    # iter-time, in ms: the default key stretching takes seconds
    "luks": Format(
        create=(*SECRET, "-o", "key-secret=blkbox,iter-time=10"),
        serve=(*SECRET, "--image-opts",
               "driver=luks,key-secret=blkbox,file.driver=file,file.filename={image_option}"),
        check=False,
        starts_blank=False,  # sectors that were never written decrypt to noise
    ),
}  # fmt: skip


NONE = Driver("none", absent=True)
"""No driver: for recordings that are judged later, by a replay."""


def parse_driver(text: str, *, or_none: bool = False) -> Driver:
    """Return the driver that ``--driver TEXT`` names.

    ``or_none`` allows "none". Raises UsageError if nothing has that name or the .toml file is not
    valid, DriverError if a program that the driver needs is missing.
    """
    if text == NONE.name:
        if or_none:
            return NONE
        raise UsageError("driver none is for trace record: a replay needs a driver to judge")
    if text == "raw":
        return Driver("raw", suffix="raw")
    name, at, directory = text.partition("@")
    if name in FORMATS and at and not directory:
        raise UsageError(f"--driver {text}: name the folder of the build after the @")
    if name in FORMATS:
        return qemu_driver(text, name, Path(directory) if at else None)
    if is_uri(text):
        return Driver(text, address=parse_uri(text))
    path = Path(text)
    if path.suffix == ".toml":
        return load_toml(path)
    if path.is_block_device():
        qemu_nbd = tools.need("qemu-nbd")
        # --cache=none: otherwise reads come from the page cache, not from the device
        device = ("--socket={socket}", "--cache=none", "--format=raw", "{image}")
        return Driver(text, serve=(qemu_nbd, *QEMU_NBD, *device), fixed_image=path)
    raise UsageError(_unknown(text))


def _unknown(text: str) -> str:
    """Say why nothing has the name ``text``, and what comes near it."""
    if (uri := modern(text)) is not None:
        return f"{text!r} is no URI: write {uri}"
    path = Path(text)
    if text and path.is_dir():
        return f"{text} is a folder: for a build of QEMU in it give FORMAT@DIR, as qcow2@{text}"
    if text and path.exists():
        return f"{text} is neither a block device nor a .toml file that describes a driver"
    if text.startswith("/dev/"):
        return f"there is no block device {text}"
    near = get_close_matches(text.partition("@")[0].lower(), FORMATS, n=1)
    meant = f"did you mean {near[0]}? A driver is" if near else "give"
    return (
        f"unknown driver {text!r}: {meant} a format ({', '.join(FORMATS)}), FORMAT@DIR, an nbd:// "
        "or nbd+unix:// URI, a block device, or a .toml file"
    )


def qemu_driver(label: str, name: str, directory: Path | None) -> Driver:
    """Return the driver that serves the image format ``name`` with qemu-nbd.

    The programs come from ``directory`` if it is given; if it has no qemu-img, the installed
    qemu-img is used. Raises DriverError if a program is missing.
    """
    form = FORMATS[name]
    qemu_nbd = tools.need("qemu-nbd", directory)
    has_img = directory is not None and (directory / "qemu-img").exists()
    qemu_img = tools.need("qemu-img", directory if has_img else None)
    image = form.serve or (f"--format={name}", "{image}")
    create = (qemu_img, "create", "-q", "-f", name, *form.create)
    convert = (qemu_img, "convert", "-q", "-f", "raw", "-O", name, *form.create)
    backing = ("-b", "{base}", "-F", form.backing or "")
    return Driver(
        label,
        suffix=name,
        create=(*create, "{image}", "{size}"),
        convert=(*convert, "{start}", "{image}"),
        overlay=(*create, *backing, "{image}", "{size}") if form.backing else None,
        base_is_raw=form.backing != name,
        serve=(qemu_nbd, *QEMU_NBD, "--socket={socket}", *image),
        check=(qemu_img, "check", "-f", name, "{image}") if form.check else None,
        check_passes=CHECK_PASSES,
        starts_blank=form.starts_blank,
    )


def load_toml(path: Path) -> Driver:
    """Return the driver that a .toml file describes (docs/drivers.md). Raises UsageError if the
    file cannot be read or is not valid."""
    raw = read_toml(path)
    known = ("name", "create", "convert", "serve", "export", "check", "env")
    unknown = sorted(raw.keys() - set(known))
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    if "serve" not in raw:
        raise UsageError(f"{path}: 'serve' is missing: the command that serves the image")
    serve = _command(path, raw, "serve")
    if not any("{socket}" in argument for argument in serve or ()):
        raise UsageError(f"{path}: 'serve' must have {{socket}} where the socket's path goes")
    env = raw.get("env", {})
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise UsageError(f"{path}: 'env' must be a table of strings")
    name = raw.get("name", path.stem)
    if not isinstance(name, str):
        raise UsageError(f"{path}: 'name' must be a string")
    export = raw.get("export", "")
    if not isinstance(export, str):
        raise UsageError(f"{path}: 'export' must be a string: the name to ask the server for")
    convert = _command(path, raw, "convert")
    if convert is not None and not any("{start}" in argument for argument in convert):
        raise UsageError(f"{path}: 'convert' must have {{start}} where the raw image's path goes")
    create, check = _command(path, raw, "create"), _command(path, raw, "check")
    return Driver(
        name, env=env, create=create, convert=convert, serve=serve, check=check, may_forget=True,
        export=parse_name(export, f"{path}: "),
    )  # fmt: skip


def _command(path: Path, raw: dict[str, Any], key: str) -> tuple[str, ...] | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise UsageError(
            f"{path}: {key!r} must be a list of strings: the program and its arguments"
        )
    return tuple(fill(tuple(value), here=path.absolute().parent, python=sys.executable))

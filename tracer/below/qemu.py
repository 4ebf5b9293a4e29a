"""QEMU's own drivers under a format: blklogwrites, which logs what the format does to its file.

A driver that runs qemu-nbd is changed so that its format node opens another file node. That takes
no privileges, and works for all formats.
"""

from dataclasses import replace
from pathlib import Path

from tracer.below.mounted import missing
from tracer.driver.driver import Driver
from tracer.driver.spec import FORMATS, qemu_driver
from tracer.errors import DriverError, UsageError

CACHES = ("writeback", "writethrough", "none", "directsync", "unsafe")
"""The cache modes of qemu-nbd."""

THROUGH = ("writethrough", "directsync")
"""Those in which each op is durable once it is done."""


def by_qemu(driver: Driver) -> Driver:
    """Return the driver; in place of raw images served in process, qemu-nbd's raw format. Raises
    DriverError if there is no qemu-nbd."""
    if driver.serve is None and driver.owns_image:
        return qemu_driver(driver.name, "raw", None)
    return driver


def on_a_file(driver: Driver, cache: str | None) -> Driver:
    """Return the driver as something can go below it. Raises UsageError if its image is not a file
    of ours or there is no such cache mode, and as ``by_qemu``."""
    if cache is not None and cache not in CACHES:
        raise UsageError(f"{cache!r} is no cache mode: give {', '.join(CACHES)}")
    build = by_qemu(driver)
    if not build.owns_image:
        raise UsageError(f"{build.name}: its image is not a file of ours, so nothing goes below it")
    return build


def cuttable(driver: Driver, cache: str | None) -> Driver:
    """Return the driver as power cuts need it. Raises UsageError if its new images hold noise, and
    as ``on_a_file``."""
    build = on_a_file(driver, cache)
    if not build.starts_blank:
        raise UsageError(f"{build.name}: its new images hold noise, so nothing can be compared")
    return build


def logged(driver: Driver, log: Path, cache: str | None = None) -> Driver:
    """Return the driver with all that it does to its image file in a log. Raises UsageError if it
    is not one of qemu-nbd's."""
    escaped = str(log).replace(",", ",,")
    return over(
        driver,
        "file.driver=blklogwrites,file.file.driver=file,file.file.filename={image_option},"
        f"file.log.driver=file,file.log.filename={escaped}",
        cache,
    )


def over(driver: Driver, file: str, cache: str | None = None) -> Driver:
    """Return the driver with another file node: ``file`` has its options, as ``file.driver=...``.

    Raises UsageError if the driver does not run qemu-nbd on an image.
    """
    words, node = _node(driver)
    words += ["--image-opts", f"{node},{file}"]
    return cached(replace(driver, serve=tuple(words)), cache)


def cached(driver: Driver, cache: str | None) -> Driver:
    """Return the driver with a cache mode of qemu-nbd. Raises UsageError as ``over``."""
    if cache is None:
        return driver
    _node(driver)
    program, *words = [word for word in driver.serve or () if not word.startswith("--cache=")]
    return replace(driver, serve=(program, f"--cache={cache}", *words))


def node_of(driver: Driver) -> tuple[dict[str, str], list[str]]:
    """Return the options of a driver's format node, and the words that name the objects that it
    needs. Raises UsageError as ``over``."""
    words, node = _node(driver)
    options = dict(option.split("=", 1) for option in node.split(","))
    at = words.index("--object") if "--object" in words else len(words)
    return options, words[at : at + 2]


def by_fuse(driver: Driver) -> bool:
    """Whether what is below a driver is a FUSE file, which is best, or if there is no FUSE here,
    QEMU's own driver. Raises DriverError if it is neither."""
    why = missing()
    if why is None:
        return True
    try:
        node_of(driver)
    except UsageError as error:
        raise DriverError(f"{driver.name} needs a FUSE file: {why}") from error
    return False


def cache_of(driver: Driver) -> str:
    """Return the cache mode that a driver's command names, or qemu-nbd's own."""
    named = [word.partition("=")[2] for word in driver.serve or () if word.startswith("--cache=")]
    return named[-1] if named else "writeback"


def _node(driver: Driver) -> tuple[list[str], str]:
    """Return the words of a driver's command without its image, and the format node's options."""
    words = list(driver.serve or ())
    if words and Path(words[0]).name == "qemu-nbd":
        if "--image-opts" in words and "{image_option}" in words[-1]:
            at = words.index("--image-opts")
            return words[:at], words[-1].partition(",file.driver=")[0]
        form = [word for word in words if word.startswith("--format=")]
        if len(form) == 1 and words[-1] == "{image}":
            left = [word for word in words[:-1] if word not in form]
            return left, f"driver={form[0].partition('=')[2]}"
    able = ", ".join(FORMATS)
    raise UsageError(
        f"{driver.name}: nothing can be put below it: {able} can be looked below, and a .toml file "
        "whose 'serve' is qemu-nbd with --format=NAME and ends with {image}"
    )

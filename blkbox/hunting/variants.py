"""The sets of options with which a hunt makes images of a format."""

from dataclasses import dataclass, replace

from tracer.driver.driver import Driver
from tracer.driver.spec import SECRET
from tracer.verdict import StartKind


@dataclass(frozen=True, slots=True)
class Variant:
    """How images are made, beyond the defaults of a format."""

    name: str = ""
    create: tuple[str, ...] = ()
    """More arguments for ``qemu-img create`` and ``qemu-img convert``."""
    convert: tuple[str, ...] = ()
    """More arguments for ``qemu-img convert`` alone."""
    image: tuple[str, ...] | None = None
    """What the serve and check commands get in place of format and image."""
    start: StartKind | None = None
    """How images get the data that a trace starts with: then traces start with data."""

    @property
    def starts_with_data(self) -> bool:
        """Whether its traces start with data."""
        return self.start is not None


def _options(*options: str) -> tuple[str, ...]:
    return "-o", ",".join(options)


_PLAIN = Variant()

_QCOW2_LUKS = Variant(
    "encrypted",
    (*SECRET, *_options(
        "encrypt.format=luks", "encrypt.key-secret=blkbox", "encrypt.iter-time=10")),
    image=(*SECRET, "--image-opts",
           "driver=qcow2,encrypt.key-secret=blkbox,file.driver=file,"
           "file.filename={image_option}"),
)  # fmt: skip

VARIANTS: dict[str, tuple[Variant, ...]] = {
    "qcow2": (
        _PLAIN,
        Variant("small clusters", _options("cluster_size=4096")),
        Variant("subclusters", _options("extended_l2=on", "cluster_size=65536")),
        Variant("backing file", start=StartKind.BACKING),
        Variant("preallocated metadata", _options("preallocation=metadata")),
        Variant("compressed", convert=("-c",), start=StartKind.CONVERTED),
        Variant("lazy refcounts", _options("lazy_refcounts=on")),
        Variant("version 2", _options("compat=0.10")),
        Variant(
            "backing file, subclusters", _options("extended_l2=on", "cluster_size=65536"),
            start=StartKind.BACKING,
        ),
        _QCOW2_LUKS,
    ),
    "qed": (
        _PLAIN,
        Variant("small clusters", _options("cluster_size=4096")),
        Variant("backing file", start=StartKind.BACKING),
    ),
    "vmdk": (
        _PLAIN,
        Variant("split", _options("subformat=twoGbMaxExtentSparse")),
        Variant("flat", _options("subformat=monolithicFlat")),
        Variant("backing file", start=StartKind.BACKING),
    ),
    "vdi": (_PLAIN, Variant("static", _options("static=on"))),
    "vhdx": (
        _PLAIN,
        Variant("small blocks", _options("block_size=1M")),
        Variant("fixed", _options("subformat=fixed")),
    ),
    "vpc": (_PLAIN, Variant("fixed", _options("subformat=fixed", "force_size=on"))),
    "parallels": (_PLAIN, Variant("small clusters", _options("cluster_size=65536"))),
}  # fmt: skip
"""By format, the option sets. A hunt goes through them in turn."""


def variants_of(driver: Driver) -> tuple[Variant, ...]:
    """Return the option sets for a driver. A driver of no known format has the usual one alone."""
    return VARIANTS.get(driver.suffix, (_PLAIN,)) if driver.create else (_PLAIN,)


def applied(driver: Driver, variant: Variant) -> Driver:
    """Return the driver with the options of a variant."""

    def inserted(command: tuple[str, ...] | None, more: tuple[str, ...]) -> tuple[str, ...] | None:
        # after the program, its command and -q (tracer/driver/spec.py)
        return None if command is None else (*command[:3], *more, *command[3:])

    if not (variant.create or variant.convert):
        return driver
    changed = replace(
        driver,
        create=inserted(driver.create, variant.create),
        convert=inserted(driver.convert, variant.create + variant.convert),
        overlay=inserted(driver.overlay, variant.create),
    )
    if variant.image is not None and driver.serve is not None and driver.check is not None:
        plain = f"--format={driver.suffix}", "{image}"
        serve = tuple(one for one in driver.serve if one not in plain)
        changed = replace(
            changed, serve=(*serve, *variant.image), check=(*driver.check[:2], *variant.image)
        )
    return changed

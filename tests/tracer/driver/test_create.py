"""Creating images: what qemu-img fails with on a loaded machine is tried once more."""

from pathlib import Path

import pytest

from tracer.driver.driver import NO_CPU_TIME, Driver
from tracer.errors import DriverError


def creating(folder: Path, says: str, fails: int) -> Driver:
    """A driver whose create command fails so many times."""
    script = (
        f'cd "{folder}"; echo x >> tries; if [ $(wc -l < tries) -le {fails} ]; '
        f'then echo "qemu-img: {says}"; exit 1; fi; : > "$1"'
    )
    return Driver("mine", create=("sh", "-c", script, "sh", "{image}"))


def test_a_key_derivation_that_could_not_be_timed_is_tried_again(tmp_path: Path) -> None:
    creating(tmp_path, NO_CPU_TIME, fails=1).create_image(tmp_path / "image", 512)
    assert (tmp_path / "image").exists()


@pytest.mark.parametrize(("says", "tries"), [(NO_CPU_TIME, 2), ("No such option", 1)])
def test_what_fails_for_good(tmp_path: Path, says: str, tries: int) -> None:
    with pytest.raises(DriverError, match="creating the image failed"):
        creating(tmp_path, says, fails=9).create_image(tmp_path / "image", 512)
    assert len((tmp_path / "tries").read_text().splitlines()) == tries

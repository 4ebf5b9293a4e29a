"""What is put below a driver: a FUSE file, or QEMU's own driver where there is no FUSE."""

import pytest

from tracer.below import qemu
from tracer.driver.driver import Driver
from tracer.errors import DriverError

QCOW2 = Driver("qcow2", serve=("qemu-nbd", "--format=qcow2", "{image}"))
OTHER = Driver("other", serve=("nbdkit", "file", "{image}"))


def test_with_fuse_any_driver_has_a_fuse_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "missing", lambda: None)
    assert qemu.by_fuse(QCOW2)
    assert qemu.by_fuse(OTHER)


def test_without_fuse_qemu_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "missing", lambda: "fuse is missing")
    assert not qemu.by_fuse(QCOW2)
    with pytest.raises(DriverError, match="other needs a FUSE file: fuse is missing"):
        qemu.by_fuse(OTHER)

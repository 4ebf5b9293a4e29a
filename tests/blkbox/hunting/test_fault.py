"""What tells faults apart."""

import pytest
from msgspec.structs import replace

from blkbox.hunting.fault import key_of
from blkbox.judging.signs import general
from tests.tracer.verdicts import VERDICT
from tracer.driver.complaints import complaint, sanitizer_report
from tracer.verdict import SymptomKind

ASAN = """nbdkit: debug: pread
=================================================================
==4711==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60200000eff4
    #0 0x4f1b2c in copy /home/me/driver.c:81
"""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", None),
        ("nbdkit: listening\nall is well\n", None),
        (ASAN, "==4711==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60200000eff4"),
        (
            "qemu-nbd: ../block/qed.c:1161: qed_aio_write_alloc: Assertion `x == NULL' failed.\n",
            "qemu-nbd: ../block/qed.c:1161: qed_aio_write_alloc: Assertion `x == NULL' failed.",
        ),
        ("x\nthread 'main' panicked at src/main.rs:3:5:\nboom\n",
         "thread 'main' panicked at src/main.rs:3:5:"),
        ("Traceback (most recent call last):\n  File \"p.py\", line 3, in pread\nKeyError: 7\n",
         "KeyError: 7"),
    ],
)  # fmt: skip
def test_the_telling_line_of_a_log(log: str, line: str | None) -> None:
    assert complaint(log) == line


def test_only_sanitizers_are_faults_by_themselves() -> None:
    assert sanitizer_report(ASAN) is not None
    assert sanitizer_report("x.c:7:3: runtime error: shift exponent 64 is too large\n") is not None
    assert sanitizer_report("Assertion `x' failed.\nKeyError: 7\n") is None


def test_numbers_addresses_and_paths_do_not_count() -> None:
    one = general("==12==ERROR: cluster 5 refcount=1 at 0xdeadbeef in /tmp/a/x.c:12")
    other = general("==7==ERROR: cluster 77 refcount=2 at 0x1 in /home/b/c/x.c:9")
    assert one == other
    assert general("qcow2_free_clusters failed") == "qcow2_free_clusters failed"


def test_the_same_damage_has_the_same_key_whichever_op_shows_it() -> None:
    keys = [
        key_of(replace(VERDICT, symptom=what)) for what in (SymptomKind.READ, SymptomKind.IMAGE)
    ]
    assert keys[0] == keys[1]
    assert key_of(replace(VERDICT, symptom=SymptomKind.HANG)) != keys[0]
    assert key_of(replace(VERDICT, symptom=SymptomKind.READ, log=ASAN)) != keys[0]

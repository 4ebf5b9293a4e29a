"""The defects, a line each: what sets it off, what it does, which op is the culprit, what is
damaged.

The ops are those of workload.py. To add a defect, add a line here and one in
docs/finding-culprits.md (a test says which); the server, the nbdkit plugin and the tests take it
from here.
"""

import errno
from functools import partial

from tests.kit.faulty import effects as do
from tests.kit.faulty.disk import KIB, Damage, Defect, On
from tracer.op import Kind


def damaged(
    kind: str, offset: float, length: float, source: int | None = None
) -> tuple[Damage, ...]:
    """A damaged range in KiB, and the op whose data is found there."""
    return (Damage(int(offset * KIB), int(length * KIB), kind, source),)


lost, stale, misdirected, torn = (
    partial(damaged, kind) for kind in ("lost-write", "stale", "misdirected", "torn")
)
zeroed, bit_flip, shifted, foreign = (
    partial(damaged, kind) for kind in ("zeroed", "bit-flip", "shifted", "foreign")
)
rewrites = partial(Defect, workload="rewrites")
together = partial(Defect, workload="together")


def write(offset: int, nth: int = 1, after: On | None = None) -> On:
    """A write at ``offset`` KiB."""
    return On(Kind.WRITE, offset * KIB, nth=nth, after=after)


# what sets a fault off in the main workload: the number is the op's
WRITE_0, WRITE_17, WRITE_18, WRITE_23, WRITE_25 = (write(at) for at in (0, 20, 60, 516, 900))
ZERO_19, TRIM_20, STATUS_24 = On(Kind.ZERO), On(Kind.TRIM), On(Kind.BLOCK_STATUS)
READ_21, READ_26 = On(Kind.READ, 0, 64 * KIB), On(Kind.READ, 0, 1024 * KIB)
FLUSH_16, FLUSH_22, FLUSH_27 = (On(Kind.FLUSH, nth=nth) for nth in (1, 2, 3))
FLUSH_22_AFTER_18, WRITE_23_AFTER_19 = On(Kind.FLUSH, after=WRITE_18), write(516, after=ZERO_19)
# in the workload that rewrites
REWRITE_7, READ_8, REWRITE_9, FLUSH_10 = write(20, nth=3), READ_21, write(60, nth=3), FLUSH_22
# in the workload with two ops in flight
WRITE_BESIDE_WRITE, WRITE_BESIDE_READ = (
    On(Kind.WRITE, beside=kind) for kind in (Kind.WRITE, Kind.READ)
)
ZERO_BESIDE_WRITE = On(Kind.ZERO, beside=Kind.WRITE)

TABLE = [
    # a write is lost, torn, misplaced or changed
    Defect("first-write-lost", WRITE_0, do.lose, 0, lost(0, 64)),
    Defect("write-lost", WRITE_17, do.lose, 17, lost(20, 4, 0)),
    Defect("last-write-lost", WRITE_25, do.lose, 25, lost(900, 4, 14)),
    Defect("write-torn-at-512", WRITE_17, do.tear(512), 17, torn(20.5, 3.5, 17)),
    Defect("write-torn-at-4096", WRITE_18, do.tear(8192), 18, torn(68, 4, 18)),
    Defect("write-torn-at-cluster", WRITE_18, do.tear(4096), 18, torn(64, 8, 18)),
    Defect("write-torn-unaligned", WRITE_17, do.tear(1000), 17, torn(20.5, 3.5, 17)),
    Defect("write-head-lost-at-cluster", WRITE_18, do.behead(4096), 18, torn(60, 4, 18)),
    Defect("write-misdirected", WRITE_17, do.move(64), 17, lost(20, 4, 0) + misdirected(84, 4, 17)),
    Defect("write-split", WRITE_18, do.move(64, 4096), 18,
           torn(64, 8, 18) + misdirected(128, 8, 18)),
    Defect("write-zeroed", WRITE_17, do.blank, 17, zeroed(20, 4)),
    Defect("write-zeroes-rest-of-cluster", WRITE_18, do.zero(72, 56), 18, zeroed(72, 56)),
    Defect("bit-flip", WRITE_25, do.flip(77 * 8 + 2), 25, bit_flip(900, 0.5, 25)),
    Defect("three-bits-flip", WRITE_18, do.flip(9, 700, 4095), 18, bit_flip(60, 0.5, 18)),
    Defect("write-shifted", WRITE_25, do.shift(16), 25, shifted(900, 4, 25)),
    Defect("write-shifted-forward", WRITE_18, do.shift(-100), 18, shifted(60, 12, 18)),
    Defect("write-foreign", WRITE_17, do.garble, 17, foreign(20, 4)),
    rewrites("write-stale", REWRITE_7, do.keep_older, 7, stale(20, 4, 2)),
    rewrites("write-stale-across-clusters", REWRITE_9, do.keep_older, 9, stale(60, 8, 3)),
    # zeroes and trims
    Defect("zero-ignored", ZERO_19, do.lose, 19, lost(256, 32, 4)),
    Defect("zero-torn", ZERO_19, do.tear(20 * KIB), 19, torn(276, 12, 19)),
    Defect("zero-too-long", ZERO_19, do.zero(288, 4), 19, zeroed(288, 4)),
    Defect("zero-misdirected", ZERO_19, do.move(64), 19, lost(256, 32, 4) + zeroed(320, 32)),
    Defect("zero-garbles", ZERO_19, do.garble, 19, foreign(256, 32)),
    Defect("trim-too-long", TRIM_20, do.zero(576, 64), 20, zeroed(576, 64)),
    Defect("trim-too-early", TRIM_20, do.zero(511, 1), 20, zeroed(511, 1)),
    Defect("trim-gives-cluster-away", TRIM_20, do.copy(192, 640, 64), 20, misdirected(640, 64, 3)),
    # flushes, reads and block status
    Defect("first-flush-misdirects", FLUSH_16, do.copy(128, 448, 64), 16, misdirected(448, 64, 2)),
    Defect("flush-zeroes", FLUSH_22, do.zero(20, 1), 22, zeroed(20, 1)),
    Defect("last-flush-flips-bit", FLUSH_27, do.flip_at(700, 100), 27, bit_flip(700, 0.5, 10)),
    rewrites("last-flush-stale", FLUSH_10, do.revert(60, 8, 2), 10, stale(60, 8, 3)),
    Defect("read-zeroes", READ_21, do.zero(8, 0.5), 21, zeroed(8, 0.5)),
    rewrites("read-stale", READ_8, do.revert(20, 4, 2), 8, stale(20, 4, 2)),
    Defect("last-read-spoils-blank", READ_26, do.spoil(2048), 26, foreign(2048, 1)),
    Defect("read-returns-wrong", READ_21, do.misread(8000), 21, bit_flip(0.5, 0.5, 0)),
    Defect("second-read-returns-wrong", On(Kind.READ, nth=2), do.misread(8), 26,
           bit_flip(0, 0.5, 0)),
    Defect("false-hole", STATUS_24, do.call_hole(900, 4), 14, lost(900, 4)),
    # armed by one op, done by a later one
    Defect("delayed-flush", FLUSH_22_AFTER_18, do.spoil(320), 22, foreign(320, 1)),
    Defect("delayed-write", WRITE_23_AFTER_19, do.copy(128, 704, 64), 23, misdirected(704, 64, 2)),
    # two at once: what the first damages is written over, after the second one's damage or before
    # it; then it was never there to be looked at, and did no harm
    Defect("overwritten-after-another", WRITE_17, do.zero(900, 4), 17, zeroed(900, 4),
           later=(WRITE_23, do.lose)),
    Defect("overwritten-before-another", WRITE_25, do.lose, 25, lost(900, 4, 14),
           later=(WRITE_17, do.zero(60, 12))),
    # a read sees what the first damages, before it is written over; then the second strikes
    rewrites("seen-then-overwritten", write(60, nth=2), do.lose, 6, lost(60, 8, 3),
             later=(REWRITE_9, do.keep_older)),
    # seen only once the driver has stopped
    Defect("lost-on-close", WRITE_17, do.lose, 17, lost(20, 4, 0), "reopen"),
    Defect("flush-zeroes-on-reopen", FLUSH_22, do.zero(60, 12), 22, zeroed(60, 12), "reopen"),
    rewrites("stale-on-close", REWRITE_7, do.revert(20, 4, 2), 7, stale(20, 4, 2), "close"),
    # no wrong bytes
    Defect("wrong-errno", WRITE_25, do.fail(errno.ENOSPC), 25),
    Defect("crash-on-zero", ZERO_19, do.crash, 19),
    Defect("crash-on-flush", FLUSH_16, do.crash, 16),
    Defect("crash-on-read", READ_21, do.crash, 21),
    Defect("hang", WRITE_23, do.hang, 23),
    Defect("check-only", ZERO_19, do.break_metadata, 19),
    # only when in flight together, in this order
    together("write-lost-beside-write", WRITE_BESIDE_WRITE, do.undo_neighbours, 7, lost(0, 4, 0)),
    together("write-lost-beside-zero", ZERO_BESIDE_WRITE, do.undo_neighbours, 9, lost(64, 4, 1)),
    together("write-lost-beside-write-on-reopen", WRITE_BESIDE_WRITE, do.undo_neighbours, 7,
             lost(0, 4, 0), "reopen"),
    together("write-lost-beside-read", WRITE_BESIDE_READ, do.lose, 11, lost(192, 4, 2)),
]  # fmt: skip

CHANCE = Defect("chance", WRITE_17, do.lose, 17, lost(20, 4, 0), luck="1001000100100100")
"""It shows in some runs only: for tests/test_locate.py."""

RARE = Defect("rare", WRITE_17, do.lose, 17, lost(20, 4, 0), luck="1" + 24 * "0")
"""It shows in so few runs that nothing can be confirmed."""

DEFECTS = {defect.name: defect for defect in TABLE}


def find(name: str) -> Defect | None:
    """The defect of a name; None for "none", which is a disk that does everything right."""
    return None if name == "none" else {**DEFECTS, CHANCE.name: CHANCE, RARE.name: RARE}[name]

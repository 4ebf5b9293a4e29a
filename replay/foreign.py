"""The disk of a server or of a block device: make it read as zeroes before each run.

A trace starts on zeroes. A file of ours is made anew; such a disk must be checked and zeroed, at a
cost that follows what the trace touches and what the disk holds.
"""

from replay.options import ReplayOptions
from replay.player import Sides
from tracer.disk.blank import make_blank
from tracer.disk.waiter import Waiter
from tracer.errors import Undecidable, UsageError
from tracer.mirror import reads
from tracer.mirror.comparison import Comparison
from tracer.mirror.found import Sweep
from tracer.mirror.scope import WALK_TIME
from tracer.mirror.sweep import sweep
from tracer.mirror.touched import Touched
from tracer.mirror.walk import Walked, walk
from tracer.op import MUTATING, Kind
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData

EDGE = 1 << 20
"""Bytes at both ends of a disk that are always looked at: partition tables and file systems keep
their headers there."""


class ForeignDisk:
    """Makes a disk blank that other data may be on.

    The disk is overwritten only with ``force``, or once it was found blank: then its data is ours.
    """

    def __init__(self, source: TraceWithData, options: ReplayOptions) -> None:
        self._source = source
        self._options = options
        self._ours = False
        self._zeroed = False  # all of it was found blank, or zeroed, at some time
        self._reach: Touched | None = None

    def blank(self, sides: Sides) -> None:
        """Make sure that the disk reads as zeroes, wherever the trace's ops come to and elsewhere
        as far as a comparison looks.

        Raises UsageError if the disk must not be overwritten, Undecidable if it cannot be read or
        does not read as zeroes after being zeroed, DriverError and DriverHung.
        """
        name, timeout = self._options.driver.name, self._options.timeout
        found = self._check(sides)
        if not found.clean and not (self._options.force or self._ours):
            raise UsageError(
                f"{name} does not read as zeroes, and a replay would overwrite its data: "
                "give --force to allow that"
            )
        self._ours = True
        tries = [self._dirty(sides, found), RangeSet([(0, sides.reference.export.size)])]
        while not found.clean and tries:
            make_blank(sides.loop, sides.test, timeout, tries.pop(0))
            found = self._check(sides)
        if not found.clean:
            raise Undecidable(f"{name} does not read as zeroes after being zeroed")
        self._zeroed = True

    def _check(self, sides: Sides) -> Sweep:
        """Compare the disk with zeroes. Raises Undecidable if it does not answer."""
        comparison, options = Comparison(), self._options
        comparison.touched = self._touched(sides.reference.export.size).copy()
        found = sweep(
            sides.loop, sides.reference, sides.test, comparison,
            scope=options.scope, label="looking for data",
            timeout=options.timeout,
        )  # fmt: skip
        if found.failed is not None:
            raise Undecidable(f"{options.driver.name}: {found.failed}")
        return found

    def _touched(self, size: int) -> Touched:
        """Return where the trace's ops come to, and the ends of the disk."""
        if self._reach is None:
            self._reach = reach = Touched()
            reach.data.add(0, min(EDGE, size))
            reach.data.add(max(0, size - EDGE), size)
            for op in self._source.trace.ops():
                if op.kind in MUTATING:
                    reach.note(op)
                elif op.kind == Kind.READ:
                    reach.data.add(op.offset, op.end)
        return self._reach

    def _dirty(self, sides: Sides, found: Sweep) -> RangeSet:
        """Return what must be zeroed: all of the disk, unless block status says where its data is,
        or the disk was blank before."""
        size = sides.reference.export.size
        walked = Walked()
        if found.clean:
            return RangeSet()
        if sides.test.has_block_status:
            both = reads.Sides(
                sides.reference, sides.test, Comparison(),
                Waiter(sides.loop, sides.test, self._options.timeout),
            )  # fmt: skip
            disk = RangeSet([(0, size)])
            walked = walk(both, Sweep(), disk, "reading block status", WALK_TIME)
        if walked.bytes < size and not self._zeroed:
            return RangeSet([(0, size)])
        dirty = walked.data
        for start, end in found.damage:
            dirty.add(start, end)
        return dirty

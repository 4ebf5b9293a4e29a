"""One range of the disk and the values that it may hold."""

from dataclasses import dataclass

from tracer.candidates.value import BEFORE, FOREVER, Holds, Value

NOT_DECIDED = -1


class Entry:
    """A value that a segment may hold.

    ``taken`` is the event by which it has surely taken effect: the completion of its op, or of a
    read that returned it. At ``dead`` it is overwritten: reads that start later may not return it.
    """

    __slots__ = ("dead", "taken", "value")

    def __init__(self, value: Value, taken: int = FOREVER, dead: int = FOREVER) -> None:
        self.value = value
        self.taken = taken
        self.dead = dead

    def twin(self) -> "Entry":
        """Return an independent copy."""
        return Entry(self.value, self.taken, self.dead)


def base_entry(seq: int) -> Entry:
    """Return the entry of what the reference holds."""
    base = Value(seq, Holds.BASE, BEFORE)
    base.finish = BEFORE
    return Entry(base, taken=BEFORE)


class Segment:
    """The bytes ``[start, end)`` and the values that they may hold, in the order of submission.

    ``decided`` is the seq of the last read that told values apart which the order of ops does not.
    """

    __slots__ = ("decided", "end", "entries", "start")

    def __init__(self, start: int, end: int, entries: list[Entry]) -> None:
        self.start = start
        self.end = end
        self.entries = entries
        self.decided = NOT_DECIDED

    def split(self, at: int) -> "Segment":
        """Cut the segment at a byte inside of it. Return the second part."""
        second = Segment(at, self.end, [entry.twin() for entry in self.entries])
        second.decided = self.decided
        self.end = at
        return second

    def completed(self, value: Value, event: int) -> None:
        """Note that the op of ``value`` has completed: what had taken effect before it was
        submitted is overwritten."""
        for entry in self.entries:
            if entry.value is value:
                entry.taken = min(entry.taken, event)
            elif not value.loose and entry.dead == FOREVER and entry.taken < value.since:
                entry.dead = event

    def races(self, since: int) -> bool:
        """Whether an op that changes the segment was in flight at or after event ``since``."""
        return any(entry.value.finish > since for entry in self.entries)

    def learn(self, right: list[int], since: int, event: int, seq: int) -> None:
        """Note that a read, submitted at ``since``, has returned the values of the entries with the
        indexes ``right``, which are equal, exactly, and none of which is loose."""
        alive = [index for index, entry in enumerate(self.entries) if entry.dead == FOREVER]
        keep = next((index for index in right if index in alive), None)
        racing = self.races(since)
        after = max(since, min(self.entries[index].value.since for index in right))
        overwritten = [
            index
            for index in alive
            if not self.entries[index].value.loose
            and (
                # equal values that nothing changes any more: one of them is enough
                (not racing and index != keep)
                if index in right
                # what was returned is in effect at a moment of the read and not before its op was
                # submitted: after this one
                else self.entries[index].taken < after
            )
        ]
        # what was returned had overwritten them by the time at which it had surely taken effect
        by = min(event, max(self.entries[index].taken for index in right))
        if len(overwritten) < len(alive):  # two reads at once may see what no order allows
            for index in overwritten:
                self.entries[index].dead = by
                self.decided = seq
        if len(right) == 1 and self.entries[right[0]].taken == FOREVER:
            self.entries[right[0]].taken = event
            self.decided = seq

    def forget(self, oldest: int) -> None:
        """Drop the values that no read can return any more. ``oldest`` is the event of the oldest
        submission of an op that is in flight. The value of an op in flight stays: its completion
        is about this segment too."""
        if any(entry.dead <= oldest for entry in self.entries):
            self.entries = [
                entry
                for entry in self.entries
                if entry.dead > oldest or entry.value.finish == FOREVER
            ]

    @property
    def is_quiet(self) -> bool:
        """Whether no op that changes the segment is in flight, and no read that started before
        such an op was."""
        return all(
            entry.dead == FOREVER and entry.value.finish != FOREVER for entry in self.entries
        )

    def outcome(self) -> "Outcome | None":
        """Return what the segment holds; None if that is not decided yet. It is quiet."""
        loose = [entry.value for entry in self.entries if entry.value.loose]
        if any(value.holds is Holds.ANYTHING for value in loose):
            failed = any(value.failed for value in loose)
            return Outcome(self.start, self.end, None, failed=failed, trimmed=not failed)
        firm = [entry.value for entry in self.entries if not entry.value.loose]
        if all(value.holds is Holds.ZEROES for value in firm):
            del firm[:-1]
        if len(firm) != 1:
            return None
        return Outcome(self.start, self.end, firm[0], trimmed=bool(loose), decided=self.decided)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the bytes ``[start, end)`` hold in the end: ``value``, or anything if it is None.

    ``trimmed``: they may also read as the trim rule says. ``failed``: an op that failed left them
    unknown. ``decided``: the seq of the read that decided, or NOT_DECIDED if the order of ops did.
    """

    start: int
    end: int
    value: Value | None
    failed: bool = False
    trimmed: bool = False
    decided: int = NOT_DECIDED

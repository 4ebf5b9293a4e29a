"""A driver with a known defect, in this process: a candidate is judged in a millisecond."""

from collections.abc import Callable, Sequence
from pathlib import Path

from replay.minimize.lab import Candidate, Lab, Shown
from replay.minimize.program import Program, Step, groups
from tests.kit.faulty.disk import Defect, Disk, Reply, Request
from tracer.op import Kind

DATA = Callable[[Step], bytes]


def shows_defect(folder: Path, defect: Defect, program: Program, data: DATA) -> bool:
    """Whether a disk with the defect holds or returns something wrong, or an effect that is no
    damage was set off."""
    image = folder / "simulated.raw"
    image.write_bytes(bytes(program.size))
    model, known = bytearray(program.size), bytearray(b"\1") * program.size
    fired = _Fired(str(image), defect)
    wrong = False
    for group in groups(program) or [[step] for step in program.steps]:
        requests = [
            Request(step.kind, step.offset, step.length, data(step) if step.fill else b"")
            for step in group
        ]
        try:
            replies = fired.disk.do(requests)
        except IndexError:  # an effect that needs a larger disk
            return False
        if fired.harmless:
            return True
        for step, request, reply in zip(group, requests, replies, strict=True):
            place = slice(step.offset, step.stop)
            if step.kind == Kind.READ:
                wrong = wrong or _differs(reply.data, model[place], known[place])
            elif step.kind in (Kind.WRITE, Kind.ZERO, Kind.TRIM):
                model[place] = request.data or bytes(step.length)
                known[place] = bytes([step.kind != Kind.TRIM]) * step.length
            elif step.kind == Kind.BLOCK_STATUS and any(flags for _, flags in reply.extents):
                at = 0
                for length, flags in reply.extents:
                    wrong = wrong or bool(flags and any(model[at : at + length]))
                    at += length
    wrong = wrong or _differs(fired.disk.get(0, program.size), model, known)
    fired.disk.close()
    return wrong or _differs(image.read_bytes(), model, known)


class _Fired:
    """A disk, and whether an effect was set off that does no damage."""

    def __init__(self, image: str, defect: Defect) -> None:
        self.harmless = False
        on, effect = defect.on, defect.effect

        def noted(disk: Disk, request: Request) -> Reply | None:
            if not defect.damage:
                self.harmless = True
                return None
            return effect(disk, request)

        self.disk = Disk(image, Defect(defect.name, on, noted, 0, defect.damage, defect.shows,
                                       later=defect.later), "")  # fmt: skip


def _differs(found: bytes, model: bytes | bytearray, known: bytes | bytearray) -> bool:
    """Whether bytes that are known are others; an effect may write past the end of a disk."""
    return found[: len(model)] != model and any(
        a != b and k for a, b, k in zip(found, model, known, strict=False)
    )


def lab(shows: Callable[[Candidate], bool], jobs: int = 1) -> Lab:
    """A lab on a predicate."""

    def run(candidates: Sequence[Candidate]) -> list[Shown]:
        return [Shown(shows(one), len(one)) for one in candidates]

    return Lab(run, jobs)

"""Test candidates: write each as a trace, and run it in this process or in others."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from blkbox.executors.pool import Processes, run_all
from blkbox.minimizing.trial import Sought, run
from replay.minimize.lab import Candidate, Shown, Tester
from replay.minimize.part import Part
from replay.minimize.writing import write_program
from tracer.trace.data import TraceWithData
from tracer.trace.payloads import payload_path


@contextmanager
def testing(source: TraceWithData, folder: Path, jobs: int, sought: Sought) -> Iterator[Tester]:
    """Yield a function that tests candidates of ``source``, so many at a time. Their traces are in
    ``folder`` meanwhile."""
    if jobs == 1:

        def here(paths: Sequence[Path]) -> Sequence[Shown]:
            return [run(path, sought) for path in paths]

        yield partial(_test, source, folder, here)
        return
    with Processes[tuple[int, Shown]](jobs) as executor:

        def elsewhere(paths: Sequence[Path]) -> Sequence[Shown]:
            tasks = [
                (_numbered, (number, path, sought), partial(_died, number))
                for number, path in enumerate(paths)
            ]
            results = dict(run_all(executor, tasks))
            return [results[number] for number in range(len(paths))]

        yield partial(_test, source, folder, elsewhere)


def _test(
    source: TraceWithData,
    folder: Path,
    run_traces: Callable[[Sequence[Path]], Sequence[Shown]],
    candidates: Sequence[Candidate],
) -> Sequence[Shown]:
    paths = [folder / f"candidate-{number}.trace" for number in range(len(candidates))]
    try:
        for path, candidate in zip(paths, candidates, strict=True):
            if isinstance(candidate, Part):
                candidate.write(path)
            else:
                write_program(path, candidate, source)
        return run_traces(paths)
    finally:
        for path in paths:
            remove(path)


def remove(trace: Path) -> None:
    """Remove a candidate's trace, with its payload store or the link to one."""
    for path in (trace, payload_path(trace)):
        path.unlink(missing_ok=True)


def _numbered(number: int, path: Path, sought: Sought) -> tuple[int, Shown]:
    return number, run(path, sought)


def _died(number: int, how: str) -> tuple[int, Shown]:
    """What a run comes to whose process ended before it was done: nothing is known of it."""
    return number, Shown(False, undecidable=f"the process that ran it ended: {how}")

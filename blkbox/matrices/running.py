"""The matrix: look at traces and builds, run the cells that have no result yet, keep each."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from msgspec.structs import replace as changed

from blkbox.executors.pool import TICK, Executor, Job, Processes, run_all
from blkbox.matrices import artifacts
from blkbox.matrices.cell import Ran, Task, lost, run
from blkbox.matrices.cluster import Cluster
from blkbox.matrices.fingerprint import fingerprint
from blkbox.matrices.folder import keep, kept, opened, report_name, save
from blkbox.matrices.model import BuildRow, CellRow, Matrix, MatrixOptions, TraceRow
from blkbox.matrices.sources import rows_of
from blkbox.matrices.survey import generated, survey
from replay.generate.profiles import parse_profile
from tracer.disk.private import sweep
from tracer.disk.room import free_room
from tracer.errors import UsageError
from tracer.interrupts import Interrupted
from tracer.progress import Say
from tracer.text import many
from tracer.verdict import BAD, Verdict, VerdictKind

SAVE_EVERY = 5.0
"""Seconds between writes of matrix.json. Cells are kept at once."""

RARELY = 50
"""Times as long as such a write takes that there is until the next one: it takes seconds for a
million cells."""

Result = Ran | TraceRow | BuildRow


def run_matrix(
    options: MatrixOptions, say: Say, watch: Callable[[Matrix], None] = lambda matrix: None
) -> Matrix:
    """Run every trace on every build. Return what was found; the folder has it too.

    ``say`` gets a line for what a user should know. ``watch`` is shown the matrix, a few times a
    second. Raises UsageError if an option is wrong, StorageError if the folder cannot be written. A
    signal ends the matrix: ``interrupted`` has its name.
    """
    rows = rows_of(options)
    profile = parse_profile(options.profile)
    drivers = list(dict.fromkeys(options.drivers))
    if not drivers:
        raise UsageError("there is no driver: give --driver")
    sweep()
    with opened(options.folder), _executor(options) as executor:
        matrix = Matrix(traces=rows, builds=[BuildRow(name=name) for name in drivers],
                        options=dict(options.replay), jobs=options.jobs)  # fmt: skip
        work = _Work(options, matrix, executor, say, watch)
        try:
            builds, found = _surveyed(matrix, executor)
            matrix.builds = builds
            matrix.traces = [
                generated(row, profile, options) if row.seed is not None else found[row.name]
                for row in rows
            ]
            _check(options, matrix, say)
            tasks = [
                Task(trace, build, profile, options.ops, options.size, _replay(options, build))
                for trace in matrix.traces
                for build in matrix.builds
            ]
            work.run(tasks)
        except Interrupted as signal:
            matrix.interrupted = signal.name
            say(f"{signal}: finished cells are kept")
        finally:
            if matrix.cells:
                work.end()
        if matrix.cells:
            artifacts.write(matrix, options.folder)
    return matrix


def _executor(options: MatrixOptions) -> Processes[Result] | Cluster[Result]:
    return Processes(options.jobs) if options.dask is None else Cluster(options.dask)


def _replay(options: MatrixOptions, build: BuildRow) -> dict[str, object]:
    return {**options.replay, "force": True} if build.alone else dict(options.replay)


def _surveyed(
    matrix: Matrix, executor: Executor[Result]
) -> tuple[list[BuildRow], dict[str, TraceRow]]:
    """Look at all builds and all traces that are files. Raises UsageError if a driver is
    unknown."""
    from tracer.progress import bar

    tasks: list[Job[Result]] = [
        (fingerprint, (row.name,), partial(_build_died, row)) for row in matrix.builds
    ]
    tasks += [
        (survey, (row,), partial(_trace_died, row))
        for row in matrix.traces
        if row.where is not None
    ]
    builds: dict[str, BuildRow] = {}
    traces: dict[str, TraceRow] = {}
    with bar("looking at traces and builds", len(tasks), "traces") as progress:
        for result in run_all(executor, tasks):
            progress(1)
            if isinstance(result, BuildRow):
                builds[result.name] = result
            elif isinstance(result, TraceRow):
                traces[result.name] = result
    return [builds[row.name] for row in matrix.builds], traces


def _build_died(row: BuildRow, how: str) -> BuildRow:
    return changed(row, problem=f"the process that looked at it died: {how}")


def _trace_died(row: TraceRow, how: str) -> TraceRow:
    return changed(row, problem=f"the process that looked at it died: {how}")


def _check(options: MatrixOptions, matrix: Matrix, say: Say) -> None:
    """Say what keeps cells from being run, or from being kept. Raises UsageError."""
    for build in matrix.builds:
        if build.alone and not options.force:
            raise UsageError(
                f"--driver {build.name}: its data would be overwritten: give --force to allow that"
            )
        if build.problem:
            say(f"{build.name} cannot be run: {build.problem}")
        elif build.fingerprint is None:
            say(f"{build.name} has no fingerprint: its cells are run every time")
    for trace in matrix.traces:
        if trace.problem:
            say(f"{trace.name} cannot be run: {trace.problem}")


class _Work:
    """The cells of a matrix that runs."""

    def __init__(
        self,
        options: MatrixOptions,
        matrix: Matrix,
        executor: Executor[Result],
        say: Say,
        watch: Callable[[Matrix], None],
    ) -> None:
        self._options = options
        self._matrix = matrix
        self._executor = executor
        self._say = say
        self._watch = watch
        self._started = self._saved = time.monotonic()
        self._every = SAVE_EVERY
        self._cells: defaultdict[str, list[int]] = defaultdict(list)  # by key: where they are
        self._running: dict[str, Task] = {}

    def run(self, tasks: list[Task]) -> None:
        """Run the cells that have no result. Raises StorageError."""
        matrix = self._matrix
        waiting: dict[str, Task] = {}
        for at, task in enumerate(tasks):
            key = task.key
            matrix.cells.append(CellRow(trace=task.trace.name, build=task.build.name, key=key))
            self._cells[key].append(at)
            if not self._has_result(task):
                waiting[key] = task
        done = len({cell.key for cell in matrix.cells if cell.kept})
        if done:
            self._say(f"{many(done, 'cell')} of {len(self._cells):,} are kept from earlier")
        save(self._options.folder, matrix)
        # the longest first: at the end, no process waits long for the last one
        queue = sorted(waiting.values(), key=lambda task: -task.trace.ops)
        while queue or not self._executor.idle:
            while self._executor.has_room and (ready := self._next(queue)) is not None:
                self._running[ready.key] = ready
                self._executor.submit(
                    run, ready, died=partial(lost, ready), seconds=self._options.limit,
                    name=ready.key,
                )  # fmt: skip
            for result in self._executor.wait(TICK):
                assert isinstance(result, Ran)
                self._done(result)
            self._note_time()
            self._watch(matrix)

    def end(self) -> None:
        """Write the matrix. Raises StorageError."""
        self._matrix.seconds = time.monotonic() - self._started
        save(self._options.folder, self._matrix)

    def _has_result(self, task: Task) -> bool:
        """Whether nothing is to be run for a cell: it has a result, or can have none."""
        problem = task.trace.problem or task.build.problem
        if problem:
            self._note(task.key, CellRow(
                trace="", build="", verdict=VerdictKind.UNDECIDABLE, reason=problem))  # fmt: skip
            return True
        if task.build.fingerprint is None:
            return False
        found = kept(self._options.folder, task.key)
        if found is None:
            return False
        verdict, more = found
        seconds = more.get("seconds")
        row = self._row(task.key, verdict, seconds if isinstance(seconds, int | float) else 0.0)
        self._note(task.key, changed(row, kept=True))
        return True

    def _next(self, queue: list[Task]) -> Task | None:
        """Take the next cell from the queue that may run now: its build is free, and there is room.
        A cell that runs alone may run: it sees for itself whether there is room."""
        busy = {task.build.name for task in self._running.values() if task.build.alone}
        room = free_room(Path(tempfile.gettempdir())) if self._options.dask is None else None
        taken = sum(task.room for task in self._running.values())
        for at, task in enumerate(queue):
            if task.build.name in busy:
                continue
            if room is not None and self._running and taken + task.room > room:
                return None
            return queue.pop(at)
        return None

    def _done(self, ran: Ran) -> None:
        """Keep what came of a cell. Raises StorageError."""
        task = self._running.pop(ran.key)
        if task.build.fingerprint is None:
            ran = replace(ran, counts=False)
        keep(self._options.folder, ran)
        row = self._row(ran.key, ran.verdict, ran.seconds)
        if ran.report is None:
            row = changed(row, report=None)
        self._note(ran.key, row)
        if ran.verdict.verdict is VerdictKind.UNDECIDABLE:
            sweep()  # a process that died has left its folder

    def _row(self, key: str, verdict: Verdict, seconds: float) -> CellRow:
        culprit = verdict.culprit
        page = self._options.folder / report_name(key)
        return CellRow(
            trace="", build="", key=key, verdict=verdict.verdict, reason=verdict.reason,
            symptom=verdict.symptom, seconds=round(seconds, 3),
            culprit=None if culprit is None else f"#{culprit.seq} {culprit.kind}",
            damaged=sum(part.sectors for part in verdict.damage),
            report=report_name(key) if verdict.verdict in BAD and page.exists() else None,
        )  # fmt: skip

    def _note(self, key: str, row: CellRow) -> None:
        """Put a result into all cells that it is the result of."""
        begun = self._executor.begun.get(key, 0 if row.kept or not row.seconds else 1)
        for at in self._cells[key]:
            cell = self._matrix.cells[at]
            self._matrix.cells[at] = changed(
                row, trace=cell.trace, build=cell.build, key=key, begun=begun
            )

    def _note_time(self) -> None:
        now = time.monotonic()
        self._matrix.seconds = now - self._started
        if now - self._saved > self._every:
            save(self._options.folder, self._matrix)
            self._saved = time.monotonic()
            self._every = max(SAVE_EVERY, RARELY * (self._saved - now))

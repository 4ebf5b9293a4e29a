"""Traces, payloads and verdicts that say anything: no verb may crash, hang or blame a driver."""

import argparse
import multiprocessing
import os
import random
import resource
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.kit.fuzz import corpus, mutations, verbs

MEMORY = 300 << 20
"""The most memory (bytes) that the verbs on one changed file may take."""

TOP = 5
"""How many mutations are shown: those with the highest peak of memory."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a changed file."""

    number: int
    told: str
    verbs: list[str]
    codes: list[int]
    wrong: list[str]
    seconds: float
    peak: int
    """The most memory (bytes) that the process of this file alone took."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this check."""
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", type=int, default=2, help="verbs tried on each file")
    parser.add_argument("--slow", type=float, default=0.01, help="share that is replayed or served")


def run(options: argparse.Namespace) -> None:
    """Run the check. Fails after all mutations if any was not handled."""
    started = time.monotonic()
    verbs_tried: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    failures = 0
    peaks: list[tuple[int, int, str]] = []
    slowest = 0.0
    base = peak()
    # a process for each file, forked from one that has done nothing: a peak is of this file alone
    with (
        tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as name,
        multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool,
    ):
        good = Path(name) / "good"
        good.mkdir()
        pool.apply(corpus.make, (good,))
        numbers = range(options.seed, options.seed + options.mutations)
        for tried in pool.imap(partial(_try, Path(name), options), numbers):
            verbs_tried.update(tried.verbs)
            codes.update(tried.codes)
            failures += len(tried.wrong)
            slowest = max(slowest, tried.seconds)
            what = f"seed {tried.number} ({', '.join(tried.verbs)}; {tried.told})"
            peaks = sorted([*peaks, (tried.peak, tried.number, what)], reverse=True)[:TOP]
            for problem in tried.wrong:
                print(f"FAILED {what}\n{problem}", flush=True)
            if tried.number % 500 == 499:
                print(f"{tried.number + 1:,}: {failures} failures, {sum(verbs_tried.values()):,} "
                      f"runs, highest peak {peaks[0][0] >> 20} MiB, slowest {slowest:.1f} s, "
                      f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    ends = ", ".join(f"{count:,} with {int(code)}" for code, count in sorted(codes.items()))
    for most, _, what in peaks:
        print(f"peak {most >> 20} MiB: {what}")
    print(f"traces: {options.mutations:,} mutations, {sum(verbs_tried.values()):,} runs of "
          f"{len(verbs_tried)} verbs, {failures} failures; runs ended {ends}; "
          f"slowest {slowest:.1f} s; peak memory {base >> 20} MiB before, {peaks[0][0] >> 20} MiB "
          "at most")  # fmt: skip
    assert not failures
    assert peaks[0][0] < MEMORY, f"{peaks[0][0] >> 20} MiB"


def _try(folder: Path, options: argparse.Namespace, number: int) -> Tried:
    """Change a file and run verbs on it."""
    chance = random.Random(number)
    work = folder / "work"
    which = corpus.copy(folder / "good", work, chance)
    os.chdir(work)
    suffix, told = mutations.mutate(work, which, chance)
    started = time.monotonic()
    ended: list[verbs.Ended] = []
    try:
        ended = verbs.attack(which, suffix, chance, options.verbs, options.slow)
        wrong = [f"{e.verb}: {e.wrong()}: {e.err[-2000:]}" for e in ended if e.wrong()]
        odd = verbs.disagreement(work / f"{which}.trace")
        wrong += [f"readers: {odd}"] if odd else []
    except Exception:  # noqa: BLE001  what comes out is what is looked for
        wrong = [traceback.format_exc()]
    return Tried(
        number, told, [e.verb for e in ended], [int(e.code) for e in ended], wrong,
        time.monotonic() - started, peak(),
    )  # fmt: skip


def peak() -> int:
    """Return the most memory (bytes) that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

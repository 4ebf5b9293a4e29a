"""Traces, payloads and verdicts that say anything: no verb may crash, hang or blame a driver."""

import argparse
import os
import random
import resource
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.kit.fuzz import corpus, mutations, verbs

MEMORY = 400 << 20
"""The most memory (bytes) that this process may take. All verbs run in it, so that the libraries of
all are loaded; alone, each verb stays under 300 MiB (tests/tracer/trace/test_memory.py)."""

GROWTH = 32 << 20
"""Bytes by which the peak grows before the seed is shown that made it grow."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this check."""
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", type=int, default=2, help="verbs tried on each file")
    parser.add_argument("--slow", type=float, default=0.01, help="share that is replayed or served")


def run(options: argparse.Namespace) -> None:
    """Run the check. Fails after all mutations if any was not handled."""
    tried: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    failures: list[str] = []
    slowest = 0.0, ""
    base = most = peak()
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as name:
        folder = Path(name)
        good, work = folder / "good", folder / "work"
        good.mkdir()
        corpus.make(good)
        for number in range(options.seed, options.seed + options.mutations):
            chance = random.Random(number)
            which = corpus.copy(good, work, chance)
            os.chdir(work)
            suffix, told = mutations.mutate(work, which, chance)
            started = time.monotonic()
            try:
                ended = verbs.attack(which, suffix, chance, options.verbs, options.slow)
                wrong = [f"{e.verb}: {e.wrong()}: {e.err[-2000:]}" for e in ended if e.wrong()]
                odd = verbs.disagreement(work / f"{which}.trace")
                wrong += [f"readers: {odd}"] if odd else []
                tried.update(e.verb for e in ended)
                codes.update(e.code for e in ended)
            except Exception:  # noqa: BLE001  what comes out is what is looked for
                wrong = [traceback.format_exc()]
            if peak() > most + GROWTH:
                most = peak()
                print(f"peak memory {most >> 20} MiB from seed {number} on ({told})", flush=True)
            slowest = max(slowest, (time.monotonic() - started, f"{number} ({told})"))
            for problem in wrong:
                failures.append(problem)
                print(f"FAILED seed {number}: {told}\n{problem}", flush=True)
            if number % 1000 == 999:
                print(f"{number + 1:,}: {len(failures)} failures, peak {peak() >> 20} MiB, "
                      f"slowest {slowest[0]:.1f} s at {slowest[1]}", flush=True)  # fmt: skip
        os.chdir("/")
    ends = ", ".join(f"{count:,} with {int(code)}" for code, count in sorted(codes.items()))
    print(f"traces: {options.mutations:,} mutations, {sum(tried.values()):,} runs of "
          f"{len(tried)} verbs, {len(failures)} failures; runs ended {ends}; "
          f"slowest {slowest[0]:.1f} s; peak memory {base >> 20} MiB before, {peak() >> 20} MiB "
          "after")  # fmt: skip
    assert not failures
    assert peak() < MEMORY, f"{peak() >> 20} MiB"


def peak() -> int:
    """Return the most memory (bytes) that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

"""Traces, payloads and verdicts changed at random, in every verb that reads them. A small part of
``python -m benchmarks.soak traces``, with the same seeds."""

import random
import shutil
from pathlib import Path

import pytest

from tests.kit.fuzz import corpus, mutations, verbs
from tracer.errors import Exit

pytestmark = pytest.mark.slow

PARTS, EACH = 8, 40


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    corpus.make(folder)
    return folder


def test_unchanged_files_are_taken(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the other tests would change what is refused anyway."""
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    for name in ("full.trace", "full.payloads", "full.json"):
        shutil.copy(tmp_path / name, tmp_path / name.replace("full", "good"))
    monkeypatch.chdir(tmp_path)
    for verb, words in {**verbs.TRACE_VERBS, **verbs.SLOW_VERBS}.items():
        ended = verbs.run(verb, ["full.trace" if word == "T" else word for word in words])
        assert ended.wrong() is None, ended
        refused = {"mark": Exit.USAGE, "dm-log-writes": Exit.CLEAN}.get(verb, Exit.CLEAN)
        assert ended.code == refused, ended
    for verb, words in verbs.VERDICT_VERBS.items():
        ended = verbs.run(verb, ["full.json" if word == "V" else word for word in words])
        assert ended.code == Exit.CLEAN, ended


@pytest.mark.parametrize("part", range(PARTS))
def test_changed_files_do_no_harm(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    for seed in range(part * EACH, (part + 1) * EACH):
        chance = random.Random(seed)
        work = tmp_path / str(seed)
        which = corpus.copy(good, work, chance)
        monkeypatch.chdir(work)
        suffix, told = mutations.mutate(work, which, chance)
        for ended in verbs.attack(which, suffix, chance, many=2, slow=0.01):
            assert ended.wrong() is None, f"{seed}: {told}: {ended}"
        odd = verbs.disagreement(work / f"{which}.trace")
        assert odd is None, f"{seed}: {told}: {odd}"

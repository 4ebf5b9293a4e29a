"""``git bisect run trace replay`` on a repository whose every commit is a build of a driver, with
the commands of docs/bisect.md."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit import mounts
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.peers import need
from tests.kit.project import BAD, NO_BUILD, Commit, git, project, shell, with_trace
from tracer.errors import Exit

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parent.parent / "docs" / "bisect.md"
BISECT, LOOK = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
RUN = BISECT.removesuffix("git bisect reset\n")

HISTORY = [
    Commit(),
    Commit(),
    Commit(),
    Commit(),
    Commit(NO_BUILD),  # in the middle: git comes here first
    Commit(),
    Commit(BAD),
    Commit(BAD),
    Commit(BAD),
]
FIRST_BAD = 6


@dataclass(frozen=True)
class Bisection:
    """A repository, and where a script finds ``trace``."""

    driver: Path
    hashes: list[str]
    path: str

    def run(self, script: str, expect: int = 0, **environment: str) -> str:
        """Run commands of the page between the last commit and the first; return what they
        print."""
        for word, name in (("BAD", self.hashes[-1]), ("GOOD", self.hashes[0])):
            script = re.sub(rf"\b{word}\b", name, script)
        done = shell(script, self.driver, PATH=self.path, **environment)
        assert done.returncode == expect, done.stdout
        return done.stdout

    def log(self, word: str) -> set[int]:
        """The numbers of the commits that the bisection took for "good", "bad" or "skip"."""
        lines = git(self.driver, "bisect", "log").splitlines()
        named = [line.split("[")[1][:40] for line in lines if line.startswith(f"# {word}: ")]
        return {self.hashes.index(name) for name in named}


def prepare(folder: Path, commits: list[Commit]) -> Bisection:
    need("git", "make", "python3", "nbdkit", "qemu-img")
    make_trace(folder / "work.trace", WORKLOAD)
    hashes = project(folder / "driver", commits)
    return Bisection(folder / "driver", hashes, with_trace(folder / "bin", sys.executable))


def test_the_commit_is_found_and_those_that_do_not_build_or_start_are_skipped(
    tmp_path: Path,
) -> None:
    bisection = prepare(tmp_path, HISTORY)
    said = bisection.run(RUN)
    assert f"{bisection.hashes[FIRST_BAD]} is the first bad commit" in said
    assert FIRST_BAD in bisection.log("bad")
    assert FIRST_BAD - 1 in bisection.log("good")
    assert bisection.log("skip") == {4}
    assert not git(bisection.driver, "status", "--porcelain")
    said = bisection.run(
        LOOK.replace("COMMIT", bisection.hashes[FIRST_BAD]), expect=Exit.BAD_DRIVER
    )
    assert "culprit:  #0 write" in said
    assert (tmp_path / "broken.html").is_file()


def test_a_driver_that_does_not_start_is_skipped(tmp_path: Path) -> None:
    no_start = Commit(then="rm build/plugin.py")
    bisection = prepare(tmp_path, [Commit(), Commit(), no_start, Commit(BAD), Commit(BAD)])
    said = bisection.run(RUN, expect=2)  # git cannot tell which of two it is
    assert "There are only 'skip'ped commits left to test" in said
    assert bisection.log("skip") == {2}
    assert {name in said for name in bisection.hashes[2:4]} == {True}


def test_a_damaged_trace_stops_the_bisection(tmp_path: Path) -> None:
    bisection = prepare(tmp_path, [Commit(), Commit(), Commit(BAD)])
    payloads = tmp_path / "work.payloads"
    payloads.write_bytes(payloads.read_bytes()[:1000])
    said = bisection.run(RUN, expect=stopped(Exit.BAD_TRACE))
    assert f"exit code {Exit.BAD_TRACE} from" in said
    assert "the payload at 0 is missing" in said
    assert (bisection.log("good"), bisection.log("bad")) == ({0}, {2})


def test_a_full_disk_stops_the_bisection_and_it_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """The build of one commit fills the file system that the replay's images go to."""
    fill = Commit(then='test -e ../room || dd if=/dev/zero of="$$TMPDIR/objects" bs=64k count=508')
    with mounts.small(32 << 10) as small:
        bisection = prepare(tmp_path, [Commit(), Commit(), fill, Commit(BAD), Commit(BAD)])
        said = bisection.run(RUN, expect=stopped(Exit.STORAGE), TMPDIR=str(small))
        assert f"exit code {Exit.STORAGE} from" in said
        assert "No space left on device" in said
        assert (bisection.log("good"), bisection.log("bad")) == ({0}, {4})

        (small / "objects").unlink()
        (tmp_path / "room").touch()
        again = RUN.removeprefix("git bisect start BAD GOOD\n")
        said = bisection.run(again, TMPDIR=str(small))
        assert f"{bisection.hashes[3]} is the first bad commit" in said


def stopped(code: Exit) -> int:
    """The exit code of git where it stops because of one of ours: as git returns it negated."""
    return 256 - code

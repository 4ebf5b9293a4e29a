"""What a program prints is kept in bounded memory, and never stops the program."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.system import PATIENCE, descriptors, wait_until
from tracer.driver.output import HEAD, TAIL, Output


@pytest.fixture
def output() -> Iterator[Output]:
    with Output() as output:
        yield output


def run(output: Output, *argv: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, stdout=output.writer, stderr=output.writer)
    output.started()
    return process


def printed(output: Output, *argv: str) -> str:
    """What a program printed, once it has ended."""
    assert run(output, *argv).wait(PATIENCE) == 0
    return output.text()


@pytest.mark.parametrize("count", [0, 1, HEAD, HEAD + 1, TAIL + 1, HEAD + TAIL])
def test_short_output_is_kept(output: Output, count: int) -> None:
    text = "".join(chr(ord("a") + index % 26) for index in range(count))
    assert printed(output, "printf", "%s", text) == text


def test_of_long_output_the_beginning_and_the_end_are_kept(output: Output) -> None:
    lines = printed(output, "seq", "100000").splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("..."))
    assert lines[:at] == [str(number) for number in range(1, at + 1)]
    assert lines[at + 1 :] == [
        str(number) for number in range(100001 - len(lines[at + 1 :]), 100001)
    ]
    whole = sum(len(str(number)) + 1 for number in range(1, 100001))
    kept = sum(len(line) + 1 for index, line in enumerate(lines) if index != at)
    assert lines[at] == f"... ({whole - kept:,} bytes left out)"
    assert HEAD + TAIL - 20 < kept <= HEAD + TAIL


def test_output_without_lines(output: Output) -> None:
    text = printed(output, "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x")
    assert (
        text == "x" * HEAD + f"\n... ({100000 - HEAD - TAIL - 1:,} bytes left out)\n" + "x" * TAIL
    )


def test_a_program_that_prints_much_never_waits(output: Output) -> None:
    process = run(output, "sh", "-c", "head -c 50000000 /dev/zero >&2; echo done")
    assert process.wait(PATIENCE) == 0  # though nobody asks for its output
    assert output.text().endswith("\0done\n")


def test_what_stays_in_the_background_holds_nothing_up() -> None:
    before = descriptors().keys(), threading.active_count()
    with Output() as output:
        process = run(output, "sh", "-c", "echo early; sleep 1000 & echo $!")
        assert process.wait(PATIENCE) == 0
        word, pid = output.text().split()
    assert word == "early"
    subprocess.run(["kill", pid], check=True)
    wait_until(lambda: (descriptors().keys(), threading.active_count()) == before)


def test_the_text_outlives_the_pipe() -> None:
    with Output() as output:
        process = run(output, "echo", "last words")
        assert process.wait(PATIENCE) == 0
    output.close()
    assert output.text() == "last words\n"


def test_bytes_that_are_no_text(output: Output) -> None:
    assert printed(output, "printf", "a\\377b") == "a�b"


@pytest.mark.parametrize("command", ["create", "check"])
def test_a_command_that_prints_without_end_takes_no_memory(tmp_path: Path, command: str) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tracer.driver.driver import Driver\n"
        "from tracer.errors import DriverError\n"
        "flood = ('sh', '-c', 'head -c 400000000 /dev/zero >&2; echo the end; exit 3')\n"
        "image = Path(sys.argv[1]) / 'image'\n"
        "try:\n"
        "    if sys.argv[2] == 'create':\n"
        "        Driver('noisy', create=flood).create_image(image, 4096)\n"
        "    image.touch()\n"
        "    print(Driver('noisy', check=flood).check_image(image))\n"
        "except DriverError as error:\n"
        "    print(error.log)\n"
        # not ru_maxrss: that counts what the process was a copy of, before it was a program
        "status = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in status if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), command],
        capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    said, peak = done.stdout.rsplit("\n", 2)[:2]
    assert said.rstrip().endswith("the end")
    assert int(peak) < 100 << 10  # KiB

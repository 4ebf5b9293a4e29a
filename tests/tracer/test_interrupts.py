"""Signals as an exception."""

import os
import signal
from collections.abc import Iterator

import pytest

from tracer import interrupts
from tracer.interrupts import ENDING, Interrupted


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_raises_and_later_ones_do_not(number: signal.Signals) -> None:
    interrupts.install()
    with pytest.raises(Interrupted) as found:
        os.kill(os.getpid(), number)
    assert found.value.exit_code == 128 + number
    assert str(found.value) == f"interrupted by {number.name}"
    for other in ENDING:
        os.kill(os.getpid(), other)


def test_a_signal_waits_until_what_must_not_be_separated_is_done() -> None:
    interrupts.install()
    done = []

    def work() -> None:
        with interrupts.held():
            with interrupts.held():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("after")

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()
    assert done == ["inner", "outer"]
    with interrupts.held():  # nothing waits any more
        pass


def test_a_signal_that_waits_comes_after_a_failure_too() -> None:
    interrupts.install()

    def fails() -> None:
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGINT)
            raise OSError

    with pytest.raises(Interrupted):
        fails()


def test_what_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.install()
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(Interrupted, match="SIGINT"):
        os.kill(os.getpid(), signal.SIGINT)


def test_once_the_exit_code_is_settled_nothing_raises() -> None:
    interrupts.install()
    interrupts.ignore()
    for number in ENDING:
        os.kill(os.getpid(), number)

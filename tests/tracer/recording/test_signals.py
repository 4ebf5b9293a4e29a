"""Signals on their way to the guest."""

import os
import signal

import pytest

from tracer.disk.loop import Loop
from tracer.interrupts import ENDING
from tracer.recording.signals import Signals


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_comes_before_the_guest_reaches_it(number: int) -> None:
    passed_on: list[int] = []
    with Loop() as loop, Signals(loop) as signals:
        os.kill(os.getpid(), number)
        signals.forward_to(passed_on.append)
        assert passed_on == [number]
        assert signals.received == number


def test_a_later_signal_is_passed_on_once() -> None:
    passed_on: list[int] = []
    with Loop() as loop, Signals(loop) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        signals.forward_to(passed_on.append)
        os.kill(os.getpid(), signal.SIGTERM)
        assert passed_on == [signal.SIGHUP, signal.SIGTERM]
        assert signals.received == signal.SIGTERM


def test_the_handlers_from_before_come_back() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with Loop() as loop, Signals(loop):
        assert [signal.getsignal(number) for number in ENDING] != before
    assert [signal.getsignal(number) for number in ENDING] == before

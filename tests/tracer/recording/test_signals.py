"""Signals on their way to the guest."""

import os
import signal

import pytest

from tracer.disk.loop import Loop
from tracer.interrupts import ENDING, Interrupted
from tracer.recording import signals as module
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


def test_signals_in_a_burst_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with Loop() as loop, Signals(loop) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        signals.forget()
        with signals.interrupting():  # timeout(1) sends it to the process, then to its group
            now += module.BURST * 0.9
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received is None
        now += module.BURST * 0.2
        with pytest.raises(Interrupted, match="SIGTERM"), signals.interrupting():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM


def test_a_signal_that_is_there_already_interrupts_at_once() -> None:
    reached = False
    with Loop() as loop, Signals(loop) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted), signals.interrupting():
            reached = True
        assert not reached
        signals.forget()
        with signals.interrupting():
            reached = True
    assert reached

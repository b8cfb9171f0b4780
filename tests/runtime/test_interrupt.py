"""Signals that must not break something off, and calls that must be broken off."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from lfm_runtime.interrupt import InterruptFlag, signals_held_back


def test_no_signal_raises_where_none_must() -> None:
    with InterruptFlag(second_raises=False) as flag:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert flag.name == "SIGINT"
        assert flag.watches
    assert not flag.watches


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize(
    ("number", "second_raises"),
    [(number, False) for number in ENDING] + [(number, True) for number in ENDING[:3]],
)
def test_a_signal_that_ends_a_process_is_remembered(
    number: signal.Signals, second_raises: bool
) -> None:
    before = [signal.getsignal(one) for one in ENDING]
    with InterruptFlag(second_raises=second_raises) as flag:
        assert not flag
        os.kill(os.getpid(), number)
        assert flag
        assert flag.name == number.name
    assert [signal.getsignal(one) for one in ENDING] == before


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError), InterruptFlag():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        raise RuntimeError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_does_not_wait() -> None:
    with InterruptFlag() as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_changes_nothing() -> None:
    # A launcher and a terminal may both send one; the checkpoint must still be written.
    with InterruptFlag() as flag:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert flag.name == "SIGTERM"


def test_works_outside_the_main_thread_without_signals() -> None:
    # Python installs signal handlers only in the main thread; training in another one is fine.
    found: list[object] = []

    def use() -> None:
        try:
            with InterruptFlag() as flag:
                found.append(bool(flag))
        except Exception as error:
            found.append(error)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_nohup_lets_live_lives() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with InterruptFlag(second_raises=False) as flag:
            os.kill(os.getpid(), signal.SIGHUP)
            assert flag.name is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_people_who_do_not_want_to_wait_have_ctrl_backslash_too() -> None:
    before = signal.getsignal(signal.SIGQUIT)
    with InterruptFlag():
        assert signal.getsignal(signal.SIGQUIT) == before


def test_signals_come_when_the_block_is_over() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), signals_held_back():
        os.kill(os.getpid(), signal.SIGINT)
        done.append(1)
    assert done == [1]
    with signals_held_back():
        done.append(2)
    assert done == [1, 2]


class Enough(BaseException):
    pass


def test_the_main_thread_is_interrupted_while_it_waits() -> None:
    with InterruptFlag() as flag:
        threading.Timer(0.1, flag.interrupt_main_thread, [Enough]).start()
        with pytest.raises(Enough):
            threading.Lock().acquire() and threading.Event().wait(60)
        assert not flag


def test_nothing_is_raised_where_it_is_too_late() -> None:
    asked = threading.Event()

    def too_late() -> None:
        asked.set()

    with InterruptFlag() as flag:
        threading.Timer(0.05, flag.interrupt_main_thread, [too_late]).start()
        assert asked.wait(60)
        assert not flag
        os.kill(os.getpid(), signal.SIGINT)  # and a signal is a signal again
        assert flag.name == "SIGINT"
    flag.interrupt_main_thread(Enough)  # no handler is there any more

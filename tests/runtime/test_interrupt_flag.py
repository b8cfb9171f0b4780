from __future__ import annotations

import os
import signal
import threading

import pytest

from lfm_runtime.interrupt import InterruptFlag


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_remembered(number: signal.Signals) -> None:
    with InterruptFlag() as flag:
        assert not flag
        os.kill(os.getpid(), number)
        assert flag
        assert flag.name == number.name


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

"""The progress display, and how it is interrupted."""

import os
import signal

import pytest

from kdedge.progress import progress


@pytest.fixture(autouse=True)
def _interrupts_arrive() -> None:
    """A shell's background jobs begin with interrupts ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_for_the_item_at_work() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), progress("working", 3, "items") as advance:
        for item in range(3):
            interrupt()
            done.append(item)
            advance(1)
    assert done == [0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), progress("working", 3, "items"):
        interrupt()
        interrupt()
        pytest.fail("the item went on")


def test_an_interrupt_of_the_last_item_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), progress("working", 1, "items"):
        interrupt()


def test_an_error_is_not_hidden_by_an_interrupt() -> None:
    with pytest.raises(ValueError, match="broken"), progress("working", 1, "items"):
        interrupt()
        raise ValueError("broken")


def test_a_handler_of_ones_own_stays() -> None:
    heard = []
    own = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with progress("working", 1, "items") as advance:
            interrupt()
            advance(1)
    finally:
        signal.signal(signal.SIGINT, own)
    assert heard == [1]


def test_lines_tell_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("labelling", 4, "texts", done=1) as advance:
        advance(3, "nearly")
    line = capsys.readouterr().err
    assert line.startswith("labelling: 4/4, ") and line.endswith("0 s left, nearly\n")

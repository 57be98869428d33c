"""Shows progress with rate and time left: as a bar in a terminal, otherwise as lines."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)

SECONDS_BETWEEN_LINES = 15.0


class Advance(Protocol):
    """Called with the number of items just done and an optional note."""

    def __call__(self, count: int, /, note: str = "") -> None:
        """Count items as done."""


@contextmanager
def progress(task: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show the progress of `task`. Ctrl-C stops it after the current item, a second one at once.

    Args:
        task: what is being done, in a word or two.
        total: number of items.
        unit: name of the items, for the rate ("texts" gives "312 texts/s").
        done: items that an earlier run finished; they don't count for the rate.
    """
    with _shown(task, total, unit, done) as advance, _interrupted_between_items() as check:

        def advance_and_check(count: int, /, note: str = "") -> None:
            advance(count, note)
            check()

        yield advance_and_check


@contextmanager
def _interrupted_between_items() -> Iterator[Callable[[], None]]:
    """Delay an interrupt until the yielded function is called, or the block ends.

    An interrupt can crash the process while TensorFlow builds a graph.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or not _in_main_thread():
        yield lambda: None
        return
    waiting = False

    def hold(*_: object) -> None:
        nonlocal waiting
        if waiting:
            raise KeyboardInterrupt
        waiting = True

    def check() -> None:
        if waiting:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hold)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, usual)
    check()


def _in_main_thread() -> bool:
    # Only the main thread can handle signals.
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _shown(task: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    start, done_now = time.monotonic(), 0

    def rate() -> str:
        a_second = done_now / max(time.monotonic() - start, 1e-9)
        return f"{a_second:.0f} {unit}/s" if a_second >= 10 else f"{a_second:.2g} {unit}/s"

    if console.is_terminal:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        with bar:
            row = bar.add_task(task, total=total, completed=done, rate="", note="")

            def advance_bar(count: int, /, note: str = "") -> None:
                nonlocal done_now
                done_now += count
                bar.update(row, advance=count, rate=rate(), note=note)

            yield advance_bar
        return

    last = start

    def advance_line(count: int, /, note: str = "") -> None:
        nonlocal done_now, last
        done_now += count
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES and done + done_now < total:
            return
        last = now
        left = (now - start) / done_now * (total - done - done_now) if done_now else float("nan")
        line = f"{task}: {done + done_now}/{total}, {rate()}, {left:.0f} s left"
        print(f"{line}, {note}" if note else line, file=sys.stderr, flush=True)

    yield advance_line

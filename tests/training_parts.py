"""Watches trainings, and stops them as a kill would."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import kdedge.training.resumable as resumable
from kdedge.progress import Advance


class Stop(BaseException):
    """Ends a training like a kill: nothing catches it."""


def watch_steps(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """The notes that trainings show after each step from now on, in a list that grows.

    The step with number `stop_at`, counted from 1, is the last one: it ends in `Stop`.
    """
    notes: list[str] = []
    shown = resumable.progress

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Advance]:
        with shown(*arguments) as advance:

            def advance_and_stop(count: int, /, note: str = "") -> None:
                notes.append(note)
                if len(notes) == stop_at:
                    raise Stop
                advance(count, note)

            yield advance_and_stop

    monkeypatch.setattr(resumable, "progress", watched)
    return notes

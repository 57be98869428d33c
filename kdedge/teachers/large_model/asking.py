"""Sends several requests at a time to a server, and stores each answer as a line of a file."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from kdedge.errors import KdedgeError
from kdedge.progress import progress
from kdedge.teachers.large_model.server import Server

Q = TypeVar("Q")
A = TypeVar("A")


def ask_all(
    server: Server,
    questions: Sequence[Q],
    ask: Callable[[Q], A],
    keep: Callable[[Q, A], None],
    what: str,
) -> str | None:
    """Ask all questions in order, and return the limit that stopped the run, if one did.

    Args:
        server: the server, with its limits.
        questions: the questions.
        ask: asks one question; called in several threads.
        keep: stores an answer; called in this thread.
        what: name of the work, for the progress bar.

    Raises:
        KdedgeError: as `ask` or `keep`; the answers of running requests are stored first.
    """
    settings, stopped = server.settings, None
    pending: dict[Future[A], Q] = {}

    def collect() -> int:
        """Wait for answers, store them, and return their number."""
        done = wait(pending, return_when=FIRST_COMPLETED).done
        for future in done:
            question = pending.pop(future)
            try:
                answer = future.result()
            except KdedgeError as error:
                raise KdedgeError(f"{error} The same command continues.") from None
            keep(question, answer)
        return len(done)

    with (
        ThreadPoolExecutor(settings.concurrency) as pool,
        progress(what, len(questions), "answers") as advance,
    ):
        try:
            for question in questions:
                if stopped := server.spent.exceeds(settings):
                    break
                pending[pool.submit(ask, question)] = question
                if len(pending) >= settings.concurrency:
                    advance(collect(), server.spent.line(settings))
            while pending:
                advance(collect(), server.spent.line(settings))
        finally:
            # Running requests are paid for.
            while pending:
                with suppress(KdedgeError):
                    collect()
    return stopped


def read_answers(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the position of each line of a file, for messages, and its JSON; {} if it is not JSON.

    An incomplete last line, which a killed run leaves, is removed.
    """
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            yield f"{path}, line {number}", json.loads(line)
        except (ValueError, RecursionError):
            yield f"{path}, line {number}", {}


def add_answer(path: Path, line: dict[str, Any]) -> None:
    """Add an answer to a file."""
    with path.open("ab") as file:
        file.write(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")

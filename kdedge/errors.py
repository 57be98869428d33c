"""The error for everything that a user can fix, and how programs print it."""

import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class KdedgeError(Exception):
    """An error that the user can fix; the message says what was given, what is allowed, what to do.

    The command line prints it as one line and exits with status 2. Any other exception is a bug in
    kdedge.

        >>> from kdedge import load_corpus
        >>> try:
        ...     load_corpus("missing.csv")
        ... except KdedgeError as error:
        ...     print(error)
        missing.csv: no such file.
    """


def listed(names: Iterable[str]) -> str:
    """Names for messages, shortened, and quoted if they have invisible characters."""
    visible = (n if n == n.strip() and n.isprintable() and n else repr(n) for n in names)
    return ", ".join(name if len(name) <= 60 else f"{name[:59]}…" for name in visible) or "none"


def need_at_least(least: int, **given: int) -> None:
    """Check numbers by the names of their arguments.

    Raises:
        KdedgeError: one is below `least`.
    """
    for name, number in given.items():
        if number < least:
            raise KdedgeError(f"{name}: {number}; at least {least} is needed.")


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """Print errors that the user can fix as one line, and exit with status 2. Also a decorator."""
    try:
        yield
    except KdedgeError as error:
        _exit(2, f"error: {error}")
    except OSError as error:
        # A full disk, a read-only folder: the user can fix these too.
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _exit(2, f"error: {where}{error.strerror}")
    except KeyboardInterrupt:
        _exit(130, "interrupted; run, teach, label, distill and bench continue where they stopped")


def _exit(status: int, line: str) -> None:
    print(line, file=sys.stderr)
    raise SystemExit(status) from None

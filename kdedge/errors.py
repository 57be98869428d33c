"""The one error that users see, and how programs show it."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class KdedgeError(Exception):
    """Something the user can mend: says what was given, what is allowed and how to go on.

    The command line prints it as one line and exits with status 2; anything else that is raised
    is a defect of kdedge.
    """


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """Print what a user can mend as one line, and exit with status 2. Also decorates a program."""
    try:
        yield
    except KdedgeError as error:
        _exit(2, f"error: {error}")
    except OSError as error:
        # A full disk, a folder that can't be written: what a user can mend as well.
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _exit(2, f"error: {where}{error.strerror}")
    except KeyboardInterrupt:
        _exit(130, "interrupted; the same command goes on with what was done")


def _exit(status: int, line: str) -> None:
    print(line, file=sys.stderr)
    raise SystemExit(status) from None

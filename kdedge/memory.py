"""The C library's memory."""

import ctypes

# malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
# The largest heap of a thread: with as much left over none is given back.
MOST_OF_A_HEAP = 64 << 20


def keep_freed_memory() -> None:
    """Have glibc keep what this process frees from now on, for its next allocations.

    A step of a training takes and frees many blocks of megabytes. glibc gives each back to the
    system, which fills the next one with zeros anew; that can take more than half of the step's
    time, and is worth 100 MB. See mallopt(3). Where the C library is another, nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    for option, value in (
        (M_MMAP_THRESHOLD, 32 << 20),
        (M_TRIM_THRESHOLD, 2**31 - 1),
        (M_TOP_PAD, MOST_OF_A_HEAP),
    ):
        mallopt(option, value)

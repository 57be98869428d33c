"""Settings of the C library's memory allocator."""

import ctypes

# malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
# The largest heap of a thread. With this much padding no memory is given back.
MOST_OF_A_HEAP = 64 << 20


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for later allocations instead of returning it to the system.

    A training step allocates and frees many blocks of megabytes. By default glibc returns each to
    the system, which must fill the next one with zeros. That can take more than half of the step's
    time; keeping the memory costs about 100 MB. See mallopt(3). Other C libraries are left alone.
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

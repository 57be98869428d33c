"""Freed memory stays with the process, so that it is used again."""

import platform
import subprocess
import sys

import pytest

# What glibc says of 10 blocks of a megabyte: how many it asked the system for one by one, and by
# how many bytes it holds more after they are freed.
PROGRAM = """
import ctypes, sys, threading
import tensorflow as tf
from kdedge.memory import keep_freed_memory

# malloc.h
NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo

def numbers():
    if sys.argv[1] == "keep":
        keep_freed_memory()
    yield 1

def work():
    before = mallinfo()
    blocks = [bytearray(1 << 20) for _ in range(10)]
    mapped = mallinfo().hblks - before.hblks
    del blocks
    after = mallinfo()
    print(mapped, after.arena + after.hblkhd - before.arena - before.hblkhd)

# As in trainings; TensorFlow's setting is the opposite.
list(tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int32)))
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_kept() -> None:
    (keep_mapped, kept), (mapped, default) = (
        map(int, subprocess.check_output([sys.executable, "-c", PROGRAM, mode]).split())
        for mode in ("keep", "default")
    )
    assert (keep_mapped, mapped) == (0, 10)
    assert default < 1 << 20 < 9 << 20 <= kept

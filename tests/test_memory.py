"""What is freed stays with the process."""

import subprocess
import sys

import pytest

# Page faults of a thread that takes and frees the same 10 blocks of a megabyte, 50 times.
PROGRAM = """
import resource, sys, threading
import tensorflow as tf
from kdedge.memory import keep_freed_memory

def numbers():
    if sys.argv[1] == "keep":
        keep_freed_memory()
    yield 1

def work():
    for _ in range(50):
        blocks = [bytearray(1 << 20) for _ in range(10)]
        del blocks

# As trainings do, and TensorFlow asks for the contrary.
list(tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int32)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_are_taken_once() -> None:
    keeping, default = (
        int(subprocess.check_output([sys.executable, "-c", PROGRAM, mode]))
        for mode in ("keep", "default")
    )
    # 10 MB are 2,560 pages.
    assert 2560 <= keeping < 2 * 2560 < 10 * 2560 < default

"""The numbers that a teacher computes with while it is fine-tuned."""

import tensorflow as tf

from kdedge import engines

# Of /proc/cpuinfo: processors that multiply matrices of bfloat16 faster than those of float32.
BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def fast_dtype() -> str:
    """The policy of Keras with which this machine fine-tunes fastest.

    In mixed bfloat16 weights and logits stay float32, and teachers were as accurate. Labels are
    made in float32: what is exported is compared with them, and bfloat16 moves logits by 0.02.
    """
    if tf.config.list_physical_devices("GPU"):
        return "mixed_bfloat16"
    return dtype_for(engines.cpuinfo())


def dtype_for(cpuinfo: str) -> str:
    """What a CPU computes fastest with.

    >>> dtype_for("flags : avx512f avx512_bf16"), dtype_for("flags : avx2")
    ('mixed_bfloat16', 'float32')

    Args:
        cpuinfo: contents of /proc/cpuinfo.
    """
    return "mixed_bfloat16" if BFLOAT16 & set(cpuinfo.split()) else "float32"

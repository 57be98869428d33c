"""Chooses the precision for fine-tuning a teacher: float32 or mixed bfloat16."""

import tensorflow as tf

from kdedge import engines

# Flags in /proc/cpuinfo of processors that multiply bfloat16 matrices faster than float32 ones.
BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def fast_dtype() -> str:
    """The Keras dtype policy with which this machine fine-tunes fastest.

    In mixed bfloat16, weights and logits stay float32, and teachers were as accurate. Labelling is
    always in float32: exported teachers are compared with the labels, and bfloat16 changes logits
    by 0.02.
    """
    if tf.config.list_physical_devices("GPU"):
        return "mixed_bfloat16"
    return dtype_for(engines.cpuinfo())


def dtype_for(cpuinfo: str) -> str:
    """The dtype policy with which a CPU computes fastest.

    >>> dtype_for("flags : avx512f avx512_bf16"), dtype_for("flags : avx2")
    ('mixed_bfloat16', 'float32')

    Args:
        cpuinfo: contents of /proc/cpuinfo.
    """
    return "mixed_bfloat16" if BFLOAT16 & set(cpuinfo.split()) else "float32"

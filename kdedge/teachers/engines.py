"""Running a teacher over many texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.teachers.bert import BertTeacher

Outputs = dict[str, npt.NDArray[np.float32]]


def by_length(teacher: BertTeacher, texts: Sequence[str]) -> list[int]:
    """Order of the texts from the longest to the shortest, in tokens.

    Batches of like length waste little on padding; the longest first shows at once whether
    they fit into memory, and makes the time left an upper bound.
    """
    lengths = np.array([len(ids) for ids in teacher.encoder.token_ids(texts)])
    return [int(i) for i in np.argsort(-lengths, kind="stable")]


def teacher_function(teacher: BertTeacher) -> Callable[[dict[str, Any]], Outputs]:
    """The teacher as one traced graph for batches of any size and length."""
    signature = {
        name: tf.TensorSpec([None, None], tf.int32) for name in ("ids", "mask", "segment_ids")
    }
    traced = tf.function(
        lambda inputs: teacher(inputs, training=False), input_signature=[signature]
    )
    return lambda inputs: {name: value.numpy() for name, value in traced(inputs).items()}


def batches_by_length(
    teacher: BertTeacher, texts: Sequence[str], batch_size: int
) -> Iterator[tuple[list[int], Outputs]]:
    """Run the teacher; gives positions in `texts` and their outputs, batch by batch."""
    run = teacher_function(teacher)
    order = by_length(teacher, texts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        encoded = teacher.encoder.encode([texts[i] for i in rows])
        yield rows, run(encoded.rows(slice(None)))


def run_teacher(teacher: BertTeacher, texts: Sequence[str], batch_size: int) -> Outputs:
    """`logits` float32 [texts, classes] and `pooled` float32 [texts, hidden], in texts' order."""
    result: Outputs = {}
    for rows, outputs in batches_by_length(teacher, texts, batch_size):
        for name, value in outputs.items():
            result.setdefault(name, np.zeros((len(texts), value.shape[1]), np.float32))[rows] = (
                value
            )
    return result

"""Running a teacher over many texts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kdedge.progress import Advance
from kdedge.teachers.bert import BertTeacher
from kdedge.text.encoder import TextEncoder

Outputs = dict[str, npt.NDArray[np.float32]]


def batches_by_length(
    encoder: TextEncoder, texts: Sequence[str], batch_size: int
) -> list[list[int]]:
    """Positions in `texts`, a batch each, from the longest texts to the shortest in tokens.

    Batches of like length waste little on padding; the longest first shows at once whether they
    fit into memory, and makes the time left an upper bound.
    """
    lengths = np.array([len(ids) for ids in encoder.token_ids(texts)])
    order = np.argsort(-lengths, kind="stable").tolist()
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def run_teacher(
    teacher: BertTeacher, texts: Sequence[str], batch_size: int, advance: Advance | None = None
) -> Outputs:
    """`logits` float32 [texts, classes] and `pooled` float32 [texts, hidden], in texts' order."""
    batches = batches_by_length(teacher.encoder, texts, batch_size)
    outputs = []
    for batch in batches:
        outputs.append(teacher.run(teacher.encoder.encode([texts[i] for i in batch]).inputs))
        if advance:
            advance(len(batch))
    order = np.argsort(np.concatenate(batches))
    return {name: np.concatenate([o[name] for o in outputs])[order] for name in outputs[0]}

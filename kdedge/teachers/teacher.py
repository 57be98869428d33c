"""The interface of a teacher: what labelling and distillation from stored labels need."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kdedge.tasks import Task
from kdedge.text.encoder import TextEncoder

Inputs = dict[str, Any]
TeacherOutputs = dict[str, npt.NDArray[np.float32]]


class Teacher(Protocol):
    """A model that returns logits and, if it can, sentence vectors.

    Attributes:
        encoder: converts texts to its inputs.
        task: task of its logits.
        fingerprint: identifies the weights; soft labels of two fingerprints are never mixed.
    """

    encoder: TextEncoder
    task: Task
    fingerprint: str

    @property
    def hidden_size(self) -> int | None:
        """Width of the sentence vector `pooled`; None if the teacher has none."""
        ...

    def run(self, inputs: Inputs) -> TeacherOutputs:
        """Compute `logits`, float32 [batch, width], and `pooled`, float32 [batch, hidden_size].

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        """
        ...

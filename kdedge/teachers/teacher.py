"""The contract of a teacher: what labelling needs of it."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kdedge.tasks import Task
from kdedge.text.encoder import TextEncoder

Inputs = dict[str, Any]
TeacherOutputs = dict[str, npt.NDArray[np.float32]]


class Teacher(Protocol):
    """Gives logits, and sentence vectors if it can.

    Attributes:
        encoder: turns texts into its inputs.
        task: of its logits.
        fingerprint: identifies the weights; soft labels of different fingerprints don't mix.
    """

    encoder: TextEncoder
    task: Task
    fingerprint: str

    @property
    def hidden_size(self) -> int | None:
        """Width of the sentence vector `pooled`; None if it gives none."""
        ...

    def run(self, inputs: Inputs) -> TeacherOutputs:
        """`logits`, float32 [batch, width], and `pooled`, float32 [batch, hidden_size].

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        """
        ...

"""The contract of a prompt that a student has in training only."""

from collections.abc import Sequence
from typing import Any

import keras

from kdedge.objectives.losses import DistillationLoss
from kdedge.students.architecture import Parts


class Prompt(keras.layers.Layer):
    """How a Distiller runs its student in training; in `evaluate` the student runs by itself.

    Its attributes may be schedules, and its weights are learned with the student's.
    """

    def attach(self, student: Parts, losses: Sequence[DistillationLoss]) -> None:
        """Make what is learned, for this student.

        Args:
            student: the one that is trained.
            losses: the Distiller's.

        Raises:
            KdedgeError: the student or one of the losses can't be had with this prompt.
        """

    def run(self, student: Parts, inputs: Any, teacher: dict[str, Any], done: Any) -> Any:
        """What the student gives of a batch in training.

        Args:
            student: the one that is trained, whose model gives a dictionary with `logits` and what
                losses look at, or the logits alone.
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher: the teacher's outputs, by name.
            done: the share of the training that is done, float32 from 0 to 1.
        """
        raise NotImplementedError

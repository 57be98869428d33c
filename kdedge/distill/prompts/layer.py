"""The contract of a layer for a prompt that is used in training only."""

from collections.abc import Sequence
from typing import Any

import keras

from kdedge.objectives.losses import DistillationLoss
from kdedge.students.architecture import Parts


class PromptLayer(keras.layers.Layer):
    """How a Distiller runs its student in training; in `evaluate` the student runs by itself.

    Its attributes may be schedules, and its weights are learned with the student's.
    """

    def attach(self, student: Parts, losses: Sequence[DistillationLoss]) -> None:
        """Create the prompt's weights for a student.

        Args:
            student: the model in training.
            losses: the Distiller's.

        Raises:
            KdedgeError: the student or one of the losses does not work with this prompt.
        """

    def run(self, student: Parts, inputs: Any, teacher: dict[str, Any], done: Any) -> Any:
        """Run the student on a batch in training.

        Args:
            student: the model in training, which returns logits, or a dictionary of `logits` and
                the outputs that losses need.
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher: the teacher's outputs, by name.
            done: share of the training that is over, float32 from 0 to 1.
        """
        raise NotImplementedError

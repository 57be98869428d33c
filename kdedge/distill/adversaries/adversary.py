"""Adversaries: what makes inputs on which teacher and student part."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.objectives.classification import TwoSidedCrossEntropy

Inputs = dict[str, Any]


class Adversary:
    """Base class: token ids in, other token ids out.

    Attributes:
        student: the student that is trained.
        teacher: labels the changed inputs; `attack` needs none.
        variables: Keras variables that it changes; a run that is resumed needs them.
    """

    student: keras.Model
    teacher: keras.Model | None
    variables: Sequence[Any] = ()

    def learn(self, inputs: Inputs) -> None:
        """Take one step of its own, before the student's; for adversaries that learn.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        """

    def attack(self, inputs: Inputs, teacher_logits: Any) -> Any:
        """Change texts.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher_logits: float32 [batch, classes], what the teacher says of them as they are.

        Returns:
            The changed ids, int32 [batch, length].
        """
        raise NotImplementedError

    def logits(self, inputs: Inputs, teacher_logits: Any) -> tuple[Any, Any]:
        """What teacher and student say of the inputs that it makes of these.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher_logits: float32 [batch, classes], what the teacher says of them as they are.

        Returns:
            The teacher's and the student's logits, float32 [batch, classes].

        Raises:
            KdedgeError: there is no teacher.
        """
        if self.teacher is None:
            raise KdedgeError("teacher: None; one is needed to label what the adversary makes.")
        made = {**inputs, "ids": self.attack(inputs, teacher_logits)}
        said = self.teacher(made, training=False)
        teacher = said["logits"] if isinstance(said, dict) else said
        return tf.stop_gradient(teacher), self.student(made, training=True)


@keras.saving.register_keras_serializable("kdedge")
class AdversarialLoss(TwoSidedCrossEntropy):
    """-sum y log p - sum (1 - y) log(1 - p) where an adversary has driven the two models apart.

    The teacher labels the changed inputs anew: y are its probabilities there, p the student's.
    Counts in training only. It costs a step of the adversary and second passes of both models.

    Args:
        adversary: made for the very student that is trained.
        every: of a batch the adversary changes each so manieth text, and its loss is their mean.

    Raises:
        KdedgeError: `every` is below 1.
    """

    name = "adversarial_loss"

    def __init__(self, adversary: Adversary, every: int = 1) -> None:
        if every < 1:
            raise KdedgeError(f"every: {every}; at least 1.")
        self.adversary, self.every = adversary, every

    def get_config(self) -> dict[str, Any]:
        """Not possible: an adversary belongs to one student object.

        Raises:
            KdedgeError: always.
        """
        raise KdedgeError(
            "adversarial_loss: an adversary belongs to the student that it was made for and can't "
            "be stored. Save `distiller.student`."
        )

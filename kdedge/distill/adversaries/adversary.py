"""The interface of an adversary, which changes inputs so that teacher and student differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.objectives import objective_of
from kdedge.objectives.losses import DistillationLoss
from kdedge.recipe import Distill
from kdedge.tasks import Task
from kdedge.text.encoder import TextEncoder

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """The parts of a run that an adversary can use.

    Attributes:
        student: the model in training.
        task: task of its logits.
        store: soft labels of the run.
        encoder: text encoder of the student.
        teacher: a `BertTeacher`; None for adversaries that need none.
        seed: seed of the run.
    """

    student: keras.Model
    task: Task
    store: SoftLabels
    encoder: TextEncoder
    teacher: Any
    seed: int


class Adversary:
    """Base class of adversaries, which change token ids.

        >>> class Masker(Adversary):
        ...     def attack(self, inputs, teacher_logits):
        ...         return keras.ops.where(inputs["ids"] > 103, 103, inputs["ids"])
        >>> ids = keras.ops.convert_to_tensor([[101, 2054, 102]])
        >>> Masker().attack({"ids": ids}, None).numpy().tolist()
        [[101, 103, 102]]

    Attributes:
        needs_teacher: whether it needs a live teacher.
        student: the student in training.
        teacher: labels the changed inputs; `attack` alone needs none.
        variables: all Keras variables that it changes; they are part of a checkpoint.
    """

    needs_teacher: ClassVar[bool] = False
    student: keras.Model
    teacher: keras.Model | None
    variables: Sequence[Any] = ()

    @classmethod
    def from_settings(cls, settings: Distill, context: Context) -> Self:
        """Make the adversary from a recipe's settings.

        Raises:
            KdedgeError: the run lacks something that it needs.
        """
        raise NotImplementedError

    def learn(self, inputs: Inputs) -> None:
        """Take one step of its own, before the student's; for adversaries that learn.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
        """

    def attack(self, inputs: Inputs, teacher_logits: Any) -> Any:
        """Change texts.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher_logits: the teacher's logits of the unchanged inputs, float32 [batch, width].

        Returns:
            The changed ids, int32 [batch, length].
        """
        raise NotImplementedError

    def logits(self, inputs: Inputs, teacher_logits: Any) -> tuple[Any, Any]:
        """Logits of teacher and student on the changed inputs.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher_logits: the teacher's logits of the unchanged inputs, float32 [batch, width].

        Returns:
            The teacher's and the student's logits, float32 [batch, width].

        Raises:
            KdedgeError: there is no teacher.
        """
        if self.teacher is None:
            raise KdedgeError("teacher: None; one is needed to label the changed inputs.")
        changed = {**inputs, "ids": self.attack(inputs, teacher_logits)}
        outputs = self.teacher(changed, training=False)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        return tf.stop_gradient(logits), self.student(changed, training=True)


@keras.saving.register_keras_serializable("kdedge")
class AdversarialLoss(DistillationLoss):
    """A loss on the logits of inputs that an adversary has changed.

    The teacher labels the changed inputs again. It counts in training only. Each step costs a step
    of the adversary and a second pass of both models.

    Args:
        adversary: made for the student in training.
        every: change every n-th text of a batch; the loss is the mean over those.
        loss: loss on the logits of both models for these texts; None for classification's
            `TwoSidedCrossEntropy`.

    Raises:
        KdedgeError: `every` is below 1.
    """

    name = "adversarial_loss"
    training_only = True

    def __init__(
        self, adversary: Adversary, every: int = 1, loss: DistillationLoss | None = None
    ) -> None:
        if every < 1:
            raise KdedgeError(f"every: {every}; at least 1.")
        self.adversary, self.loss = adversary, loss or objective_of(None).two_sided_loss()
        self.rows = slice(None, None, every)
        self.variables = adversary.variables

    def before_step(self, inputs: Any) -> None:
        """A step of the adversary; see `DistillationLoss`."""
        self.adversary.learn(self._some(inputs))

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each changed example, float32; the outputs given are of the unchanged batch.

        Args:
            teacher_outputs: the teacher's logits of the batch.
            student_outputs: the student's.
            **kwargs: see `DistillationLoss`.
        """
        inputs = self._some(kwargs["inputs"])
        logits = self.adversary.logits(inputs, self._some(teacher_outputs))
        self.loss.validate_outputs(*logits)
        return self.loss.compute_loss(*logits, **kwargs | {"inputs": inputs})

    def _some(self, arrays: Any) -> Any:
        return tf.nest.map_structure(lambda array: array[self.rows], arrays)

    def get_config(self) -> dict[str, Any]:
        """Not possible: an adversary belongs to one student object.

        Raises:
            KdedgeError: always.
        """
        raise KdedgeError(
            "adversarial_loss: an adversary belongs to the student that it was made for and can't "
            "be stored. Save `distiller.student`."
        )

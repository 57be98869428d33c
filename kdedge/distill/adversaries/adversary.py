"""Adversaries: what makes inputs on which teacher and student part."""

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
    """What there is to make an adversary of, in a recipe's run.

    Attributes:
        student: that is trained.
        task: what its logits are of.
        store: of soft labels.
        encoder: the student's.
        teacher: a `BertTeacher`; None for adversaries that need none.
        seed: of the run.
    """

    student: keras.Model
    task: Task
    store: SoftLabels
    encoder: TextEncoder
    teacher: Any
    seed: int


class Adversary:
    """Base class: token ids in, other token ids out.

    Attributes:
        needs_teacher: whether it needs a teacher beside the student.
        student: the student that is trained.
        teacher: labels the changed inputs; `attack` needs none.
        variables: Keras variables that it changes; a run that is resumed needs them.
    """

    needs_teacher: ClassVar[bool] = False
    student: keras.Model
    teacher: keras.Model | None
    variables: Sequence[Any] = ()

    @classmethod
    def of(cls, settings: Distill, context: Context) -> Self:
        """The one that a recipe asks for.

        Raises:
            KdedgeError: it needs what the run lacks.
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
            teacher_logits: float32 [batch, width], what the teacher says of them as they are.

        Returns:
            The changed ids, int32 [batch, length].
        """
        raise NotImplementedError

    def logits(self, inputs: Inputs, teacher_logits: Any) -> tuple[Any, Any]:
        """What teacher and student say of the inputs that it makes of these.

        Args:
            inputs: int32 [batch, length] `ids`, `mask` and `segment_ids`.
            teacher_logits: float32 [batch, width], what the teacher says of them as they are.

        Returns:
            The teacher's and the student's logits, float32 [batch, width].

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
class AdversarialLoss(DistillationLoss):
    """A loss on logits where an adversary has driven teacher and student apart.

    The teacher labels the changed inputs anew. Counts in training only. It costs a step of the
    adversary and second passes of both models.

    Args:
        adversary: made for the very student that is trained.
        every: the adversary changes every n-th text of a batch; its loss is the mean over those.
        loss: on teacher's and student's logits there; None for classification's
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
        """The loss at the changed inputs, float32; what is said of the batch is for the adversary.

        Args:
            teacher_outputs: the teacher's logits of the batch.
            student_outputs: the student's.
            **kwargs: see `DistillationLoss`.
        """
        inputs = self._some(kwargs["inputs"])
        said = self.adversary.logits(inputs, self._some(teacher_outputs))
        self.loss.validate_outputs(*said)
        return self.loss.compute_loss(*said, **kwargs | {"inputs": inputs})

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

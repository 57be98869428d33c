"""What a student can be held against: small objects that validate, then compute."""

from typing import Any

import keras
from keras import ops

from kdedge.errors import KdedgeError


class DistillationLoss(keras.distillation.DistillationLoss):
    """Base class: a value for each example of a batch.

    The Distiller applies sample weights, the loss's own weight and the mean over the batch.

    Attributes:
        name: of the loss's metric.
        student_layer: the student's layer whose output `compute_loss` needs; None if logits do.
        teacher_output: what it needs of the teacher's outputs.
        projection_width: width of a learned linear projection that the Distiller puts between the
            student's layer and the loss; None for no projection.
    """

    name: str
    student_layer: str | None = None
    teacher_output = "logits"
    projection_width: int | None = None

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example.

        Args:
            teacher_outputs: the teacher's `teacher_output`.
            student_outputs: the student's logits, or the output of its `student_layer`.
            **kwargs: unused; Keras's signature has it.

        Returns:
            float32 [batch].
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationLoss":
        """Build from `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("kdedge")
class SoftLabelLoss(DistillationLoss):
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), on logits.

    Hinton, Vinyals, Dean 2015, arXiv 1503.02531. Its weight is the alpha of
    alpha * soft + (1 - alpha) * hard, which is 1 - `student_loss_weight` of the Distiller.

    Args:
        temperature: T, above 0; higher ones show more of the teacher's doubt.
    """

    name = "soft_label_loss"

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise KdedgeError(f"temperature: {temperature}; it must be above 0.")
        self.temperature = temperature

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both are logits of as many classes."""
        _same_shape(self, teacher_outputs, student_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of logits float32 [batch, classes]."""
        teacher = ops.log_softmax(ops.cast(teacher_outputs, "float32") / self.temperature)
        student = ops.log_softmax(ops.cast(student_outputs, "float32") / self.temperature)
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * divergence

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"temperature": self.temperature}


@keras.saving.register_keras_serializable("kdedge")
class FeatureLoss(DistillationLoss):
    """Mean squared difference of a teacher's and a student's vector.

    The student's goes through a learned linear projection to the teacher's width first (FitNets,
    arXiv 1412.6550; TinyBERT, arXiv 1909.10351).

    Args:
        width: of the teacher's vector.
        student_layer: name of the student's layer whose output is matched.
        teacher_output: which of the teacher's outputs.
    """

    name = "feature_loss"

    def __init__(
        self, width: int, student_layer: str = "sentence", teacher_output: str = "pooled"
    ) -> None:
        self.projection_width = width
        self.student_layer = student_layer
        self.teacher_output = teacher_output

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both, the student's projected, have one shape."""
        _same_shape(self, teacher_outputs, student_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of vectors float32 [batch, ..., width]."""
        teacher = ops.cast(teacher_outputs, "float32")
        squares = ops.square(teacher - ops.cast(student_outputs, "float32"))
        return ops.mean(squares, axis=tuple(range(1, len(squares.shape))))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "width": self.projection_width,
            "student_layer": self.student_layer,
            "teacher_output": self.teacher_output,
        }


@keras.saving.register_keras_serializable("kdedge")
class TwoSidedCrossEntropy(DistillationLoss):
    """-sum y log p - sum (1 - y) log(1 - p), of teacher probabilities y and student's p.

    Punishes belief in wrong classes as well as doubt of the right one; meant for inputs on which
    an adversary has driven the two apart.
    """

    name = "two_sided_loss"

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both are logits of as many classes."""
        _same_shape(self, teacher_outputs, student_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of logits float32 [batch, classes]."""
        y = ops.softmax(ops.cast(teacher_outputs, "float32"))
        student = ops.cast(student_outputs, "float32")
        log_p = ops.log_softmax(student)
        # log(1 - p_i) = logsumexp of the others' logits - logsumexp of all: exact where p_i is
        # near 1, where log(1 - p_i) would be log(0).
        classes = student.shape[-1]
        others = ops.expand_dims(student, -2) - 1e9 * ops.eye(classes)
        log_not_p = ops.logsumexp(others, axis=-1) - ops.logsumexp(student, axis=-1, keepdims=True)
        return -ops.sum(y * log_p + (1 - y) * log_not_p, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments: none."""
        return {}


def _same_shape(loss: DistillationLoss, teacher: Any, student: Any) -> None:
    if tuple(teacher.shape[1:]) != tuple(student.shape[1:]):
        raise KdedgeError(
            f"{loss.name}: the teacher's {loss.teacher_output} has shape {tuple(teacher.shape)} "
            f"and the student's {loss.student_layer or 'logits'} {tuple(student.shape)}; all but "
            "the first number must be equal."
        )

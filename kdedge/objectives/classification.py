"""Losses, metrics and head for one label per text: softmax and cross-entropy."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kdedge.errors import KdedgeError
from kdedge.objectives.losses import DistillationLoss, same_shape
from kdedge.objectives.objective import Objective
from kdedge.objectives.schedules import Schedule, value_at, values_of


def divergence(teacher_logits: Any, student_logits: Any) -> Any:
    """KL(softmax(teacher) || softmax(student)), float32 [batch], of logits [batch, classes]."""
    teacher, student = ops.log_softmax(teacher_logits), ops.log_softmax(student_logits)
    return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


@keras.saving.register_keras_serializable("kdedge")
class SoftLabelLoss(DistillationLoss):
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), on logits.

    Hinton, Vinyals, Dean 2015, arXiv 1503.02531. Its weight is the alpha of
    alpha * soft + (1 - alpha) * hard, which is 1 - `student_loss_weight` of the Distiller.

    Args:
        temperature: T, above 0. A higher one gives more weight to the less probable classes.

        >>> loss = SoftLabelLoss(temperature=1.0)
        >>> teacher, student = ([[0.847298, 0.0]], [[0.405465, 0.0]])  # 0.7, 0.3; 0.6, 0.4
        >>> [round(float(value), 4) for value in loss.compute_loss(teacher, student)]
        [0.0216]

    Raises:
        KdedgeError: a temperature that is not above 0.
    """

    name = "soft_label_loss"
    divergence = staticmethod(divergence)

    def __init__(self, temperature: float | Schedule = 1.0) -> None:
        if not min(values_of(temperature)) > 0:
            raise KdedgeError(
                f"temperature: {min(values_of(temperature))}; it must be above 0, for instance 2."
            )
        self.temperature = temperature

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both are logits of as many classes, at least two."""
        same_shape(self, teacher_outputs, student_outputs)
        if student_outputs.shape[-1] == 1:
            raise KdedgeError(
                f"{self.name}: one logit, whose probability is always 1; two classes are needed. "
                "For scores: kdedge.objectives.objective_of(task).soft_label_loss(1.0)."
            )

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of logits float32 [batch, classes]."""
        temperature = value_at(self.temperature, kwargs.get("done", 1.0))
        return temperature**2 * self.divergence(
            ops.cast(teacher_outputs, "float32") / temperature,
            ops.cast(student_outputs, "float32") / temperature,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"temperature": keras.saving.serialize_keras_object(self.temperature)}


@keras.saving.register_keras_serializable("kdedge")
class TwoSidedCrossEntropy(DistillationLoss):
    """-sum y log p - sum (1 - y) log(1 - p), of teacher probabilities y and student's p.

    Penalises probability on wrong classes as well as too little on the right one. It is meant for
    adversarial inputs, on which teacher and student differ.
    """

    name = "two_sided_loss"

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both are logits of as many classes."""
        same_shape(self, teacher_outputs, student_outputs)

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


class ClassificationObjective(Objective):
    """Heads and losses of `kdedge.tasks.Classification`."""

    label_dtype = "int32"

    def outputs(self, logits: Any) -> Any:
        """Probabilities; see `Objective`."""
        return tf.nn.softmax(logits)

    def label_loss(self) -> keras.losses.Loss:
        """Cross-entropy; see `Objective`."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def soft_label_loss(self, temperature: float | Schedule) -> SoftLabelLoss:
        """See `SoftLabelLoss`."""
        return SoftLabelLoss(temperature)

    def two_sided_loss(self) -> TwoSidedCrossEntropy:
        """See `TwoSidedCrossEntropy`."""
        return TwoSidedCrossEntropy()

    def divergence(self, teacher_logits: Any, student_logits: Any) -> Any:
        """KL(softmax(teacher) || softmax(student)); see `Objective`."""
        return divergence(teacher_logits, student_logits)

    def metrics(self) -> list[Any]:
        """Accuracy; see `Objective`."""
        return [keras.metrics.SparseCategoricalAccuracy(name=self.task.metric)]

    def labels(self, given: Any) -> tuple[Any, Any]:
        """int32 [batch], -1 for none; see `Objective`."""
        labels = ops.reshape(ops.cast(given, self.label_dtype), (-1,))
        return ops.maximum(labels, 0), ops.cast(labels >= 0, "float32")

    def chosen_output(self, logits: Any) -> Any:
        """The most probable class; see `Objective`."""
        return ops.argmax(logits, axis=-1)

    def evidence(self, logits: Any, answers: Any) -> Any:
        """Logit of a class minus the mean of the other logits; see `Objective`."""
        classes = logits.shape[1]
        chosen = ops.one_hot(answers, classes)
        return ops.sum(logits * (chosen - (1 - chosen) / (classes - 1)), axis=1)

"""Losses, metrics and head for several labels per text: a sigmoid for each label."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kdedge.objectives.classification import SoftLabelLoss, TwoSidedCrossEntropy
from kdedge.objectives.objective import Objective
from kdedge.objectives.schedules import Schedule
from kdedge.tasks import MultiLabel


def cross_entropies(probabilities: Any, logits: Any) -> Any:
    """-sum p log q - sum (1 - p) log(1 - q) with q = sigmoid(logits), float32 [batch]."""
    # log q = -softplus(-logit) and log(1 - q) = -softplus(logit).
    return ops.sum(ops.softplus(logits) - probabilities * logits, axis=-1)


def divergence(teacher_logits: Any, student_logits: Any) -> Any:
    """KL of the Bernoulli distributions of teacher and student, summed over the labels.

    Args:
        teacher_logits: [batch, labels].
        student_logits: [batch, labels].

    Returns:
        float32 [batch].
    """
    teacher = ops.sigmoid(teacher_logits)
    return cross_entropies(teacher, student_logits) - cross_entropies(teacher, teacher_logits)


@keras.saving.register_keras_serializable("kdedge")
class SigmoidSoftLabelLoss(SoftLabelLoss):
    """T^2 * sum over labels of KL(sigmoid(teacher / T) || sigmoid(student / T)), on logits.

    Like `SoftLabelLoss`, with a Bernoulli distribution for each label.

    Args:
        temperature: T, above 0. A higher one brings all probabilities nearer to 0.5.

    Raises:
        KdedgeError: a temperature that is not above 0.
    """

    divergence = staticmethod(divergence)


@keras.saving.register_keras_serializable("kdedge")
class SigmoidTwoSided(TwoSidedCrossEntropy):
    """-sum y log p - sum (1 - y) log(1 - p), y and p the sigmoids of teacher and student."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch], of logits float32 [batch, labels]."""
        y = ops.sigmoid(ops.cast(teacher_outputs, "float32"))
        return cross_entropies(y, ops.cast(student_outputs, "float32"))


@keras.saving.register_keras_serializable("kdedge")
class LabelsLoss(keras.losses.Loss):
    """Binary cross-entropy of logits, summed over the labels."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each example, float32 [batch]; labels are 0 or 1, logits [batch, labels]."""
        return cross_entropies(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32"))


@keras.saving.register_keras_serializable("kdedge")
class MicroF1(keras.metrics.Metric):
    """F1 over all labels of all texts, with a threshold of 0.5."""

    def __init__(self, name: str = MultiLabel.metric, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.right = self.add_weight(initializer="zeros", name="right")
        self.all = self.add_weight(initializer="zeros", name="all")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch's labels, int [batch, labels], and logits."""
        true, chosen = ops.cast(y_true, "float32"), ops.cast(y_pred > 0, "float32")
        weight = 1.0 if sample_weight is None else ops.reshape(sample_weight, (-1, 1))
        self.right.assign_add(ops.sum(weight * true * chosen))
        self.all.assign_add(ops.sum(weight * (true + chosen)))

    def result(self) -> Any:
        """2 TP / (2 TP + FP + FN); 0 if all are 0."""
        return 2 * self.right / ops.maximum(self.all, 1.0)


class MultiLabelObjective(Objective):
    """Heads and losses of `kdedge.tasks.MultiLabel`."""

    label_dtype = "int32"

    def outputs(self, logits: Any) -> Any:
        """Probabilities; see `Objective`."""
        return tf.nn.sigmoid(logits)

    def label_loss(self) -> keras.losses.Loss:
        """See `LabelsLoss`."""
        return LabelsLoss()

    def soft_label_loss(self, temperature: float | Schedule) -> SoftLabelLoss:
        """See `SigmoidSoftLabelLoss`."""
        return SigmoidSoftLabelLoss(temperature)

    def two_sided_loss(self) -> TwoSidedCrossEntropy:
        """See `SigmoidTwoSided`."""
        return SigmoidTwoSided()

    def divergence(self, teacher_logits: Any, student_logits: Any) -> Any:
        """KL summed over the labels; see `Objective`."""
        return divergence(teacher_logits, student_logits)

    def metrics(self) -> list[Any]:
        """Micro F1; see `Objective`."""
        return [MicroF1()]

    def labels(self, given: Any) -> tuple[Any, Any]:
        """int8 [batch, labels], -1 for none; see `Objective`."""
        labels = ops.cast(given, self.label_dtype)
        return ops.maximum(labels, 0), ops.cast(labels[:, 0] >= 0, "float32")

    def chosen_output(self, logits: Any) -> Any:
        """The most probable label; see `Objective`."""
        return ops.argmax(logits, axis=-1)

    def evidence(self, logits: Any, answers: Any) -> Any:
        """A label's logit; see `Objective`."""
        return ops.sum(logits * ops.one_hot(answers, logits.shape[1]), axis=1)

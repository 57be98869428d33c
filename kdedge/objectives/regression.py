"""Losses, metrics and head for scores: squared errors on standardised scores."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kdedge.errors import KdedgeError
from kdedge.objectives.losses import DistillationLoss, same_shape
from kdedge.objectives.objective import Objective
from kdedge.objectives.schedules import Schedule
from kdedge.tasks import Regression


@keras.saving.register_keras_serializable("kdedge")
class ScoreLoss(DistillationLoss):
    """(teacher - student)^2 on standardised scores.

    Args:
        name: name of its metric.
    """

    def __init__(self, name: str = "soft_label_loss") -> None:
        self.name = name

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Check that both have one score for each text."""
        same_shape(self, teacher_outputs, student_outputs)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """Loss of each example, float32 [batch]; scores are float32 [batch, 1]."""
        return squared_error(teacher_outputs, student_outputs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}


def squared_error(one: Any, other: Any) -> Any:
    """(one - other)^2, float32 [batch], of scores [batch, 1]."""
    difference = ops.cast(one, "float32") - ops.cast(other, "float32")
    return ops.sum(ops.square(difference), axis=-1)


@keras.saving.register_keras_serializable("kdedge")
class Correlation(keras.metrics.Metric):
    """Pearson correlation of scores [batch, 1] with the labels; 0 if either is constant."""

    def __init__(self, name: str = Regression.metric, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        # The weight, and weighted sums of x, y, x^2, y^2 and x y.
        self.sums = self.add_weight(shape=(6,), initializer="zeros", name="sums")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the scores of a batch."""
        x, y = (ops.reshape(ops.cast(v, "float32"), (-1,)) for v in (y_true, y_pred))
        weight = ops.ones_like(x)
        if sample_weight is not None:
            weight = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        parts = ops.stack([ops.ones_like(x), x, y, x * x, y * y, x * y])
        self.sums.assign_add(ops.sum(parts * weight, axis=-1))

    def result(self) -> Any:
        """The correlation."""
        count, x, y, xx, yy, xy = ops.unstack(self.sums / ops.maximum(self.sums[0], 1.0))
        size = ops.sqrt(ops.maximum((xx - x * x) * (yy - y * y), 0.0))
        return count * ops.where(size > 1e-7, (xy - x * y) / ops.maximum(size, 1e-7), 0.0)


class RegressionObjective(Objective):
    """Heads and losses of `kdedge.tasks.Regression`."""

    label_dtype = "float32"
    task: Regression

    def outputs(self, logits: Any) -> Any:
        """Scores; see `Objective`."""
        scores = self.task.mean + self.task.deviation * logits
        if self.task.low is None or self.task.high is None:
            return scores
        return tf.minimum(tf.maximum(scores, self.task.low), self.task.high)

    def label_loss(self) -> keras.losses.Loss:
        """Squared error; see `Objective`."""
        return keras.losses.MeanSquaredError()

    def soft_label_loss(self, temperature: float | Schedule) -> ScoreLoss:
        """See `ScoreLoss`; the temperature is not used."""
        return ScoreLoss()

    def two_sided_loss(self) -> ScoreLoss:
        """Squared error; see `Objective`."""
        return ScoreLoss("two_sided_loss")

    def mixture(self, logits: Any) -> Any:
        """Not possible; see `Objective`.

        Raises:
            KdedgeError: always.
        """
        raise KdedgeError(
            "prompt: soft-label needs labels, and regression has scores. Use task or none."
        )

    def divergence(self, teacher_logits: Any, student_logits: Any) -> Any:
        """Squared difference; see `Objective`."""
        return squared_error(teacher_logits, student_logits)

    def metrics(self) -> list[Any]:
        """Pearson correlation; see `Objective`."""
        return [Correlation()]

    def labels(self, given: Any) -> tuple[Any, Any]:
        """float32 [batch] in units of the data, NaN for none; see `Objective`."""
        scores = ops.reshape(ops.cast(given, "float32"), (-1, 1))
        missing = ops.isnan(scores)
        standardised = (scores - self.task.mean) / self.task.deviation
        return (
            ops.where(missing, 0.0, standardised),
            ops.cast(ops.logical_not(missing[:, 0]), "float32"),
        )

    def chosen_output(self, logits: Any) -> Any:
        """The score, which is the only output; see `Objective`."""
        return ops.zeros_like(logits[:, 0], dtype="int32")

    def evidence(self, logits: Any, answers: Any) -> Any:
        """The score itself; see `Objective`."""
        return logits[:, 0]

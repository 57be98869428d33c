"""Averages the logits of several teachers, so that they can be used as one."""

from collections.abc import Sequence
from typing import Any

import keras

from kdedge.labels.average import shares_of


class Ensemble(keras.Model):
    """The weighted mean of the `logits` of several live teachers, float32 [batch, classes].

    Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 3.

    Args:
        teachers: models that return logits, or dictionaries with `logits`, of the same classes.
        weights: weight of each; None for equal weights.

    Raises:
        KdedgeError: there is no teacher, or not one weight above 0 for each.
    """

    def __init__(
        self, teachers: Sequence[keras.Model], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(name="ensemble")
        self.shares = shares_of("teachers", len(teachers), weights)
        self.teachers = list(teachers)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Run all teachers and average their logits."""
        outputs = [teacher(inputs, training=training) for teacher in self.teachers]
        logits = [one["logits"] if isinstance(one, dict) else one for one in outputs]
        return {"logits": sum(share * one for share, one in zip(self.shares, logits, strict=True))}

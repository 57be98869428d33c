"""Several teachers as one."""

from collections.abc import Sequence
from typing import Any

import keras

from kdedge.labels.average import shares_of


class Ensemble(keras.Model):
    """Live teachers as one, which gives `logits`, float32 [batch, classes].

    Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 3, which average an ensemble's teachers.

    Args:
        teachers: give logits, or dictionaries with `logits`, of the same classes.
        weights: how much each counts; None is 1 each.

    Raises:
        KdedgeError: no teacher, or not a weight above 0 for each.
    """

    def __init__(
        self, teachers: Sequence[keras.Model], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(name="ensemble")
        self.shares = shares_of("teachers", len(teachers), weights)
        self.teachers = list(teachers)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """The weighted mean of what the teachers say."""
        said = [teacher(inputs, training=training) for teacher in self.teachers]
        logits = [one["logits"] if isinstance(one, dict) else one for one in said]
        return {"logits": sum(share * one for share, one in zip(self.shares, logits, strict=True))}

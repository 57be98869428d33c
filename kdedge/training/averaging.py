"""The mean of a model's weights over its epochs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


class MeanOfEpochs(tf.Module):
    """The mean of variables over the ends of the epochs so far; later epochs count more.

    Each epoch counts as much as all earlier ones together. The mean generalises better than the
    last weights and is less overconfident, as in stochastic weight averaging (Izmailov et al. 2018,
    arXiv 1803.05407).

        mean = MeanOfEpochs(variables)
        ...  # an epoch's steps
        mean.add(epoch)
        with mean.in_place():
            ...  # measure the model

    Args:
        variables: the trained variables; the mean starts as a copy of them.

    Attributes:
        values: the mean of each variable.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        super().__init__()
        self._variables = tuple(variables)
        self.values = [tf.Variable(variable, trainable=False) for variable in variables]

    def add(self, epoch: int) -> None:
        """Add the variables at the end of an epoch; epochs are counted from 1."""
        share = 1.0 if epoch == 1 else 0.5
        for value, variable in zip(self.values, self._variables, strict=True):
            value.assign_add(share * (variable - value))

    def put(self) -> None:
        """Set the variables to the mean."""
        for value, variable in zip(self.values, self._variables, strict=True):
            variable.assign(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Set the variables to the mean inside the block, and back afterwards."""
        own = [variable.numpy() for variable in self._variables]
        self.put()
        try:
            yield
        finally:
            for variable, value in zip(self._variables, own, strict=True):
                variable.assign(value)

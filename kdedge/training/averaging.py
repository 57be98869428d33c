"""The mean of a model's weights over its epochs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


class MeanOfEpochs(tf.Module):
    """The mean of variables at the ends of the epochs so far, a later epoch counting more.

    Each counts as much as all before it together. The mean lies in the middle of where the training
    went: it generalises better than the last weights and is less sure of itself (as in stochastic
    weight averaging, Izmailov et al. 2018, arXiv 1803.05407).

        mean = MeanOfEpochs(variables)
        ...  # an epoch's steps
        mean.add(epoch)
        with mean.in_place():
            ...  # measure the model

    Args:
        variables: those that are trained; the mean begins as a copy of them.

    Attributes:
        values: the mean, a variable for each.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        super().__init__()
        self._variables = tuple(variables)
        self.values = [tf.Variable(variable, trainable=False) for variable in variables]

    def add(self, epoch: int) -> None:
        """Take in the variables at the end of an epoch, counted from 1."""
        share = 1.0 if epoch == 1 else 0.5
        for value, variable in zip(self.values, self._variables, strict=True):
            value.assign_add(share * (variable - value))

    def put(self) -> None:
        """Give the variables the mean's values."""
        for value, variable in zip(self.values, self._variables, strict=True):
            variable.assign(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The variables have the mean's values meanwhile."""
        own = [variable.numpy() for variable in self._variables]
        self.put()
        try:
            yield
        finally:
            for variable, value in zip(self._variables, own, strict=True):
                variable.assign(value)

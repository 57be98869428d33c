"""The contract of a compression method."""

from collections.abc import Sequence
from importlib import import_module
from typing import TypeAlias

import tf_keras

from kdedge.errors import KdedgeError
from kdedge.recipe import COMPRESSIONS, Compress
from kdedge.students.trained import Student

Layer: TypeAlias = tf_keras.layers.Layer
# Where nearly all weights are. Biases and norms are few, and matter too much to be made coarse.
LARGE = (
    tf_keras.layers.Embedding,
    tf_keras.layers.Conv1D,
    tf_keras.layers.Dense,
    tf_keras.layers.MultiHeadAttention,
)
# A layer with fewer weights, such as the logits', saves nothing and costs accuracy.
FEWEST_WEIGHTS = 1000


class Round:
    """A fine-tuning while layers are wrapped in what makes them smaller.

    A method is one such round or several, in `ROUNDS` of a module that has the method's name; it is
    named in `Compression` of `kdedge.recipe`.
    """

    def prepare(self, student: Student, texts: Sequence[str], settings: Compress) -> Student:
        """The student that is fine-tuned, of the one that is given; `texts` are those to learn."""
        return student

    def reaches(self, layer: Layer) -> bool:
        """Whether the layer, of tf_keras, is wrapped."""
        return isinstance(layer, LARGE) and layer.count_params() >= FEWEST_WEIGHTS

    def wrap(self, layer: Layer, settings: Compress, steps: int) -> Layer:
        """A layer that it reaches, for the training of so many steps."""
        return layer

    def settle(self, layer: Layer) -> None:
        """Put what was learned into the variables of the layer in a wrapped one."""


def rounds_of(method: str) -> tuple[Round, ...]:
    """The rounds of a method.

    Raises:
        KdedgeError: there is no such method.
    """
    if method not in COMPRESSIONS:
        raise KdedgeError(f"method: {method!r}. Allowed: {', '.join(COMPRESSIONS)}.")
    rounds: tuple[Round, ...] = import_module(f"kdedge.compress.{method.replace('-', '_')}").ROUNDS
    return rounds

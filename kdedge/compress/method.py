"""The contract of a compression method, and finding a method by name."""

from collections.abc import Sequence
from importlib import import_module
from typing import TypeAlias

import tf_keras

from kdedge.errors import KdedgeError
from kdedge.recipe import COMPRESSIONS, Compress
from kdedge.students.trained import Student
from kdedge.text.pairs import Text

Layer: TypeAlias = tf_keras.layers.Layer
# Layers with nearly all weights. Biases and norms are few, and too sensitive to compress.
LARGE = (
    tf_keras.layers.Embedding,
    tf_keras.layers.Conv1D,
    tf_keras.layers.Dense,
    tf_keras.layers.MultiHeadAttention,
)
# Compressing a smaller layer, such as that of the logits, saves nothing and costs accuracy.
FEWEST_WEIGHTS = 1000


class Round:
    """One fine-tuning with layers wrapped by a compression.

    A method consists of one or more rounds: `ROUNDS` of a module with the method's name, which is
    listed in `Compression` of `kdedge.recipe`.
    """

    def prepare(self, student: Student, texts: Sequence[Text], settings: Compress) -> Student:
        """Change the student before fine-tuning; `texts` are those that it will be trained on."""
        return student

    def reaches(self, layer: Layer) -> bool:
        """Whether to wrap this tf_keras layer."""
        return isinstance(layer, LARGE) and layer.count_params() >= FEWEST_WEIGHTS

    def wrap(self, layer: Layer, settings: Compress, steps: int) -> Layer:
        """Wrap a layer for a fine-tuning of `steps` steps."""
        return layer

    def write_back(self, layer: Layer) -> None:
        """After fine-tuning, write the result into the variables of the layer that was wrapped."""


def rounds_of(method: str) -> tuple[Round, ...]:
    """The rounds of a compression method.

    Raises:
        KdedgeError: there is no such method.
    """
    if method not in COMPRESSIONS:
        raise KdedgeError(f"method: {method!r}. Allowed: {', '.join(COMPRESSIONS)}.")
    rounds: tuple[Round, ...] = import_module(f"kdedge.compress.{method.replace('-', '_')}").ROUNDS
    return rounds

"""Quantization-aware training for int8 (Jacob et al. 2017, arXiv 1712.05877)."""

from typing import Any

import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from kdedge.compress.method import LARGE, Layer, Round
from kdedge.compress.twin import TokenMeanTwin
from kdedge.recipe import Compress

# Layers whose outputs, and weights if they are large, are rounded to int8.
ROUNDED = (
    *LARGE,
    tf_keras.layers.Add,
    tf_keras.layers.GlobalAveragePooling1D,
    tf_keras.layers.LayerNormalization,
    TokenMeanTwin,
)


class Rounding(Round):
    """Rounds weights and activations; the weights stay at values that int8 can represent."""

    def reaches(self, layer: Layer) -> bool:
        """See `Round`."""
        return isinstance(layer, ROUNDED)

    def wrap(self, layer: Layer, settings: Compress, steps: int) -> Layer:
        """See `Round`."""
        return tfmot.quantization.keras.QuantizeWrapperV2(layer, _Int8())

    def write_back(self, layer: Layer) -> None:
        """See `Round`."""
        if isinstance(layer, tfmot.quantization.keras.QuantizeWrapperV2):
            for variable, quantizer, ranges in layer._weight_vars:
                variable.assign(quantizer(variable, True, weights=ranges))


class _Kernel(tfmot.quantization.keras.quantizers.LastValueQuantizer):
    """One scale for each index of the last axis; tfmot's own quantizer takes no 3-D kernels."""

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        rows = tf.reshape(inputs, (-1, inputs.shape[-1]))
        return tf.reshape(super().__call__(rows, training, weights, **kwargs), inputs.shape)


class _Int8(tfmot.quantization.keras.QuantizeConfig):
    """Rounds as LiteRT does: kernels per channel, embeddings per table, outputs not symmetric.

    tfmot rounds only the weights and the output of a layer, so everything inside attention and
    layer normalization stays in float.
    """

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        return [
            (
                getattr(owner, name),
                _Kernel(8, per_axis=name == "kernel", symmetric=True, narrow_range=True),
            )
            for owner, name in self._weights(layer)
        ]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        for (owner, name), weight in zip(self._weights(layer), quantize_weights, strict=True):
            setattr(owner, name, weight)

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        if isinstance(layer, tf_keras.layers.MultiHeadAttention):
            return []  # its shape is unknown before the call, and a rounded sum follows anyway
        # The range of each batch: tfmot's moving average starts at 6 and needs thousands of steps.
        quantizers = tfmot.quantization.keras.quantizers
        return [quantizers.LastValueQuantizer(8, False, symmetric=False, narrow_range=False)]

    def get_config(self) -> dict[str, Any]:
        return {}

    def _weights(self, layer: Any) -> list[tuple[Any, str]]:
        if isinstance(layer, tf_keras.layers.Embedding):
            return [(layer, "embeddings")]
        if isinstance(layer, tf_keras.layers.Dense | tf_keras.layers.Conv1D):
            return [(layer, "kernel")]
        if isinstance(layer, tf_keras.layers.MultiHeadAttention):
            parts = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
            return [(getattr(layer, part), "kernel") for part in parts]
        return []


ROUNDS = (Rounding(),)

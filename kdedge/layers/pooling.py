"""Layers that pool token vectors to one vector and ignore padding."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("kdedge")
class TokenMean(keras.layers.Layer):
    """Mean over the tokens of a text; the vectors of padding must be zero.

    Keras's GlobalAveragePooling1D with a mask exports a SELECT op, which XNNPACK does not support,
    so LiteRT would run part of the model outside its fast path.
    """

    def call(self, x: Any, real: Any) -> Any:
        """float32 [batch, length, width], int32 [batch, length] -> float32 [batch, width]."""
        count = keras.ops.sum(real, axis=1, keepdims=True)
        return keras.ops.sum(x, axis=1) / keras.ops.cast(count, x.dtype)


@keras.saving.register_keras_serializable("kdedge")
class Compared(keras.layers.Layer):
    """Concatenates u, v, |u - v| and u * v of two text vectors u and v (arXiv 1705.02364)."""

    def call(self, both: Any) -> Any:
        """float32 [batch, 2, width] -> float32 [batch, 4 * width]."""
        u, v = both[:, 0], both[:, 1]
        return keras.ops.concatenate([u, v, keras.ops.abs(u - v), u * v], axis=-1)


def masked(x: Any, mask: Any) -> Any:
    """Set the vectors of padding to zero, so that logits don't depend on the padded length.

    Args:
        x: float32 [batch, length, width].
        mask: int32 [batch, length], 0 for padding.
    """
    column = keras.layers.Reshape((-1, 1))(mask)
    return keras.layers.Multiply()([x, keras.layers.Rescaling(1.0)(column)])

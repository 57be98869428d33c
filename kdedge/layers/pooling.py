"""From a text's tokens to one vector, without padding."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("kdedge")
class TokenMean(keras.layers.Layer):
    """The mean over a text's tokens, where padding has zeros already.

    Keras's GlobalAveragePooling1D with a mask selects where that says, which XNNPACK can't: LiteRT
    would leave its fast path for each.
    """

    def call(self, x: Any, real: Any) -> Any:
        """float32 [batch, length, width], int32 [batch, length] -> float32 [batch, width]."""
        count = keras.ops.sum(real, axis=1, keepdims=True)
        return keras.ops.sum(x, axis=1) / keras.ops.cast(count, x.dtype)


@keras.saving.register_keras_serializable("kdedge")
class Compared(keras.layers.Layer):
    """Two texts' vectors u and v as u, v, |u - v| and u * v (arXiv 1705.02364)."""

    def call(self, both: Any) -> Any:
        """float32 [batch, 2, width] -> float32 [batch, 4 * width]."""
        u, v = both[:, 0], both[:, 1]
        return keras.ops.concatenate([u, v, keras.ops.abs(u - v), u * v], axis=-1)


def masked(x: Any, mask: Any) -> Any:
    """x float32 [batch, length, width] with zeros where there is padding.

    So a text gives the same logits whatever length it is padded to.
    """
    column = keras.layers.Reshape((-1, 1))(mask)
    return keras.layers.Multiply()([x, keras.layers.Rescaling(1.0)(column)])

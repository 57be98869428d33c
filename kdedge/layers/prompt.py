"""The layer of the task prompt: virtual tokens in front of a text."""

from typing import Any

import keras

from kdedge.errors import KdedgeError


@keras.saving.register_keras_serializable("kdedge")
class TaskPrompt(keras.layers.Layer):
    """Prepends learned vectors, the same for every text.

    Args:
        tokens: number of virtual tokens.

    Raises:
        KdedgeError: fewer than 1.
    """

    def __init__(self, tokens: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if tokens < 1:
            raise KdedgeError(f"tokens: {tokens}. At least 1 is needed.")
        self.tokens = tokens

    def build(self, x_shape: tuple[int | None, ...], real_shape: Any) -> None:
        """Create the weights, float32 [tokens, width]."""
        self.table = self.add_weight(
            shape=(self.tokens, x_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )

    def call(self, x: Any, real: Any) -> tuple[Any, Any]:
        """Prepend to x, float32 [batch, length, width], and to the mask, int32 [batch, length]."""
        batch = keras.ops.shape(x)[0]
        table = keras.ops.broadcast_to(self.table[None], (batch, *self.table.shape))
        ones = keras.ops.tile(keras.ops.ones_like(real[:, :1]), (1, self.tokens))
        return (
            keras.ops.concatenate([table, x], axis=1),
            keras.ops.concatenate([ones, real], axis=1),
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments of `from_config`."""
        return {**super().get_config(), "tokens": self.tokens}

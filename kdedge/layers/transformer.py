"""Layers of a transformer, built from ops that all converters support."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("kdedge")
def gelu_tanh(x: Any) -> Any:
    """GELU in its tanh approximation (arXiv 1606.08415).

    Exact GELU needs Erf, which TFLite and tf2onnx convert badly or not at all.
    """
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("kdedge")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector for each position.

    Args:
        max_length: number of positions.
    """

    def __init__(self, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_length = max_length

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, float32 [max_length, width]."""
        self.table = self.add_weight(
            shape=(self.max_length, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )

    def call(self, x: Any) -> Any:
        """Add the position vectors to x, float32 [batch, length, width]."""
        return x + self.table[: keras.ops.shape(x)[1]]

    def get_config(self) -> dict[str, Any]:
        """The arguments of `from_config`."""
        return {**super().get_config(), "max_length": self.max_length}


@keras.saving.register_keras_serializable("kdedge")
class FirstToken(keras.layers.Layer):
    """Selects the vector of the first token, float32 [batch, 1, width]."""

    def call(self, x: Any) -> Any:
        """Select from x, float32 [batch, length, width]."""
        return x[:, :1]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape, which Keras can't infer from a slice of unknown length."""
        return input_shape[0], 1, input_shape[2]


@keras.saving.register_keras_serializable("kdedge")
class Attention(keras.layers.MultiHeadAttention):
    """Multi-head attention whose mask, int32 [batch, 1, length], is added to the scores.

    Keras's own mask exports a SELECT op, which XNNPACK does not support, so LiteRT would run part
    of each layer outside its fast path.
    """

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:
        query = query * keras.ops.cast(self._inverse_sqrt_key_dim, query.dtype)
        scores = keras.ops.einsum(self._dot_product_equation, key, query)
        padding = 1.0 - keras.ops.cast(attention_mask, scores.dtype)
        scores = keras.ops.softmax(scores - 1e9 * keras.ops.expand_dims(padding, 1))
        kept = self._dropout_layer(scores, training=training) if self._dropout else scores
        return keras.ops.einsum(self._combine_equation, kept, value), scores

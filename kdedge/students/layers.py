"""What Keras lacks for the students, in plain operations that every converter knows."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("kdedge")
def gelu_tanh(x: Any) -> Any:
    """GELU by its tanh approximation, arXiv 1606.08415.

    The exact one becomes Erf, which TFLite and tf2onnx convert badly or not at all.
    """
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("kdedge")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector for each position.

    Args:
        max_length: positions there are vectors for.
    """

    def __init__(self, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_length = max_length

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the table, float32 [max_length, width]."""
        self.table = self.add_weight(
            shape=(self.max_length, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )

    def call(self, x: Any) -> Any:
        """Add positions to x, float32 [batch, length, width]."""
        return x + self.table[: keras.ops.shape(x)[1]]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "max_length": self.max_length}

"""The transformer encoder of BERT and related models, as a Keras layer.

Each token starts as the sum of its token, position and segment embeddings. Each layer then mixes
the vectors of a text (attention) and transforms each vector on its own (two dense layers). Devlin
et al. 2018, arXiv 1810.04805; Vaswani et al. 2017, arXiv 1706.03762.

Inside the encoder, the tokens of all texts are the rows of one matrix, [batch * length, width], so
that a dense layer is one matrix product.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.keras_environment import set_up_keras

set_up_keras()
# Added to the attention scores of padding, whose attention then is 0.
PADDING = -1e4
# Activations by their names in transformers.
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("gelu", "gelu_python"), lambda x: keras.activations.gelu(x)),
    **dict.fromkeys(
        ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh"),
        lambda x: keras.activations.gelu(x, approximate=True),
    ),
    **dict.fromkeys(("silu", "swish"), tf.nn.silu),
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
}


def activation(name: str) -> Callable[[Any], Any]:
    """The activation function with this name in transformers.

    Raises:
        KdedgeError: it is not supported.
    """
    if name not in ACTIVATIONS:
        raise KdedgeError(f"activation: {name!r}. Supported: {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]


@dataclass(frozen=True)
class Shape:
    """Sizes and variants of an encoder.

    Attributes:
        vocabulary: number of token embeddings.
        positions: number of position embeddings; a text has at most `longest` tokens.
        segments: number of segment embeddings; 0 for none.
        embedding_width: width of the token embeddings, projected to `width` if it differs.
        width: width of the hidden states.
        layers: number of layers.
        heads: attention heads of each layer.
        inner: width of the first of the two dense layers in each layer.
        activation: activation of that layer, by its name in transformers.
        epsilon: epsilon of the layer norms.
        dropout: dropout rate of the outputs of each layer.
        attention_dropout: dropout rate of the attention maps.
        padding: id of the padding token if positions start after it, as in RoBERTa; else None.
        shared: whether all layers share their weights, as in ALBERT.
        relative_positions: number of relative position biases, as in MPNet; 0 for none.
    """

    vocabulary: int
    positions: int
    segments: int
    embedding_width: int
    width: int
    layers: int
    heads: int
    inner: int
    activation: str = "gelu"
    epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    padding: int | None = None
    shared: bool = False
    relative_positions: int = 0

    @property
    def longest(self) -> int:
        """The largest number of tokens of a text."""
        return self.positions if self.padding is None else self.positions - self.padding - 1


class Block(keras.layers.Layer):
    """A transformer layer: attention and two dense layers, both with residual and layer norm.

    Args:
        shape: shape of the encoder.
    """

    def __init__(self, shape: Shape, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = shape.heads
        self.query, self.key, self.value, self.attention_output = (
            dense(shape.width, shape.width, name, self.dtype_policy)
            for name in ("query", "key", "value", "attention_output")
        )
        self.inner = dense(shape.width, shape.inner, "inner", self.dtype_policy)
        self.inner.activation = activation(shape.activation)
        self.output_dense = dense(shape.inner, shape.width, "output", self.dtype_policy)
        self.attention_norm, self.output_norm = (
            norm(shape.width, shape.epsilon, name, self.dtype_policy)
            for name in ("attention_norm", "output_norm")
        )
        self.attention_dropout, *self.dropouts = (
            keras.layers.Dropout(rate, name=f"dropout_{i}", dtype=self.dtype_policy)
            for i, rate in enumerate((shape.attention_dropout, shape.dropout, shape.dropout))
        )
        self.built = True

    def call(self, x: Any, bias: Any, size: Any, training: bool = False) -> tuple[Any, Any]:
        """Run the layer.

        Args:
            x: hidden states, [batch * length, width].
            bias: added to the attention scores, [batch or 1, heads or 1, length or 1, length].
            size: batch size and length.
            training: whether to use dropout.

        Returns:
            The next hidden states, and the attention maps, [batch, heads, length, length].
        """

        def by_head(x: Any) -> Any:
            # [batch, heads, length, width of a head]
            return tf.transpose(
                tf.reshape(x, [*size, self.heads, x.shape[1] // self.heads]), [0, 2, 1, 3]
            )

        query, key, value = (by_head(part(x)) for part in (self.query, self.key, self.value))
        scores = tf.matmul(query * query.shape[-1] ** -0.5, key, transpose_b=True)
        maps = tf.nn.softmax(scores + bias)
        attended = tf.matmul(self.attention_dropout(maps, training=training), value)
        attended = self.attention_output(
            tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), [-1, x.shape[1]])
        )
        x = self.attention_norm(x + self.dropouts[0](attended, training=training))
        changed = self.output_dense(self.inner(x))
        return self.output_norm(x + self.dropouts[1](changed, training=training)), maps


class Encoder(keras.layers.Layer):
    """A transformer encoder; its weights are random until `Checkpoint` sets them.

    Args:
        shape: sizes and variants.

    Attributes:
        words: token embeddings, float32 [vocabulary, embedding_width].
        position_vectors: position embeddings, float32 [positions, embedding_width].
        segment_vectors: segment embeddings, float32 [segments, embedding_width], or None.
        embedding_norm: layer norm of their sum.
        projection: dense layer from `embedding_width` to `width`, or None.
        blocks: the layers; only one if they are `shared`.
        relative_bias: relative position biases, float32 [relative_positions, heads], or None.
    """

    def __init__(self, shape: Shape, **kwargs: Any) -> None:
        super().__init__(name="encoder", **kwargs)
        self.shape = shape
        wide = shape.embedding_width
        self.words = self._table("words", shape.vocabulary, wide)
        self.position_vectors = self._table("position_vectors", shape.positions, wide)
        self.segment_vectors: Any = None
        if shape.segments:
            self.segment_vectors = self._table("segment_vectors", shape.segments, wide)
        self.embedding_norm = norm(wide, shape.epsilon, "embedding_norm", self.dtype_policy)
        # ALBERT has one even if the widths are equal.
        self.projection: Any = None
        if wide != shape.width or shape.shared:
            self.projection = dense(wide, shape.width, "projection", self.dtype_policy)
        self.dropout = keras.layers.Dropout(shape.dropout, name="dropout", dtype=self.dtype_policy)
        self.relative_bias: Any = None
        if shape.relative_positions:
            self.relative_bias = self._table("relative_bias", shape.relative_positions, shape.heads)
        self.blocks = [
            Block(shape, name=f"block_{i}", dtype=self.dtype_policy)
            for i in range(1 if shape.shared else shape.layers)
        ]
        self.built = True

    def call(
        self, ids: Any, mask: Any, segment_ids: Any, embeddings: Any = None, training: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Run the encoder.

        Args:
            ids: int32 [batch, length]; None if there are `embeddings`.
            mask: int32 [batch, length], 0 for padding.
            segment_ids: int32 [batch, length].
            embeddings: token embeddings to use instead, float32 [batch, length, embedding_width].
            training: whether to use dropout.

        Returns:
            The hidden states, [batch, length, width]: the embeddings and the output of each layer;
            and the attention maps of each layer, [batch, heads, length, length].
        """
        size = tf.unstack(tf.shape(mask))
        x = tf.gather(self.words.value, ids) if embeddings is None else embeddings
        x += self._positions(ids, size[1])
        if self.segment_vectors is not None:
            # The only one is of both texts of a pair, whose second text BERT's tokenizer numbers 1.
            rows = segment_ids if self.shape.segments > 1 else tf.zeros_like(segment_ids)
            x += tf.gather(self.segment_vectors.value, rows)
        x = tf.cast(tf.reshape(x, [-1, x.shape[-1]]), self.compute_dtype)
        x = self.dropout(self.embedding_norm(x), training=training)
        if self.projection is not None:
            x = self.projection(x)
        bias = PADDING * tf.cast(1 - mask, self.compute_dtype)[:, None, None, :]
        if self.relative_bias is not None:
            bias += self._relative(size[1])
        states, maps = [x], []
        for i in range(self.shape.layers):
            x, attention = self.blocks[i % len(self.blocks)](x, bias, size, training=training)
            states.append(x)
            maps.append(attention)
        return [tf.reshape(x, [*size, self.shape.width]) for x in states], maps

    def _positions(self, ids: Any, length: Any) -> Any:
        """Position embeddings, [length, embedding_width]; with `padding`, also by text."""
        padding = self.shape.padding
        if padding is None:
            return self.position_vectors[:length]
        if ids is None:
            return self.position_vectors[padding + 1 : padding + 1 + length]
        # RoBERTa does not count padding tokens, wherever they are.
        real = tf.cast(ids != padding, tf.int32)
        return tf.gather(self.position_vectors.value, tf.cumsum(real, 1) * real + padding)

    def _relative(self, length: Any) -> Any:
        """The biases of attention scores by the distance of two tokens, [1, heads, length, length].

        Each direction has half of the entries. Half of these are for one distance each; the others
        are for ranges that grow logarithmically, up to 128 (T5, arXiv 1910.10683).
        """
        half = self.shape.relative_positions // 2
        exact = half // 2
        place = tf.range(length)
        distance = place[None, :] - place[:, None]
        far = tf.cast(tf.maximum(tf.abs(distance), 1), tf.float32)
        coarse = exact + tf.cast(
            tf.math.log(far / exact) / tf.math.log(128 / exact) * (half - exact), tf.int32
        )
        entry = tf.where(tf.abs(distance) < exact, tf.abs(distance), tf.minimum(coarse, half - 1))
        entry += half * tf.cast(distance > 0, tf.int32)
        bias = tf.gather(self.relative_bias.value, entry)
        return tf.cast(tf.transpose(bias, [2, 0, 1])[None], self.compute_dtype)

    def _table(self, name: str, rows: int, width: int) -> Any:
        # In mixed precision only the rows that are looked up are cast, not the whole table.
        return self.add_weight((rows, width), initializer(), name=name, autocast=False)


def initializer() -> keras.initializers.Initializer:
    """The random initialization of BERT."""
    return keras.initializers.TruncatedNormal(stddev=0.02)


def dense(width: int, units: int, name: str, dtype: Any = None) -> keras.layers.Dense:
    """A dense layer from `width` to `units`, with random weights."""
    layer = keras.layers.Dense(units, kernel_initializer=initializer(), name=name, dtype=dtype)
    layer.build((None, width))
    return layer


def norm(width: int, epsilon: float, name: str, dtype: Any = None) -> Any:
    """A layer norm."""
    layer = keras.layers.LayerNormalization(epsilon=epsilon, name=name, dtype=dtype)
    layer.build((None, width))
    return layer

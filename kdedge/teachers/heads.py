"""Heads: the layers that turn an encoder's hidden states into logits."""

from typing import Any, Literal, TypeAlias

import keras
import tensorflow as tf

from kdedge.teachers.encoder import Shape, activation, dense, initializer, norm
from kdedge.teachers.families import HeadForm, MaskedForm

Pooling = Literal["mean", "first"]


class FirstTokenHead(keras.layers.Layer):
    """A family's own classifier: two dense layers on the first token's vector.

    Args:
        form: form of the family's head.
        width: width of the hidden states.
        classes: number of logits.
        dropout: dropout rate.

    Attributes:
        parts: name of each part's tensors in a checkpoint; see `Family`.
    """

    def __init__(
        self, form: HeadForm, width: int, classes: int, dropout: float, **kwargs: Any
    ) -> None:
        super().__init__(name="head", **kwargs)
        self.parts = {"dense": form.dense, "out": form.out}
        self.dense = dense(width, width, "dense", self.dtype_policy)
        self.dense.activation = activation(form.activation)
        self.out = dense(width, classes, "out", self.dtype_policy)
        self.dropouts = [
            keras.layers.Dropout(rate, dtype=self.dtype_policy)
            for rate in (dropout if form.dropout_first else 0.0, dropout)
        ]
        self.built = True

    def call(self, states: Any, mask: Any, training: bool = False) -> Any:
        """Compute the logits, [batch, classes].

        Args:
            states: last hidden states, [batch, length, width].
            mask: int32 [batch, length], 0 for padding.
            training: whether to use dropout.
        """
        x = self.dense(self.dropouts[0](states[:, 0], training=training))
        return self.out(self.dropouts[1](x, training=training))


class LinearHead(keras.layers.Layer):
    """Logistic regression on a text's vector v: v / |v| @ kernel + bias.

    Args:
        pooling: `mean`: v is the mean of the hidden states; `first`: v is the first one.
        width: width of the hidden states.
        classes: number of logits.

    Attributes:
        kernel: float32 [width, classes].
        bias: float32 [classes].
    """

    parts = {"kernel": "classifier.weight", "bias": "classifier.bias"}

    def __init__(self, pooling: Pooling, width: int, classes: int) -> None:
        super().__init__(name="head", dtype="float32")
        self.pooling = pooling
        self.kernel = self.add_weight((width, classes), initializer(), name="kernel")
        self.bias = self.add_weight((classes,), "zeros", name="bias")
        self.built = True

    def call(self, states: Any, mask: Any, training: bool = False) -> Any:
        """Compute the logits; see `FirstTokenHead`."""
        x = vector_of(self.pooling, tf.cast(states, tf.float32), mask)
        return tf.math.l2_normalize(x, -1) @ self.kernel + self.bias


class MaskedHead(keras.layers.Layer):
    """A masked-language head: scores all tokens of the vocabulary for a position in a text.

    Args:
        form: form of the family's head.
        shape: shape of the encoder.
    """

    def __init__(self, form: MaskedForm, shape: Shape, **kwargs: Any) -> None:
        super().__init__(name="masked_head", **kwargs)
        self.parts = {"dense": form.dense, "norm": form.norm, "bias": form.bias}
        self.dense = dense(shape.width, shape.embedding_width, "dense", self.dtype_policy)
        self.dense.activation = activation(form.activation or shape.activation)
        self.norm = norm(shape.embedding_width, shape.epsilon, "norm", self.dtype_policy)
        self.bias = self.add_weight((shape.vocabulary,), "zeros", name="bias")
        self.built = True

    def call(self, states: Any, words: Any) -> Any:
        """Compute the scores of all tokens, [rows, vocabulary].

        Args:
            states: last hidden states at some positions, [rows, width].
            words: the token embeddings, [vocabulary, embedding_width].
        """
        return tf.matmul(self.norm(self.dense(states)), words, transpose_b=True) + self.bias


Head: TypeAlias = FirstTokenHead | LinearHead


def mean_of(states: Any, mask: Any) -> Any:
    """The mean of each text's hidden states without padding, [batch, width]."""
    real = tf.cast(mask, states.dtype)[:, :, None]
    return tf.reduce_sum(states * real, 1) / tf.reduce_sum(real, 1)


def vector_of(pooling: Pooling, states: Any, mask: Any) -> Any:
    """Each text's vector, [batch, width]: the first hidden state, or their mean without padding."""
    return states[:, 0] if pooling == "first" else mean_of(states, mask)

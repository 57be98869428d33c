"""The student mini: a small transformer."""

from collections.abc import Callable
from typing import Any, Literal

import keras

from kdedge.layers.pooling import TokenMean, masked
from kdedge.layers.transformer import Attention, FirstToken, PositionEmbedding, gelu_tanh
from kdedge.students.architecture import (
    POSITIONS,
    SEGMENTS,
    SENTENCE,
    TOKENS,
    Preset,
    Request,
    attention_name,
    output_name,
    student_inputs,
)


def mini(
    request: Request,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    head_width: int = 32,
    feed_forward: int = 512,
    sentence: Literal["mean", "first", "pooler"] = "mean",
    dropout: float = 0.1,
    activation: Callable[[Any], Any] | str = gelu_tanh,
    epsilon: float = 1e-12,
    name: str = "mini",
) -> keras.Model:
    """Build BERT's encoder with layer norm after each part (arXiv 1810.04805).

    Args:
        request: task, vocabulary and length of the student.
        width: width of embeddings and layers.
        layers: number of layers.
        heads: attention heads of each layer.
        head_width: width of each head.
        feed_forward: width of the feed-forward part of each layer.
        sentence: what the sentence vector is: the mean over all tokens; the first token, in which
            case the last layer computes nothing else; or a dense layer of the first token, as in
            BERT.
        dropout: rate after embeddings, attention and feed-forward parts, and before the logits.
        activation: activation of the feed-forward part.
        epsilon: epsilon of the layer norms.
        name: name of the model.
    """
    inputs = student_inputs()
    x: Any = keras.layers.Embedding(request.vocabulary, width, name=TOKENS)(inputs["ids"])
    x = PositionEmbedding(request.max_length, name=POSITIONS)(x)
    if request.pairs:
        segments = keras.layers.Embedding(2, width, name=SEGMENTS)(inputs["segment_ids"])
        x = keras.layers.Add()([x, segments])
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="embedding_norm")(x)
    x = keras.layers.Dropout(dropout)(x)
    attended = keras.layers.Reshape((1, -1), name="attended")(inputs["mask"])
    for i in range(layers):
        tokens = x
        if sentence != "mean" and i == layers - 1:
            x = FirstToken(name="first")(x)
        attention = Attention(heads, head_width, dropout=dropout, name=attention_name(i))(
            x, tokens, attention_mask=attended
        )
        x = keras.layers.LayerNormalization(epsilon=epsilon, name=f"attention_norm_{i}")(
            keras.layers.Add()([x, keras.layers.Dropout(dropout)(attention)])
        )
        dense = keras.layers.Dense(feed_forward, activation=activation, name=f"dense_in_{i}")(x)
        dense = keras.layers.Dense(width, name=f"dense_out_{i}")(dense)
        x = keras.layers.LayerNormalization(epsilon=epsilon, name=output_name(i))(
            keras.layers.Add()([x, keras.layers.Dropout(dropout)(dense)])
        )
    vector: Any
    if sentence == "mean":
        vector = TokenMean(name=SENTENCE)(masked(x, inputs["mask"]), inputs["mask"])
    elif sentence == "first":
        vector = keras.layers.Flatten(name=SENTENCE)(x)
    else:
        x = keras.layers.Flatten()(x)
        vector = keras.layers.Dense(width, activation="tanh", name=SENTENCE)(x)
    logits = request.head()(keras.layers.Dropout(dropout)(vector))
    return keras.Model(inputs, logits, name=name)


MINI = Preset(name="mini", build=mini, vocabulary=13_000, learning_rate=1e-3, has_blocks=True)

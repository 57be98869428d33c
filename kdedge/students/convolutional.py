"""The students nano and micro: convolutions of several kernel sizes over token embeddings."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras

from kdedge.layers.pooling import Compared, TokenMean, masked
from kdedge.students.architecture import SENTENCE, TOKENS, Preset, Request, student_inputs


def convolutional(
    request: Request,
    *,
    width: int,
    kernels: Sequence[int],
    filters: int,
    hidden: int,
    dropout: float,
    name: str,
) -> keras.Model:
    """Build a text CNN (arXiv 1408.5882): Conv1D, maximum and mean over the text, a dense layer.

    For pairs, each text gets its own vector from the same weights (two towers), and the two vectors
    are compared.

    Args:
        request: task, vocabulary and length of the student.
        width: width of the token embeddings.
        kernels: kernel sizes of the convolutions, in tokens.
        filters: channels of each convolution.
        hidden: width of the sentence vector.
        dropout: rate after embeddings, pooling and the sentence vector.
        name: name of the model.
    """
    inputs = student_inputs()
    tokens: Any = keras.layers.Embedding(request.vocabulary, width, name=TOKENS)(inputs["ids"])
    tokens = masked(keras.layers.Dropout(dropout)(tokens), inputs["mask"])
    grams = [
        keras.layers.Conv1D(
            filters, kernel, padding="same", activation="relu", name=f"grams_{kernel}"
        )(tokens)
        for kernel in kernels
    ]

    def vector(mask: Any, place: str = "") -> Any:
        pooled = []
        for kernel, of_kernel in zip(kernels, grams, strict=True):
            features = masked(of_kernel, mask)
            pooled.append(keras.layers.GlobalMaxPooling1D(name=f"max_{kernel}{place}")(features))
            pooled.append(TokenMean(name=f"mean_{kernel}{place}")(features, mask))
        return keras.layers.Dropout(dropout)(keras.layers.Concatenate()(pooled))

    if request.pairs:
        # Padding has segment 0.
        second = inputs["segment_ids"]
        first = keras.layers.Subtract()([inputs["mask"], second])
        both = keras.layers.Concatenate(axis=1)(
            [
                keras.layers.Reshape((1, -1))(vector(mask, place))
                for mask, place in ((first, "_first"), (second, "_second"))
            ]
        )
        text = Compared()(keras.layers.Dense(hidden, activation="relu", name="tower")(both))
    else:
        text = vector(inputs["mask"])
    sentence = keras.layers.Dense(hidden, activation="relu", name=SENTENCE)(text)
    logits = request.head()(keras.layers.Dropout(dropout)(sentence))
    return keras.Model(inputs, logits, name=name)


NANO = Preset(
    name="nano",
    build=partial(
        convolutional,
        width=32,
        kernels=(2, 3),
        filters=48,
        hidden=64,
        dropout=0.1,
        name="nano",
    ),
    vocabulary=20_000,
    learning_rate=2e-3,
)
MICRO = Preset(
    name="micro",
    build=partial(
        convolutional,
        width=56,
        kernels=(1, 2, 3, 5),
        filters=128,
        hidden=192,
        dropout=0.2,
        name="micro",
    ),
    vocabulary=18_000,
    learning_rate=2e-3,
)

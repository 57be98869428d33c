"""nano: a bag of embeddings and a small MLP."""

from typing import Any

import keras

from kdedge.students.inputs import masked, student_inputs


def nano(vocabulary: int, classes: int, width: int = 128, hidden: int = 128) -> keras.Model:
    """Mean of the token embeddings, then two dense layers (fastText, arXiv 1607.01759).

    Args:
        vocabulary: number of token ids.
        classes: number of logits.
        width: of the embeddings.
        hidden: of the dense layer, the sentence vector.
    """
    inputs = student_inputs()
    tokens: Any = keras.layers.Embedding(vocabulary, width, name="tokens")(inputs["ids"])
    tokens = masked(tokens, inputs["mask"])
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(tokens, mask=inputs["mask"])
    mean = keras.layers.Dropout(0.2)(mean)
    sentence = keras.layers.Dense(hidden, activation="relu", name="sentence")(mean)
    logits = keras.layers.Dense(classes, name="logits")(keras.layers.Dropout(0.2)(sentence))
    return keras.Model(inputs, logits, name="nano")

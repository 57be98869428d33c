"""Removes rare word pieces from a student's vocabulary."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from kdedge.compress.method import Layer, Round
from kdedge.errors import KdedgeError
from kdedge.recipe import Compress
from kdedge.students.architecture import Parts
from kdedge.students.trained import Student
from kdedge.text.pairs import Text


def prune_vocabulary(student: Student, texts: Sequence[Text], min_count: int = 1) -> Student:
    """Keep only the token embeddings of word pieces in a corpus, and of all single characters.

    Args:
        student: a student with token embeddings.
        texts: the corpus, for instance the transfer set.
        min_count: word pieces that occur less often are removed.

    Returns:
        The new student, evaluated on its valid and test splits. Its outputs are the same for every
        text that consists of word pieces that were kept.

    Raises:
        KdedgeError: no text, or the student has no token embeddings.
    """
    if not texts:
        raise KdedgeError(
            "texts: none given. At least one is needed: only word pieces of these texts are kept."
        )
    tokens = Parts(student.model).token_embedding
    encoder, kept = student.encoder.pruned(texts, min_count=min_count)
    table = tokens.get_weights()[0][kept]

    def smaller(layer: Any) -> Any:
        config = layer.get_config()
        if layer is tokens:
            config["input_dim"] = len(kept)
        return type(layer).from_config(config)

    model = keras.models.clone_model(student.model, clone_function=smaller)
    for layer in model.layers:
        old = student.model.get_layer(layer.name).get_weights()
        layer.set_weights([table] if layer.name == tokens.name else old)
    familiarity = student.familiarity and student.familiarity.pruned(kept)
    return replace(student, encoder=encoder, familiarity=familiarity).with_model(model)


class ShorterVocabulary(Round):
    """Removes word pieces rarer than `min_count` before the fine-tuning."""

    def prepare(self, student: Student, texts: Sequence[Text], settings: Compress) -> Student:
        """See `Round`."""
        return prune_vocabulary(student, texts, settings.min_count)

    def reaches(self, layer: Layer) -> bool:
        """Every layer: all of them are fine-tuned."""
        return True


ROUNDS = (ShorterVocabulary(),)

"""A student without the word pieces that its users will hardly meet."""

from collections.abc import Sequence
from typing import Any

import keras

from kdedge.compress.method import Layer, Round
from kdedge.errors import KdedgeError
from kdedge.recipe import Compress
from kdedge.students.architecture import Parts
from kdedge.students.trained import Student


def prune_vocabulary(student: Student, texts: Sequence[str], min_count: int = 1) -> Student:
    """Keep the rows of the token embeddings that a corpus needs, and all single characters.

    Args:
        student: has token embeddings.
        texts: the corpus, for instance the transfer set.
        min_count: how often a word piece must occur in it to be kept.

    Returns:
        A student that says the same of every text made of the pieces that were kept, evaluated
        anew.

    Raises:
        KdedgeError: no text, or the student has no token embeddings.
    """
    if not texts:
        raise KdedgeError("texts: none; they say which word pieces are kept.")
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
    return student.with_model(model, encoder)


class ShorterVocabulary(Round):
    """Word pieces that are rarer than `min_count` go before the fine-tuning."""

    def prepare(self, student: Student, texts: Sequence[str], settings: Compress) -> Student:
        """See `Round`."""
        return prune_vocabulary(student, texts, settings.min_count)

    def reaches(self, layer: Layer) -> bool:
        """Every layer: they all learn to do without those pieces."""
        return True


ROUNDS = (ShorterVocabulary(),)

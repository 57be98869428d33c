"""Adds adversarial texts to a store of soft labels."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from kdedge.distill.adversaries.substitution import Substitution
from kdedge.errors import KdedgeError
from kdedge.labels.store import SoftLabels
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.label import label_texts
from kdedge.text.encoder import TextEncoder
from kdedge.text.pairs import Pair, Text

BATCH = 64


def adversarial_texts(
    student: keras.Model,
    encoder: TextEncoder,
    teacher: BertTeacher,
    texts: Sequence[Text],
    store: SoftLabels,
    swaps: int = 2,
    neighbours: int = 8,
) -> tuple[list[Text], SoftLabels]:
    """Make texts on which teacher and student differ, by `Substitution`, and label them.

    They then are texts of the transfer set like all others: unlike an adversary in the training,
    they cost one labelling and nothing in the epochs that follow.

    Args:
        student: a trained student.
        encoder: text encoder of the student.
        teacher: the store's own teacher, which labels the new texts.
        texts: texts of the store to change.
        store: store with the teacher's token vectors.
        swaps: largest number of tokens that change in a text.
        neighbours: candidates for each token.

    Returns:
        The new texts, each once, as the tokenizer decodes them, and the store with them added.

    Raises:
        KdedgeError: a text without a soft label, no token vectors, or another teacher's store.
    """
    vectors = store.token_vectors()
    if vectors is None:
        raise KdedgeError(
            f"{store.folder}: no token vectors of the teacher, which are needed to find "
            "similar words."
        )
    row_of = {piece: row for row, piece in enumerate(store.encoder().vocabulary)}
    if unknown := [piece for piece in encoder.vocabulary if piece not in row_of]:
        raise KdedgeError(
            f"{store.folder}: no vectors for {len(unknown):,} of the student's word pieces. Use "
            "the soft labels that the student was trained on."
        )
    # A student usually has only some of its teacher's word pieces.
    vectors = vectors[[row_of[piece] for piece in encoder.vocabulary]]
    adversary = Substitution(
        student, vectors, encoder.vocabulary, None, swaps, neighbours, store.task
    )
    attack = tf.function(adversary.attack, reduce_retracing=True)
    logits, _ = store.lookup(texts)
    if any(isinstance(text, Pair) for text in texts):
        raise KdedgeError("texts: pairs; adversarial texts are made of single texts only.")
    new: list[Text] = []
    for start in range(0, len(texts), BATCH):
        encoded = encoder.encode(texts[start : start + BATCH])
        inputs = {name: tf.constant(array) for name, array in encoded.inputs.items()}
        ids = attack(inputs, tf.constant(logits[start : start + BATCH])).numpy()
        changed = np.flatnonzero((ids != encoded.ids).any(1))
        new += [encoder.tokenizer.decode(ids[i][encoded.mask[i] > 0].tolist()) for i in changed]
    new = store.missing(text for text in new if text)
    return new, label_texts(teacher, new, store.folder)

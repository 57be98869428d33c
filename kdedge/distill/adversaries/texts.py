"""Adversarial texts for the transfer set, labelled once."""

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

BATCH = 64


def adversarial_texts(
    student: keras.Model,
    encoder: TextEncoder,
    teacher: BertTeacher,
    texts: Sequence[str],
    store: SoftLabels,
    swaps: int = 2,
    neighbours: int = 8,
) -> tuple[list[str], SoftLabels]:
    """Make texts on which teacher and student part, by `Substitution`, and store what they mean.

    Labelled once, they are like any other text of the transfer set: the adversary costs nothing in
    the epochs that follow.

    Args:
        student: as it is by now.
        encoder: the student's.
        teacher: labels the texts; the one of the store.
        texts: to change, all of them in the store.
        store: has the teacher's token vectors.
        swaps: at most so many tokens of a text change.
        neighbours: candidates for each token.

    Returns:
        The new texts, each once, as the tokenizer puts word pieces together, and the store with
        them.

    Raises:
        KdedgeError: a text without a soft label, no token vectors, or another teacher's store.
    """
    vectors = store.token_vectors()
    if vectors is None:
        raise KdedgeError(f"{store.folder}: no token vectors of a teacher, by which to find words.")
    adversary = Substitution(
        student, vectors, encoder.vocabulary, None, swaps, neighbours, store.task
    )
    attack = tf.function(adversary.attack, reduce_retracing=True)
    said, _ = store.lookup(texts)
    made: list[str] = []
    for start in range(0, len(texts), BATCH):
        encoded = encoder.encode(texts[start : start + BATCH])
        inputs = {name: tf.constant(array) for name, array in encoded.inputs.items()}
        ids = attack(inputs, tf.constant(said[start : start + BATCH])).numpy()
        changed = np.flatnonzero((ids != encoded.ids).any(1))
        made += [encoder.tokenizer.decode(ids[i][encoded.mask[i] > 0].tolist()) for i in changed]
    made = store.missing(text for text in made if text)
    return made, label_texts(teacher, made, store.folder)

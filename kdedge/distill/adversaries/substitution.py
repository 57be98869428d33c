"""An adversary that swaps tokens for similar ones (HotFlip)."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdedge.distill.adversaries.adversary import Adversary, Context, Inputs
from kdedge.errors import KdedgeError
from kdedge.objectives import objective_of
from kdedge.recipe import Distill
from kdedge.students.architecture import Parts
from kdedge.tasks import Task
from kdedge.text.neighbours import nearest_pieces


class Substitution(Adversary):
    """Swaps tokens for similar ones where teacher and student then differ most.

    HotFlip (Ebrahimi et al. 2017, arXiv 1712.06751): with the gradient g of KL(teacher || student)
    at a token's embedding e, a swap to the embedding e' raises the KL by about g . (e' - e). The
    best swap of a text is made, then the gradient is taken again for the next one. Candidates are
    the nearest neighbours in a table of vectors, so that the text keeps its sense. Special tokens,
    padding and tokens that are not made of letters are not swapped.

    Args:
        student: a student with token embeddings.
        vectors: vectors to find neighbours with, float [vocabulary, width], for instance
            `SoftLabels.token_vectors()`.
        vocabulary: word pieces in the order of their ids.
        teacher: labels the changed inputs; not needed for `attack`.
        swaps: largest number of tokens that change in a text.
        neighbours: candidates for each token.
        task: task of the logits; None for classification.

    Raises:
        KdedgeError: a student without token embeddings, or a vocabulary that is not its own.
    """

    needs_teacher = True

    def __init__(
        self,
        student: keras.Model,
        vectors: npt.NDArray[np.floating[Any]],
        vocabulary: Sequence[str],
        teacher: keras.Model | None = None,
        swaps: int = 2,
        neighbours: int = 8,
        task: Task | None = None,
    ) -> None:
        if swaps < 1:
            raise KdedgeError(f"swaps: {swaps}; at least 1.")
        self.parts = Parts(student)
        size = self.parts.token_embedding.input_dim
        if size != len(vocabulary):
            raise KdedgeError(f"vocabulary: {len(vocabulary)} word pieces; the student has {size}.")
        self.student, self.teacher, self.swaps = student, teacher, swaps
        self.divergence = objective_of(task).divergence
        self.candidates = tf.constant(nearest_pieces(vectors, vocabulary, neighbours))

    @classmethod
    def from_settings(cls, settings: Distill, context: Context) -> Self:
        """With the teacher's own token vectors; see `Adversary`."""
        vectors = context.store.token_vectors()
        if vectors is None:
            raise KdedgeError(
                f"{context.store.folder}: no token vectors of the teacher, which adversary = "
                '"substitution" needs to find similar words. Use another adversary.'
            )
        return cls(
            context.student,
            vectors,
            context.encoder.vocabulary,
            context.teacher,
            swaps=settings.adversarial_swaps,
            task=context.task,
        )

    def attack(self, inputs: Inputs, teacher_logits: Any) -> Any:
        """See `Adversary`."""
        ids = tf.convert_to_tensor(inputs["ids"])
        tokens = self.parts.token_embedding
        table = tokens.embeddings
        changed = tf.zeros_like(ids, tf.bool)
        for _ in range(self.swaps):
            embeddings = tf.gather(table, ids)
            with tf.GradientTape() as tape:
                tape.watch(embeddings)
                logits = self.parts.run_from(tokens, embeddings, inputs, training=False)
                divergence = self.divergence(teacher_logits, logits)
            gradient = tape.gradient(divergence, embeddings)
            candidates = tf.gather(self.candidates, ids)
            gains = tf.einsum("blw,blcw->blc", gradient, tf.gather(table, candidates))
            gains -= tf.reduce_sum(gradient * embeddings, -1, keepdims=True)
            # A token without neighbours is its own candidate; a token changes only once.
            free = (candidates != ids[:, :, None]) & ~changed[:, :, None]
            free &= inputs["mask"][:, :, None] > 0
            gains = tf.where(free, gains, 0.0)
            choices = tf.shape(gains)[2]
            gains = tf.reshape(gains, [tf.shape(ids)[0], -1])
            best = tf.argmax(gains, 1, output_type=tf.int32)
            is_swapped = tf.one_hot(
                best // choices, tf.shape(ids)[1], on_value=True, off_value=False
            )
            is_swapped &= tf.reduce_max(gains, 1, keepdims=True) > 0
            swapped = tf.gather(tf.reshape(candidates, tf.shape(gains)), best, batch_dims=1)
            ids = tf.where(is_swapped, swapped[:, None], ids)
            changed |= is_swapped
        return ids

"""A student and a loss in a file: `student = "toy:TOY"`, `losses = { "toy:ToyLoss" = 0.5 }`."""

from typing import Any

import keras

from kdedge import DistillationLoss
from kdedge.layers.pooling import TokenMean, masked
from kdedge.students.architecture import SENTENCE, TOKENS, Preset, Request, student_inputs


def bag_of_vectors(request: Request) -> keras.Model:
    """The mean of a text's token embeddings."""
    inputs = student_inputs()
    vectors = keras.layers.Embedding(request.vocabulary, 16, name=TOKENS)(inputs["ids"])
    vectors = masked(vectors, inputs["mask"])
    sentence = TokenMean(name=SENTENCE)(vectors, inputs["mask"])
    return keras.Model(inputs, request.head()(sentence), name="bag")


TOY = Preset("bag", bag_of_vectors, vocabulary=1000, learning_rate=5e-3)


class ToyLoss(DistillationLoss):
    """Cosine distance of the teacher's sentence vector and the student's, projected."""

    name = "toy_loss"
    teacher_output = "pooled"

    def tap(self, student: Any) -> Any:
        """See `DistillationLoss`."""
        return student.sentence

    def adapter(self, student: Any) -> keras.layers.Layer:
        """See `DistillationLoss`; the teacher's vectors have 32 numbers."""
        return keras.layers.Dense(32)

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """See `DistillationLoss`."""
        teacher = keras.ops.cast(teacher_outputs, "float32")
        return 1 + keras.losses.cosine_similarity(teacher, student_outputs)

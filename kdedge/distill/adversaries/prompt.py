"""An adversary that moves virtual tokens against the student."""

from typing import Any

import keras
import tensorflow as tf

from kdedge.distill.adversaries.adversary import Adversary, Inputs
from kdedge.distill.prompts.task import embedded, prompted_place
from kdedge.errors import KdedgeError
from kdedge.objectives.classification import divergence
from kdedge.students.architecture import run_from


class AdversarialPrompt(Adversary):
    """Virtual tokens before the text, moved against the student within a ball around 0.

    Adversarial training on embeddings (Miyato et al. 2016, arXiv 1605.07725): the tokens go along
    the gradient of KL(teacher || student), to the edge of the ball. They mean nothing, so the
    teacher need not look again: stored soft labels are enough.

    Args:
        student: has an embedding layer named `tokens`.
        tokens: number of virtual tokens.
        radius: of the ball, the norm of a text's virtual tokens together.
        steps: how often the gradient is taken.

    Raises:
        KdedgeError: an argument that is not as it says here.
    """

    teacher = None

    def __init__(
        self, student: keras.Model, tokens: int = 4, radius: float = 1.0, steps: int = 1
    ) -> None:
        if tokens < 1 or steps < 1:
            raise KdedgeError(f"tokens: {tokens}, steps: {steps}; at least 1 each.")
        if not radius > 0:
            raise KdedgeError(f"radius: {radius}; it must be above 0.")
        self.student, self.place = student, prompted_place(student)
        self.tokens, self.radius, self.steps = tokens, radius, steps

    def logits(self, inputs: Inputs, teacher_logits: Any) -> tuple[Any, Any]:
        """See `Adversary`."""
        x = embedded(self.student, inputs)
        ones = tf.ones_like(inputs["mask"][:, :1])
        mask = tf.concat([tf.tile(ones, [1, self.tokens]), inputs["mask"]], 1)

        def said(prompt: Any, training: bool) -> Any:
            prompted = tf.concat([prompt, x], 1)
            return run_from(
                self.student, self.place, prompted, {**inputs, "mask": mask}, training=training
            )

        prompt = tf.zeros([tf.shape(x)[0], self.tokens, x.shape[-1]])
        for _ in range(self.steps):
            with tf.GradientTape() as tape:
                tape.watch(prompt)
                apart = divergence(teacher_logits, said(prompt, training=False))
            gradient = tape.gradient(apart, prompt)
            prompt = _cut(prompt + _scaled(gradient, self.radius), self.radius)
        return teacher_logits, said(tf.stop_gradient(prompt), training=True)


def _scaled(x: Any, length: float) -> Any:
    norm = tf.norm(x, axis=(1, 2), keepdims=True)
    return length * x / tf.maximum(norm, 1e-12)


def _cut(x: Any, length: float) -> Any:
    norm = tf.norm(x, axis=(1, 2), keepdims=True)
    return x * tf.minimum(1.0, length / tf.maximum(norm, 1e-12))

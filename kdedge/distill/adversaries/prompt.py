"""An adversary that moves virtual tokens against the student."""

from typing import Any, Self

import keras
import tensorflow as tf

from kdedge.distill.adversaries.adversary import Adversary, Context, Inputs
from kdedge.errors import KdedgeError
from kdedge.objectives import objective_of
from kdedge.recipe import Distill
from kdedge.students.architecture import Parts
from kdedge.tasks import Task


class AdversarialPrompt(Adversary):
    """Virtual tokens before the text, moved against the student within a ball around 0.

    Adversarial training on embeddings (Miyato et al. 2016, arXiv 1605.07725): the tokens move along
    the gradient of KL(teacher || student), to the edge of the ball. They have no meaning, so the
    soft labels of the unchanged texts stay valid, and no teacher is needed.

    Args:
        student: a student with token embeddings.
        tokens: number of virtual tokens.
        radius: radius of the ball: the largest norm of all virtual tokens of a text together.
        steps: gradient steps for each batch.
        task: task of the logits; None for classification.

    Raises:
        KdedgeError: an argument is out of its range.
    """

    teacher = None

    def __init__(
        self,
        student: keras.Model,
        tokens: int = 4,
        radius: float = 1.0,
        steps: int = 1,
        task: Task | None = None,
    ) -> None:
        if tokens < 1 or steps < 1:
            raise KdedgeError(f"tokens: {tokens}, steps: {steps}; at least 1 each.")
        if not radius > 0:
            raise KdedgeError(f"radius: {radius}; it must be above 0.")
        self.student, self.parts = student, Parts(student)
        self.place, self.divergence = self.parts.embedded, objective_of(task).divergence
        self.tokens, self.radius, self.steps = tokens, radius, steps

    @classmethod
    def from_settings(cls, settings: Distill, context: Context) -> Self:
        """See `Adversary`."""
        return cls(
            context.student,
            settings.prompt_tokens,
            settings.adversarial_radius,
            task=context.task,
        )

    def logits(self, inputs: Inputs, teacher_logits: Any) -> tuple[Any, Any]:
        """See `Adversary`."""
        x = self.parts.embed(inputs["ids"])
        ones = tf.ones_like(inputs["mask"][:, :1])
        mask = tf.concat([tf.tile(ones, [1, self.tokens]), inputs["mask"]], 1)

        def logits_with(prompt: Any, training: bool) -> Any:
            prompted = tf.concat([prompt, x], 1)
            return self.parts.run_from(
                self.place, prompted, {**inputs, "mask": mask}, training=training
            )

        prompt = tf.zeros([tf.shape(x)[0], self.tokens, x.shape[-1]])
        for _ in range(self.steps):
            with tf.GradientTape() as tape:
                tape.watch(prompt)
                logits = logits_with(prompt, training=False)
                divergence = self.divergence(teacher_logits, logits)
            gradient = tape.gradient(divergence, prompt)
            prompt = _cut(prompt + _scaled(gradient, self.radius), self.radius)
        return teacher_logits, logits_with(tf.stop_gradient(prompt), training=True)


def _scaled(x: Any, length: float) -> Any:
    norm = tf.norm(x, axis=(1, 2), keepdims=True)
    return length * x / tf.maximum(norm, 1e-12)


def _cut(x: Any, length: float) -> Any:
    norm = tf.norm(x, axis=(1, 2), keepdims=True)
    return x * tf.minimum(1.0, length / tf.maximum(norm, 1e-12))

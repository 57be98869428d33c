"""Prompts: text around the text, or virtual tokens before it."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kdedge.distill.adversary import Adversary, Inputs
from kdedge.distill.losses import divergence
from kdedge.distill.schedules import Schedule, value_at, values_of
from kdedge.errors import KdedgeError
from kdedge.students.inside import run_from, token_layer
from kdedge.students.layers import TaskPrompt


def raw_prompt(template: str, texts: Sequence[str]) -> list[str]:
    """Put each text into a template, `"Review: {text} Good or bad?"`.

    Raises:
        KdedgeError: the template does not hold `{text}` exactly once.
    """
    if template.count("{text}") != 1:
        raise KdedgeError(f"template: {template!r}; it must hold {{text}} once.")
    before, after = template.split("{text}")
    return [f"{before}{text}{after}" for text in texts]


def prompted_place(student: keras.Model) -> str:
    """The layer after which virtual tokens are put: behind the positions, if there are any.

    So the text's tokens keep their positions, and a student can do without the prompt.
    """
    token_layer(student)
    return "positions" if "positions" in [la.name for la in student.layers] else "tokens"


def embedded(student: keras.Model, inputs: Inputs) -> Any:
    """The student's embeddings with positions, float32 [batch, length, width]."""
    x = token_layer(student)(inputs["ids"])
    return student.get_layer("positions")(x) if prompted_place(student) == "positions" else x


def with_task_prompt(student: keras.Model, tokens: int) -> keras.Model:
    """A student with learned virtual tokens before each text, baked into its graph.

    Prompt tuning (Lester et al. 2021, arXiv 2104.08691): training finds the vectors; whoever runs
    the student, exported or not, gives it the text alone.

    Args:
        student: has an embedding layer named `tokens`; it is left as it is.
        tokens: number of virtual tokens.

    Returns:
        A new student, with the given one's weights and inputs.

    Raises:
        KdedgeError: no token embeddings, or fewer than 1 token.
    """
    place = prompted_place(student)
    prompt = TaskPrompt(tokens, name="prompt")
    base = keras.models.clone_model(student)
    inputs = {tensor.name: tensor for tensor in base.inputs}
    x, mask = prompt(base.get_layer(place).output, inputs["mask"])
    logits = run_from(base, place, x, {**inputs, "mask": mask})
    # The layers of `base` are in two graphs by now; those of its copy are in one.
    prompted = keras.models.clone_model(keras.Model(inputs, logits, name=student.name))
    for layer in student.layers:
        prompted.get_layer(layer.name).set_weights(layer.get_weights())
    return prompted


@keras.saving.register_keras_serializable("kdedge")
class SoftLabelPrompt(keras.layers.Layer):
    """Tells the student in training what the teacher says, by virtual tokens, less and less often.

    Each class has vectors of its own, which are learned, as in prompt tuning (Lester et al. 2021,
    arXiv 2104.08691), and mixed by the teacher's soft label: knowledge that the student has in
    training only (Lopez-Paz et al. 2015, arXiv 1511.03643). A schedule drops them, text by text,
    until the student stands alone; in `evaluate`, `predict` and the exported student there are
    none.

    Args:
        classes: number of the teacher's logits.
        tokens: number of virtual tokens.
        dropped: share of the texts without a prompt, over the training.
        temperature: of the soft label.
        seed: of the choice of texts.

    Raises:
        KdedgeError: an argument that is not as it says here.
    """

    def __init__(
        self,
        classes: int,
        tokens: int = 4,
        dropped: float | Schedule | None = None,
        temperature: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dropped = Schedule(0.0, 1.0) if dropped is None else dropped
        if tokens < 1:
            raise KdedgeError(f"tokens: {tokens}; at least 1.")
        if not temperature > 0:
            raise KdedgeError(f"temperature: {temperature}; it must be above 0.")
        if any(not 0 <= value <= 1 for value in values_of(self.dropped)):
            raise KdedgeError(f"dropped: {values_of(self.dropped)}; from 0 to 1 is allowed.")
        self.classes, self.tokens, self.temperature = classes, tokens, temperature
        self.random = keras.random.SeedGenerator(seed)

    def build(
        self,
        x_shape: tuple[int | None, ...],
        real_shape: Any = None,
        teacher_logits_shape: Any = None,
        done_shape: Any = None,
    ) -> None:
        """Make the table, float32 [classes, tokens, width]."""
        self.table = self.add_weight(
            shape=(self.classes, self.tokens, x_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )

    def call(self, x: Any, real: Any, teacher_logits: Any, done: Any) -> tuple[Any, Any]:
        """Put the prompt before a text's embeddings.

        Args:
            x: float32 [batch, length, width].
            real: int32 [batch, length], 0 for padding.
            teacher_logits: float32 [batch, classes].
            done: the share of the training that is done, float32 from 0 to 1.

        Returns:
            x and `real` with `tokens` places more in front, which are padding where the prompt was
            dropped.
        """
        soft_label = ops.softmax(teacher_logits / self.temperature)
        vectors = ops.einsum("bc,ctw->btw", soft_label, self.table)
        chance = keras.random.uniform((ops.shape(x)[0], 1), seed=self.random)
        kept = ops.cast(chance >= value_at(self.dropped, done), real.dtype)
        return (
            ops.concatenate([vectors, x], axis=1),
            ops.concatenate([ops.tile(kept, (1, self.tokens)), real], axis=1),
        )

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {
            **super().get_config(),
            "classes": self.classes,
            "tokens": self.tokens,
            "dropped": keras.saving.serialize_keras_object(self.dropped),
            "temperature": self.temperature,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SoftLabelPrompt":
        """Build from `get_config`."""
        dropped = keras.saving.deserialize_keras_object(config["dropped"])
        return cls(**config | {"dropped": dropped})


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

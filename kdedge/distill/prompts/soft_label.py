"""A prompt of virtual tokens that holds the soft label, in training only."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kdedge.distill.prompts.layer import PromptLayer
from kdedge.errors import KdedgeError
from kdedge.objectives import objective_of
from kdedge.objectives.losses import DistillationLoss
from kdedge.objectives.schedules import Schedule, value_at, values_of
from kdedge.students.architecture import Parts
from kdedge.tasks import Task, read_task


@keras.saving.register_keras_serializable("kdedge")
class SoftLabelPrompt(PromptLayer):
    """Gives the student the soft label as virtual tokens in training, less and less often.

    Each class has learned vectors, as in prompt tuning (Lester et al. 2021, arXiv 2104.08691); the
    teacher's soft label mixes them. This is knowledge that the student has in training only
    (Lopez-Paz et al. 2015, arXiv 1511.03643). A schedule drops the prompt for more and more texts;
    `evaluate`, `predict` and the exported student have none.

    Args:
        classes: number of the teacher's logits.
        tokens: number of virtual tokens.
        dropped: share of the texts without a prompt; None for a schedule from 0 to 1.
        temperature: temperature of the soft label.
        seed: seed of the choice of texts.
        task: task of the logits; None for classification.

    Raises:
        KdedgeError: an argument is out of its range.
    """

    def __init__(
        self,
        classes: int,
        tokens: int = 4,
        dropped: float | Schedule | None = None,
        temperature: float = 1.0,
        seed: int | None = None,
        task: Task | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task, self.mixture = task, objective_of(task).mixture
        self.dropped = Schedule(0.0, 1.0) if dropped is None else dropped
        if tokens < 1:
            raise KdedgeError(f"tokens: {tokens}; at least 1.")
        if not temperature > 0:
            raise KdedgeError(f"temperature: {temperature}; it must be above 0.")
        if any(not 0 <= value <= 1 for value in values_of(self.dropped)):
            raise KdedgeError(f"dropped: {values_of(self.dropped)}; from 0 to 1 is allowed.")
        self.classes, self.tokens, self.temperature = classes, tokens, temperature
        # Fails here for tasks without soft labels.
        self.mixture(ops.zeros((1, classes)))
        self.random = keras.random.SeedGenerator(seed)

    def attach(self, student: Parts, losses: Sequence[DistillationLoss]) -> None:
        """Make the table; see `PromptLayer`."""
        width = student.embedded.output.shape[-1]
        if any(loss.of_tokens for loss in losses):
            raise KdedgeError(
                "prompt: soft-label adds tokens to the student's texts, so losses on hidden states "
                "and attention maps can't compare them with the teacher's. Leave one of them out."
            )
        if not self.built:
            self.build((None, None, width))

    def run(self, student: Parts, inputs: Any, teacher: dict[str, Any], done: Any) -> Any:
        """Put virtual tokens before the texts' embeddings; see `PromptLayer`."""
        x, mask = self(student.embed(inputs["ids"]), inputs["mask"], teacher["logits"], done=done)
        return student.run_from(student.embedded, x, {**inputs, "mask": mask}, training=True)

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
        soft_label = self.mixture(teacher_logits / self.temperature)
        vectors = ops.einsum("bc,ctw->btw", soft_label, self.table)
        chance = keras.random.uniform((ops.shape(x)[0], 1), seed=self.random)
        kept = ops.cast(chance >= value_at(self.dropped, done), real.dtype)
        return (
            ops.concatenate([vectors, x], axis=1),
            ops.concatenate([ops.tile(kept, (1, self.tokens)), real], axis=1),
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments of `from_config`."""
        return {
            **super().get_config(),
            "classes": self.classes,
            "tokens": self.tokens,
            "dropped": keras.saving.serialize_keras_object(self.dropped),
            "temperature": self.temperature,
            "task": None if self.task is None else self.task.model_dump(mode="json"),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SoftLabelPrompt":
        """Build from `get_config`."""
        dropped = keras.saving.deserialize_keras_object(config["dropped"])
        task = None if config.get("task") is None else read_task(config["task"])
        return cls(**config | {"dropped": dropped, "task": task})

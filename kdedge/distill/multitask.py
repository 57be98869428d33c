"""Several tasks in one student: one encoder with a head for each task. No recipe uses it.

An ablation of release 0.1.0 showed no gain from a second task.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kdedge.distill.distiller import Distiller
from kdedge.errors import KdedgeError


class MultiTaskDistiller(keras.Model):
    """Trains students that share layers, each for its own task, in one pass.

    total = sum(task weight * total loss of the task's Distiller). Weights are fixed or, as in
    Kendall, Gal, Cipolla 2017 (arXiv 1705.07115), learned: with a log variance s for each task, a
    loss L counts in training as exp(-s) L + s / 2 times its weight.

    `fit` and `evaluate` take as targets a dictionary with, for each task, what its Distiller takes:
    labels, where -1 is none, and stored soft labels if it has no live teacher. Metrics are named
    `TASK_LOSS`.

    Args:
        tasks: a Distiller for each task. Their students have the same inputs and may share layers:
            `keras.Model(inputs, head(sentence))` with one head each.
        task_weights: one weight for each task; None for equal weights of 1.
        adaptive_weights: learn the weights, starting from the given ones.

    Raises:
        KdedgeError: no task, students with other inputs, adversaries or prompts, or bad weights.
    """

    def __init__(
        self,
        tasks: Mapping[str, Distiller],
        task_weights: Mapping[str, float] | None = None,
        adaptive_weights: bool = False,
    ) -> None:
        super().__init__(name="multi_task_distiller")
        weights = dict(task_weights or dict.fromkeys(tasks, 1.0))
        if not tasks or set(weights) != set(tasks) or min(weights.values()) < 0:
            raise KdedgeError(
                f"task_weights: {weights} for the tasks {', '.join(tasks)}; at least one task, and "
                "a weight of at least 0 for each are needed."
            )
        first = next(iter(tasks.values())).student
        for name, task in tasks.items():
            if not task.symbolic_outputs:
                raise KdedgeError(f"tasks: the student of {name} must be a functional model.")
            if [id(tensor) for tensor in task.student.inputs] != [id(x) for x in first.inputs]:
                raise KdedgeError(
                    f"tasks: the student of {name} must have the inputs of the others."
                )
            # Both need steps of a single-task Distiller, which are not run here.
            if task.prompt or any(loss.training_only for loss in task.distillation_losses):
                raise KdedgeError(f"tasks: {name} has a prompt or an adversary; leave it out.")
        self.tasks, self.task_weights = dict(tasks), weights
        self.adaptive_weights = adaptive_weights
        if adaptive_weights:
            self.log_variances = self.add_weight(
                shape=(len(tasks),), initializer="zeros", name="log_variances"
            )
        self.student = keras.Model(
            first.inputs, {name: task.symbolic_outputs for name, task in tasks.items()}
        )

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """Configure training, as in Keras; each task keeps its own loss on labels."""
        for task in self.tasks.values():
            task.compile(optimizer=None)
        keras.Model.compile(self, optimizer=optimizer, **{"jit_compile": False} | kwargs)

    def build(self, input_shape: Any) -> None:
        """Nothing is left to build."""
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        """For each task a dictionary with `logits` and the outputs that its losses need."""
        return dict(self.student(inputs, training=training))

    def predict_step(self, data: Any) -> dict[str, Any]:
        """For each task its logits, for `predict`."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return {name: outputs["logits"] for name, outputs in self(x, training=False).items()}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The total loss of a batch, a scalar; updates the metrics of each task."""
        total = 0.0
        for i, (name, task) in enumerate(self.tasks.items()):
            loss = task.compute_loss(x, y[name], y_pred[name], sample_weight, training)
            if self.adaptive_weights and training:
                loss = ops.exp(-self.log_variances[i]) * loss + self.log_variances[i] / 2
            total += self.task_weights[name] * loss
        return total

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The mean of each task's losses."""
        named = {
            f"{name}_{loss}": mean.result()
            for name, task in self.tasks.items()
            for loss, mean in task.loss_means.items()
        }
        return {"loss": self._loss_tracker.result(), **named}

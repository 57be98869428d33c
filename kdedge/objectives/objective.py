"""The interface of what a model learns for a task: head, losses, metrics."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import keras

from kdedge.objectives.losses import DistillationLoss
from kdedge.objectives.schedules import Schedule
from kdedge.tasks import Task


class Objective(ABC):
    """Head, losses and metrics of a task; `objective_of(task)` gives the right subclass.

    Args:
        task: the task, with label names and numbers of the data.

    Attributes:
        label_dtype: dtype of labels in TensorFlow.
    """

    label_dtype: ClassVar[str]

    def __init__(self, task: Task) -> None:
        self.task = task

    def head(self) -> keras.layers.Layer:
        """A new layer named `logits`: sentence vector float32 [batch, width] -> logits."""
        return keras.layers.Dense(self.task.width, name="logits")

    @abstractmethod
    def outputs(self, logits: Any) -> Any:
        """`Task.outputs` in TensorFlow: logits to the outputs of an exported LiteRT model."""

    @abstractmethod
    def label_loss(self) -> keras.losses.Loss:
        """The loss on labels and logits; its `call` gives float32 [batch]."""

    @abstractmethod
    def soft_label_loss(self, temperature: float | Schedule) -> DistillationLoss:
        """The loss on the logits of teacher and student."""

    @abstractmethod
    def two_sided_loss(self) -> DistillationLoss:
        """The loss on logits for adversarial inputs."""

    def mixture(self, logits: Any) -> Any:
        """Weights of the outputs in a soft-label prompt, float32 [batch, width].

        Args:
            logits: the teacher's logits, float32 [batch, width], divided by a temperature.

        Raises:
            KdedgeError: the task has no soft labels.
        """
        return self.outputs(logits)

    @abstractmethod
    def divergence(self, teacher_logits: Any, student_logits: Any) -> Any:
        """Distance between the logits of two models [batch, width], float32 [batch]."""

    @abstractmethod
    def metrics(self) -> list[Any]:
        """Keras metrics of labels and logits; the first is the task's metric."""

    @abstractmethod
    def labels(self, given: Any) -> tuple[Any, Any]:
        """Labels for `label_loss` and `metrics`, and which examples have one.

        Args:
            given: labels of a batch, as in `kdedge.tasks.Labels`.

        Returns:
            The labels, with a valid value for missing ones; and 1 for examples that have a label, 0
            for the others, float32 [batch].
        """

    @abstractmethod
    def chosen_output(self, logits: Any) -> Any:
        """The position of the output that the prediction is based on, int [batch]."""

    @abstractmethod
    def evidence(self, logits: Any, answers: Any) -> Any:
        """How strongly the logits support an output, float32 [batch]; used by `kdedge.explain`.

        Args:
            logits: float32 [batch, width].
            answers: int [batch], the output to explain, for instance `chosen_output`.
        """

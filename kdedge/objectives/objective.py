"""The TensorFlow half of a task: heads and losses."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import keras

from kdedge.objectives.losses import DistillationLoss
from kdedge.objectives.schedules import Schedule
from kdedge.tasks import Task


class Objective(ABC):
    """What a model learns for a task; `objective_of(task)` gives the one that fits.

    Args:
        task: its data's names and numbers.

    Attributes:
        label_dtype: of labels as TensorFlow gets them.
    """

    label_dtype: ClassVar[str]

    def __init__(self, task: Task) -> None:
        self.task = task

    def head(self) -> keras.layers.Layer:
        """The last layer of a student, `logits`: sentence float32 [batch, width] -> logits."""
        return keras.layers.Dense(self.task.width, name="logits")

    @abstractmethod
    def outputs(self, logits: Any) -> Any:
        """As `Task.outputs`, in TensorFlow: what an exported LiteRT model gives."""

    @abstractmethod
    def label_loss(self) -> keras.losses.Loss:
        """On labels and logits; its `call` gives a value an example, float32 [batch]."""

    @abstractmethod
    def soft_label_loss(self, temperature: float | Schedule) -> DistillationLoss:
        """On the teacher's and the student's logits."""

    @abstractmethod
    def two_sided_loss(self) -> DistillationLoss:
        """On logits where an adversary has driven teacher and student apart."""

    def mixture(self, logits: Any) -> Any:
        """How much each output's part counts in a prompt that is mixed by the soft label.

        Args:
            logits: the teacher's, float32 [batch, width], divided by a temperature.

        Raises:
            KdedgeError: the task has no soft labels to mix by.
        """
        return self.outputs(logits)

    @abstractmethod
    def divergence(self, teacher_logits: Any, student_logits: Any) -> Any:
        """How far two models are apart, float32 [batch], of logits [batch, width]."""

    @abstractmethod
    def metrics(self) -> list[Any]:
        """Keras metrics of labels and logits; the first is the task's own."""

    @abstractmethod
    def labels(self, given: Any) -> tuple[Any, Any]:
        """Labels as `label_loss` and `metrics` take them, and which examples have one.

        Args:
            given: a batch's, as in `kdedge.tasks.Labels`.

        Returns:
            The labels, something that can be read in the place of missing ones; and 1 for examples
            that have a label and 0 for the others, float32 [batch].
        """

    @abstractmethod
    def decided(self, logits: Any) -> Any:
        """For each text the output that its answer stands on, int [batch]."""

    @abstractmethod
    def evidence(self, logits: Any, answers: Any) -> Any:
        """What an answer's logits speak for it, float32 [batch]; `kdedge.explain` asks why.

        Args:
            logits: float32 [batch, width].
            answers: int [batch], which of the outputs is asked about, for instance `decided`.
        """

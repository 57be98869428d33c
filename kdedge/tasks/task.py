"""The contract of a task: how labels are read, what an output means, how good it is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from kdedge.errors import KdedgeError

# One row a text; the task says what a row is.
Labels = npt.NDArray[Any]
# float32 [texts, width].
Logits = npt.NDArray[np.float32]
Outputs = npt.NDArray[np.float32]
# What an answer says that the model is unsure of.
UNSURE = "unsure"


class Answer(Protocol):
    """What an app shows of a text; each task has a frozen dataclass of its own."""

    @property
    def unsure(self) -> bool:
        """Whether the model is too unsure of the answer for it to be shown."""
        ...

    def text(self) -> str:
        """The answer in a word or two."""
        ...

    def line(self) -> str:
        """The answer as tab-separated columns, for a terminal."""
        ...

    def fields(self) -> dict[str, Any]:
        """The answer as a JSON object."""
        ...


class Task(BaseModel, ABC):
    """A task with the names and numbers that its data has, for instance the classes.

    Frozen, and stored as JSON (`model_dump`) with soft labels, students and bundles. Its
    TensorFlow half, heads and losses, is in `kdedge.objectives`.

    Attributes:
        metric: name of the number by which the best epoch is chosen and exported files are judged;
            at most 1, and more is better.
        output: name of a model's outputs, in files and in columns.
        has_classes: whether each text is of one class, so that rare ones can be weighted.
        has_confidence: whether an answer is right or wrong, with a probability to be right. Then
            `scaled`, `log_loss`, `right` and `answer_numbers` are there, and a bundle can say which
            answers are unsure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    metric: ClassVar[str]
    output: ClassVar[str]
    has_classes: ClassVar[bool] = False
    has_confidence: ClassVar[bool] = False

    def __str__(self) -> str:
        """What it tells apart, for messages."""
        return ", ".join(self.output_names)

    # Labels

    @classmethod
    @abstractmethod
    def parse(cls, value: Any, where: str) -> Any | None:
        """A label as a file has it, checked; None where the row has none.

        Args:
            value: of the label's column.
            where: file, line and column, for messages.

        Raises:
            KdedgeError: it is no label of this task.
        """

    @classmethod
    @abstractmethod
    def from_labels(cls, parsed: Sequence[Any], where: str) -> tuple[Self, Labels]:
        """The task that a corpus is for, and its labels as numbers, a row a text.

        Args:
            parsed: what `parse` gave for each labelled row.
            where: file and column, for messages.

        Raises:
            KdedgeError: these labels are not enough for this task.
        """

    @abstractmethod
    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """For each text the group whose share every split keeps, int64 [texts]."""

    @abstractmethod
    def stratum_name(self, stratum: int) -> str:
        """What messages call a group of `strata`."""

    def known(self, labels: Labels, train: Labels) -> npt.NDArray[np.bool_]:
        """For each text whether all that its label says occurs in the training split."""
        return np.isin(self.strata(labels), self.strata(train))

    @abstractmethod
    def counts(self, labels: Labels) -> dict[str, int]:
        """How many texts each label has, by what messages call it; empty if labels are numbers."""

    def fitted(self, train: Labels) -> Self:
        """This task with what it takes from the labels of the training split: nothing."""
        return self

    def within(self, score_range: tuple[float, float]) -> Self:
        """This task with scores that stay in a range.

        Raises:
            KdedgeError: it has no scores, or the range has no second end above its first.
        """
        raise KdedgeError(f'score_range: is for task = "regression"; this one is {self.name}.')

    @abstractmethod
    def unlabelled(self, count: int) -> Labels:
        """Labels of `count` texts that say that there are none."""

    @abstractmethod
    def numbers(self, parsed: Sequence[Any], where: str) -> Labels:
        """Labels that another corpus has, as this task's numbers, a row a text.

        Args:
            parsed: what `parse` gave for each.
            where: they are, for messages.

        Raises:
            KdedgeError: this task has no such label.
        """

    @abstractmethod
    def parsed(self, label: Any) -> Any:
        """A row of labels as `parse` gave it."""

    @abstractmethod
    def label_of(self, label: Any) -> str:
        """A row of labels in words."""

    def with_logits_of(self, other: "Task") -> Self:
        """This task, for logits of a teacher whose task is `other`.

        Raises:
            KdedgeError: the teacher has other labels.
        """
        if self != other:
            raise KdedgeError(f"the soft labels are for {other}, the data has {self}.")
        return self

    def from_logits_of(self, other: "Task") -> tuple[float, float]:
        """Factor and summand that make logits of another task of this kind logits of this one."""
        return 1.0, 0.0

    # Outputs

    @property
    @abstractmethod
    def width(self) -> int:
        """How many logits a text has."""

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """What each output stands for, in their order: what clients show."""

    @property
    def unit(self) -> float:
        """What differences of outputs are small or large against."""
        return 1.0

    @abstractmethod
    def outputs(self, logits: Logits) -> Outputs:
        """What an exported model gives where its graph ends in logits, float32 [texts, width]."""

    @abstractmethod
    def logits(self, outputs: Outputs, where: str) -> Logits:
        """Logits that give these outputs, float32 [width]; outputs of 0 get a small finite one.

        Args:
            outputs: float32 [width], finite.
            where: they are, for messages.

        Raises:
            KdedgeError: no logits give them.
        """

    @abstractmethod
    def answer(self, outputs: Outputs) -> Answer:
        """What an app shows of a text's outputs, float32 [width]."""

    def answers(self, outputs: Outputs) -> list[Answer]:
        """The answer to each text, of outputs float32 [texts, width]."""
        return [self.answer(row) for row in outputs]

    @abstractmethod
    def labels_in(self, outputs: Outputs) -> Labels:
        """What outputs float32 [texts, width] say, as labels, a row a text."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What `config.json` says of the task, for Hugging Face's clients."""

    # Figures

    def tuned(self, outputs: Outputs, labels: Labels) -> Self:
        """This task with what a model's answers take from its outputs on the valid split: nothing.

        Args:
            outputs: float32 [texts, width].
            labels: the true ones, a row a text.
        """
        return self

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """The names of those `measures` that can choose the teacher's best epoch."""

    @abstractmethod
    def measures(self, outputs: Outputs, labels: Labels) -> dict[str, float]:
        """How good outputs float32 [texts, width] are, by name; the first one is the `metric`."""

    def score(self, outputs: Outputs, labels: Labels) -> float:
        """The `metric` of outputs float32 [texts, width]."""
        return self.measures(outputs, labels)[self.metric]

    @abstractmethod
    def same(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.bool_]:
        """For each text whether both give the same answer."""

    @abstractmethod
    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """How sure each answer is, float32 [texts], from 0 to 1; NaN if the task can't say."""

    def apart(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.float32]:
        """How much it tells that two answers differ, float32 [texts]: how sure both are."""
        return self.confidence(outputs) + self.confidence(reference)

    @abstractmethod
    def interval(self, outputs: Outputs, labels: Labels) -> tuple[float, float]:
        """The 95% interval of the `metric`, over the texts."""

    def agreement(self, outputs: Outputs, reference: Outputs) -> float:
        """Share of texts to which both give the same answer."""
        return float(np.mean(self.same(outputs, reference)))

    # How sure an answer is, of tasks with `has_confidence`

    def scaled(self, outputs: Outputs, temperature: float) -> Outputs:
        """The outputs of logits that are divided by a temperature, float32 [texts, width]."""
        raise NotImplementedError

    def log_loss(self, outputs: Outputs, labels: Labels) -> float:
        """What the temperature that fits best makes smallest."""
        raise NotImplementedError

    def right(self, outputs: Outputs, labels: Labels) -> npt.NDArray[np.bool_]:
        """For each text whether its answer is right."""
        raise NotImplementedError

    def answer_numbers(self, outputs: Outputs) -> npt.NDArray[np.int64]:
        """For each text the number of its answer, from 0 to `width` - 1."""
        raise NotImplementedError

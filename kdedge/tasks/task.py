"""The interface of a task: reading labels, interpreting outputs, metrics."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from kdedge.errors import KdedgeError

# One row for each text; its form depends on the task.
Labels = npt.NDArray[Any]
# float32 [texts, width].
Logits = npt.NDArray[np.float32]
Outputs = npt.NDArray[np.float32]
# Shown instead of an unsure prediction.
UNSURE = "unsure"


class Answer(Protocol):
    """A prediction for a text; each task has its own frozen dataclass."""

    @property
    def unsure(self) -> bool:
        """Whether the prediction is too uncertain to be shown."""
        ...

    def text(self) -> str:
        """The prediction as short text."""
        ...

    def line(self) -> str:
        """The prediction as tab-separated columns, for a terminal."""
        ...

    def fields(self) -> dict[str, Any]:
        """The prediction as a JSON object."""
        ...


class Task(BaseModel, ABC):
    """A task with the properties of its data, for instance the class names.

    Tasks are frozen, and stored as JSON (`model_dump`) with soft labels, students and bundles.
    Their heads and losses, which need TensorFlow, are in `kdedge.objectives`.

        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> task.answer([0.2, 0.8]).text()
        'good'
        >>> task.measures(np.array([[0.2, 0.8]], np.float32), np.array([1]))["accuracy"]
        1.0

    Attributes:
        metric: name of the main metric, which chooses the best epoch and by which exported files
            are compared; at most 1, higher is better.
        output: name of the outputs, in files and columns.
        field: name of the prediction in `Answer.fields`.
        has_classes: whether each text has exactly one class, so that classes can be weighted.
        has_confidence: whether the outputs are probabilities of labels. Then `scaled`, `predicted`,
            `log_loss` and `truth` are defined, so that outputs can be calibrated and labels can
            have thresholds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    metric: ClassVar[str]
    output: ClassVar[str]
    field: ClassVar[str]
    has_classes: ClassVar[bool] = False
    has_confidence: ClassVar[bool] = False

    def __str__(self) -> str:
        """Names of the labels, for messages."""
        return ", ".join(self.output_names)

    # Labels

    @classmethod
    @abstractmethod
    def parse(cls, value: Any, where: str) -> Any | None:
        """Check the value of a label column; None if the row has no label.

        Args:
            value: value in the file.
            where: file, line and column, for messages.

        Raises:
            KdedgeError: not a label of this task.
        """

    @classmethod
    @abstractmethod
    def from_labels(cls, parsed: Sequence[Any], where: str) -> tuple[Self, Labels]:
        """Make the task of a corpus, and its labels as numbers, one row for each text.

        Args:
            parsed: result of `parse` for each labelled row.
            where: file and column, for messages.

        Raises:
            KdedgeError: too few different labels.
        """

    @abstractmethod
    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """The stratum of each text for stratified splits, int64 [texts]."""

    @abstractmethod
    def stratum_name(self, stratum: int) -> str:
        """Name of a stratum, for messages."""

    def in_training(self, labels: Labels, train: Labels) -> npt.NDArray[np.bool_]:
        """For each text, whether its labels occur in the training split."""
        return np.isin(self.strata(labels), self.strata(train))

    @abstractmethod
    def counts(self, labels: Labels) -> dict[str, int]:
        """Number of texts of each label, by name; empty for scores."""

    def fitted(self, train: Labels) -> Self:
        """This task with statistics of the training labels; unchanged by default."""
        return self

    def within(self, score_range: tuple[float, float]) -> Self:
        """This task with predictions clipped to a range of scores.

        Raises:
            KdedgeError: the task has no scores, or the range is empty.
        """
        raise KdedgeError(f'score_range: is for task = "regression"; this one is {self.name}.')

    @abstractmethod
    def unlabelled(self, count: int) -> Labels:
        """Missing labels for `count` texts."""

    @abstractmethod
    def numbers(self, parsed: Sequence[Any], where: str) -> Labels:
        """Labels of another corpus as numbers of this task, one row for each text.

        Args:
            parsed: result of `parse` for each text.
            where: file and column, for messages.

        Raises:
            KdedgeError: a label that this task does not have.
        """

    @abstractmethod
    def parsed(self, label: Any) -> Any:
        """The inverse of `numbers` for one row: a result of `parse`."""

    @abstractmethod
    def label_of(self, label: Any) -> str:
        """The labels of one row by name."""

    def with_logits_of(self, other: "Task") -> Self:
        """This task, for logits of a teacher with the task `other`.

        Raises:
            KdedgeError: the labels differ.
        """
        if self != other:
            raise KdedgeError(f"the soft labels are for {other}, the data has {self}.")
        return self

    def from_logits_of(self, other: "Task") -> tuple[float, float]:
        """Factor and offset that convert logits of a similar task to logits of this one."""
        return 1.0, 0.0

    # Outputs

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of logits."""

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """Name of each output, in order."""

    @property
    def unit(self) -> float:
        """Scale of the outputs, to judge differences."""
        return 1.0

    @abstractmethod
    def outputs(self, logits: Logits) -> Outputs:
        """Outputs of logits, float32 [texts, width]."""

    @abstractmethod
    def logits(self, outputs: Outputs, where: str) -> Logits:
        """Logits with these outputs, float32 [width]; outputs of 0 get small finite logits.

        Args:
            outputs: float32 [width], finite.
            where: file and row, for messages.

        Raises:
            KdedgeError: not valid outputs of this task.
        """

    @abstractmethod
    def answer(
        self,
        outputs: Sequence[float],
        unsure: bool = False,
        predicted: Sequence[int] | None = None,
    ) -> Answer:
        """The prediction for the outputs of one text, `width` numbers.

        Args:
            outputs: the numbers.
            unsure: whether the prediction is too uncertain.
            predicted: positions of the predicted labels; None to find them from the outputs.
        """

    @abstractmethod
    def labels_in(self, outputs: Outputs) -> Labels:
        """Predicted labels, one row for each text, from outputs float32 [texts, width]."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The part of `config.json` about the task, for Hugging Face's clients."""

    # Figures

    def tuned(self, outputs: Outputs, labels: Labels) -> Self:
        """This task with thresholds fitted on the valid split; unchanged by default.

        Args:
            outputs: float32 [texts, width].
            labels: true labels, one row for each text.
        """
        return self

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that can choose the teacher's best epoch."""

    @abstractmethod
    def measures(self, outputs: Outputs, labels: Labels) -> dict[str, float]:
        """All metrics of outputs float32 [texts, width], by name; `metric` is the first."""

    def score(self, outputs: Outputs, labels: Labels) -> float:
        """The `metric` of outputs float32 [texts, width]."""
        return self.measures(outputs, labels)[self.metric]

    @abstractmethod
    def same(
        self, outputs: Outputs, reference: Outputs, of: Self | None = None
    ) -> npt.NDArray[np.bool_]:
        """For each text, whether both predictions are equal.

        Args:
            outputs: float32 [texts, width].
            reference: float32 [texts, width], of another model.
            of: the task with that model's thresholds; None if they are those of this task.
        """

    @abstractmethod
    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """Confidence of each prediction, float32 [texts], from 0 to 1; NaN if undefined."""

    def difference(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.float32]:
        """How strongly two predictions differ, float32 [texts]: by default both confidences."""
        return self.confidence(outputs) + self.confidence(reference)

    @abstractmethod
    def interval(self, outputs: Outputs, labels: Labels) -> tuple[float, float]:
        """95% confidence interval of the `metric`, over the texts."""

    def agreement(self, outputs: Outputs, reference: Outputs, of: Self | None = None) -> float:
        """Share of texts with equal predictions; the arguments are those of `same`."""
        return float(np.mean(self.same(outputs, reference, of)))

    def predicted(self, outputs: Outputs) -> npt.NDArray[np.bool_]:
        """For each text and label, whether it is predicted, bool [texts, width]; default: none."""
        return np.zeros(outputs.shape, bool)

    def scaled(self, outputs: Outputs, temperature: float) -> Outputs:
        """Outputs of the logits divided by a temperature; unchanged if they have no confidence."""
        return outputs

    def scaled_one(self, outputs: Sequence[float], temperature: float) -> Sequence[float]:
        """`scaled` for the outputs of one text, without arrays, which take longer to make."""
        return outputs

    def predicted_one(self, outputs: Sequence[float]) -> Sequence[int]:
        """`predicted` for the outputs of one text, as positions, without arrays."""
        return ()

    # Confidence, for tasks with `has_confidence`

    def log_loss(self, outputs: Outputs, labels: Labels) -> float:
        """The loss that fitting the temperature minimises."""
        raise NotImplementedError

    def truth(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """For each text and label, whether the text has it, bool [texts, width]."""
        raise NotImplementedError

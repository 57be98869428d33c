"""Classification: each text has one label, of two or more classes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kdedge.errors import KdedgeError, listed
from kdedge.tasks.intervals import wilson_interval
from kdedge.tasks.task import UNSURE, Labels, Logits, Outputs, Task

WHOLE_NUMBER = re.compile("-?[0-9]{1,18}")
# What to do about labels of other types than names and whole numbers.
REMEDIES: dict[type, str] = {
    list: ' Or set task = "multi-label" in [data], --task.',
    float: " Write classes as whole numbers or names (a column of pandas with gaps: "
    """astype("Int64")); for scores set task = "regression" in [data], --task.""",
    bool: " Write the classes as names, or as 0 and 1.",
}
# Control characters, separators of lines and paragraphs, and halves of surrogate pairs, which JSON
# can have and UTF-8 can't.
BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The number of a missing label.
UNLABELLED = -1
# Replaces probabilities of 0, so that logits are finite.
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Prediction:
    """The most probable class of a text.

    Attributes:
        label: name of the class.
        probability: probability of that class.
        probabilities: probability of every class, by name.
        unsure: whether the prediction is below the threshold of the bundle, or the text is unlike
            those that the model was made for.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    unsure: bool = False

    def text(self) -> str:
        """The label, or `unsure`."""
        return UNSURE if self.unsure else self.label

    def line(self) -> str:
        """Label, or `unsure`, and probability."""
        return f"{self.text()}\t{self.probability:.4f}"

    def fields(self) -> dict[str, Any]:
        """Label, whether it is unsure, and all probabilities."""
        return {"label": self.label, "unsure": self.unsure, "probabilities": self.probabilities}


def has_control_characters(name: str) -> bool:
    """Whether a name has a line break, a tab or another control character."""
    return BREAKS.search(name) is not None


def refuse_control_characters(label: str, where: str) -> None:
    """Check that a label has no control characters.

    Apps read labels from a file with one on each line, and terminals show them.

    Raises:
        KdedgeError: it has some; the message begins with `where`.
    """
    if has_control_characters(label):
        raise KdedgeError(
            f"{where} is {label!r:.40}; a label can't have a line break, a tab, another control "
            "character or half a surrogate pair."
        )


class ByClass(NamedTuple):
    """Precision, recall and F1; each array has a value for each class.

    Attributes:
        texts: int, number of texts with this label.
        precision: right predictions / predictions of this label; 0 without predictions.
        recall: right predictions / texts with this label; 0 without texts.
        f1: harmonic mean of precision and recall; 0 if both are 0.
    """

    texts: npt.NDArray[np.int64]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]


class Classification(Task):
    """Each text has one label: int32 [texts], positions in `label_names`; -1 for none.

    Outputs are probabilities, the softmax of the logits.

        >>> task = Classification(label_names=("bad", "good"))
        >>> task.answer([0.2, 0.8]).label
        'good'
    """

    name: Literal["classification"] = "classification"
    metric: ClassVar[str] = "accuracy"
    output: ClassVar[str] = "probabilities"
    has_classes: ClassVar[bool] = True
    field: ClassVar[str] = "label"
    has_confidence: ClassVar[bool] = True
    label_names: tuple[str, ...] = Field(min_length=2, description="the classes, in logits' order")

    @classmethod
    def parse(cls, value: Any, where: str) -> str | None:
        """A name or a whole number, as text and as it is in the file; see `Task`."""
        if value is None or not str(value).strip():
            return None
        # bool is a subclass of int.
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise KdedgeError(
                f"{where} is {value!r:.40}; a name or a whole number is needed."
                + REMEDIES.get(type(value), "")
            )
        refuse_control_characters(str(value), where)
        return str(value)

    @classmethod
    def from_labels(cls, parsed: Sequence[str], where: str) -> tuple[Self, Labels]:
        """Classes are the labels in the data, sorted as numbers or names; see `Task`."""
        names = tuple(sorted(set(parsed)))
        # 9 before 10, but "b10" before "b9". The text is kept: 0101 and 101 are two classes.
        if all(WHOLE_NUMBER.fullmatch(name) for name in names):
            names = tuple(sorted(names, key=int))
        if len(names) < 2:
            raise KdedgeError(
                f"{where} has {len(names)} different labels ({', '.join(names) or 'none'}); "
                "at least two are needed."
            )
        task = cls(label_names=names)
        return task, task.numbers(parsed, where)

    def numbers(self, parsed: Sequence[str], where: str) -> Labels:
        """Positions in `label_names`; see `Task`."""
        number = {name: i for i, name in enumerate(self.label_names)}
        if unknown := sorted({*parsed} - {*number}):
            raise KdedgeError(f"{where}: unknown labels: {listed(unknown)}. Allowed: {self}.")
        return np.array([number[name] for name in parsed], np.int32)

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """The classes; see `Task`."""
        return labels.astype(np.int64)

    def stratum_name(self, stratum: int) -> str:
        """The class; see `Task`."""
        return f"label {self.label_names[stratum]!r}"

    def unlabelled(self, count: int) -> Labels:
        """-1 for each; see `Task`."""
        return np.full(count, UNLABELLED, np.int32)

    def counts(self, labels: Labels) -> dict[str, int]:
        """Of each class; see `Task`."""
        return {
            f"label {name!r}": int((labels == number).sum())
            for number, name in enumerate(self.label_names)
        }

    def parsed(self, label: Any) -> str:
        """The class's name."""
        return self.label_names[int(label)]

    def label_of(self, label: Any) -> str:
        """The class's name."""
        return self.parsed(label)

    @property
    def width(self) -> int:
        """Number of classes."""
        return len(self.label_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The classes."""
        return self.label_names

    def outputs(self, logits: Logits) -> Outputs:
        """Probabilities; see `Task`."""
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(-1, keepdims=True), np.float32)

    def logits(self, outputs: Outputs, where: str) -> Logits:
        """Logarithms; see `Task`."""
        if (outputs < 0).any() or abs(outputs.sum() - 1) > 1e-3:
            raise KdedgeError(f"{where}; they must be at least 0 and sum to 1.")
        return np.asarray(np.log(np.maximum(outputs, SMALLEST_PROBABILITY)))

    def answer(
        self,
        outputs: Sequence[float],
        unsure: bool = False,
        predicted: Sequence[int] | None = None,
    ) -> Prediction:
        """The most probable class; see `Task`."""
        (best,) = self.predicted_one(outputs) if predicted is None else predicted
        probabilities = dict(zip(self.label_names, outputs, strict=True))
        return Prediction(self.label_names[best], outputs[best], probabilities, unsure)

    def labels_in(self, outputs: Outputs) -> Labels:
        """The most probable class of each; see `Task`."""
        return np.asarray(outputs.argmax(1), np.int32)

    def config(self) -> dict[str, Any]:
        """A sequence classifier's; see `Task`."""
        return {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {str(i): name for i, name in enumerate(self.label_names)},
            "label2id": {name: i for i, name in enumerate(self.label_names)},
        }

    @property
    def metrics(self) -> tuple[str, ...]:
        """Accuracy and macro F1; see `Task`."""
        return self.metric, "macro_f1"

    def measures(self, outputs: Outputs, labels: Labels) -> dict[str, float]:
        """Accuracy, and macro F1: the mean F1 of the classes that occur; see `Task`."""
        found = self.by_class(outputs, labels)
        occurs = (found.texts > 0) | np.isin(np.arange(self.width), outputs.argmax(1))
        return {
            self.metric: float(np.mean(outputs.argmax(1) == labels)),
            "macro_f1": float(found.f1[occurs].mean()),
        }

    def confusion(self, outputs: Outputs, labels: Labels) -> npt.NDArray[np.int64]:
        """Confusion matrix, int [classes, classes]: true class, predicted class."""
        counts = np.bincount(labels * self.width + outputs.argmax(1), minlength=self.width**2)
        return counts.reshape(self.width, self.width)

    def by_class(self, outputs: Outputs, labels: Labels) -> ByClass:
        """Precision, recall and F1 of each class, from outputs float32 [texts, width]."""
        counts = self.confusion(outputs, labels)
        right, texts, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        return ByClass(
            texts,
            right / np.maximum(predicted, 1),
            right / np.maximum(texts, 1),
            2 * right / np.maximum(texts + predicted, 1),
        )

    def same(
        self, outputs: Outputs, reference: Outputs, of: Self | None = None
    ) -> npt.NDArray[np.bool_]:
        """Whether the most probable class is the same; see `Task`."""
        return np.asarray(outputs.argmax(1) == reference.argmax(1))

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """The probability of the most probable class; see `Task`."""
        return np.asarray(outputs.max(1))

    def interval(self, outputs: Outputs, labels: Labels) -> tuple[float, float]:
        """Wilson interval; see `Task`."""
        return wilson_interval(self.score(outputs, labels), len(labels))

    def scaled(self, outputs: Outputs, temperature: float) -> Outputs:
        """The softmax of log-probabilities divided by the temperature; see `Task`."""
        logs = np.log(np.maximum(outputs, SMALLEST_PROBABILITY))
        return self.outputs(np.asarray(logs / temperature, np.float32))

    def scaled_one(self, outputs: Sequence[float], temperature: float) -> Sequence[float]:
        """Powers of the probabilities, divided by their sum; see `Task`."""
        if min(outputs) < SMALLEST_PROBABILITY:
            outputs = [max(one, SMALLEST_PROBABILITY) for one in outputs]
        # Divided by the highest, so that not all powers are 0.
        highest, power = max(outputs), 1 / temperature
        powers = [(one / highest) ** power for one in outputs]
        total = sum(powers)
        return [power / total for power in powers]

    def log_loss(self, outputs: Outputs, labels: Labels) -> float:
        """Cross-entropy, smoothed by one pseudo-text of all classes; see `Task`."""
        logs = np.log(np.maximum(outputs, SMALLEST_PROBABILITY)).astype(np.float64)
        of_truth = logs[np.arange(len(labels)), labels].sum()
        return float(-(of_truth + logs.mean()) / (len(labels) + 1))

    def predicted(self, outputs: Outputs) -> npt.NDArray[np.bool_]:
        """The most probable class; see `Task`."""
        return self.truth(outputs.argmax(1))

    def predicted_one(self, outputs: Sequence[float]) -> Sequence[int]:
        """The most probable class; see `Task`."""
        return (outputs.index(max(outputs)),)

    def truth(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """The class; see `Task`."""
        return np.asarray(np.arange(self.width) == labels[:, None])

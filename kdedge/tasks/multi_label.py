"""Multi-label: each text has any number of labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from kdedge.errors import KdedgeError, listed
from kdedge.tasks.classification import SMALLEST_PROBABILITY, UNLABELLED, ByClass, Classification
from kdedge.tasks.intervals import bootstrap_interval
from kdedge.tasks.task import UNSURE, Labels, Logits, Outputs, Task

UNTUNED = 0.5
# With fewer texts a label gets no threshold of its own, and a stratum is too small to be divided.
FEW = 10
# Rounds of the search for thresholds; more changed nothing.
ROUNDS = 3


@dataclass(frozen=True)
class LabelSet:
    """The labels of a text.

    Attributes:
        labels: labels above their thresholds, most probable first; can be empty.
        probabilities: probability of every label, by name.
        unsure: whether the bundle is sure of none of the labels, or the text is unlike those that
            the model was made for.
    """

    labels: tuple[str, ...]
    probabilities: dict[str, float]
    unsure: bool = False

    def text(self) -> str:
        """The labels, or `unsure`."""
        return UNSURE if self.unsure else ", ".join(self.labels) or "none"

    def line(self) -> str:
        """Labels, or `unsure`, and their probabilities."""
        return f"{self.text()}\t" + ", ".join(f"{self.probabilities[n]:.4f}" for n in self.labels)

    def fields(self) -> dict[str, Any]:
        """Labels, whether they are unsure, and all probabilities."""
        return {
            "labels": [*self.labels],
            "unsure": self.unsure,
            "probabilities": self.probabilities,
        }


class MultiLabel(Task):
    """Each text has any number of labels: int8 [texts, labels], 0 or 1; -1 for unknown.

    Outputs are probabilities, the sigmoid of the logits. A text has the labels whose probability
    is above their threshold.

        >>> task = MultiLabel(label_names=("joy", "love", "anger"), thresholds=(0.5, 0.3, 0.5))
        >>> task.answer([0.6, 0.4, 0.1]).labels
        ('joy', 'love')
    """

    name: Literal["multi-label"] = "multi-label"
    metric: ClassVar[str] = "micro_f1"
    output: ClassVar[str] = "probabilities"
    field: ClassVar[str] = "labels"
    has_confidence: ClassVar[bool] = True
    label_names: tuple[str, ...] = Field(min_length=2, description="in logits' order")
    thresholds: tuple[float, ...] = Field(
        (),
        description="a label is predicted if its probability is above its own; 0.5 for each if "
        "there are none",
    )

    @model_validator(mode="after")
    def _a_threshold_each(self) -> Self:
        if self.thresholds and len(self.thresholds) != len(self.label_names):
            raise ValueError(f"{len(self.thresholds)} thresholds, {len(self.label_names)} labels")
        return self

    @classmethod
    def parse(cls, value: Any, where: str) -> tuple[str, ...] | None:
        """Names or whole numbers, as a list; see `Task`."""
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise KdedgeError(
                f"{where} is {value!r:.40}; a list is needed. If it is text with several labels, "
                "name what is between them: label_delimiter in [data], --label-delimiter."
            )
        if any(isinstance(label, list | dict) for label in value):
            raise KdedgeError(f"{where} is {value!r:.40}; a list of names is needed.")
        if value and str(value[0]).startswith("[") and str(value[-1]).endswith("]"):
            raise KdedgeError(
                f"{where} is {value!r:.40}: a list that a program wrote as text. Save the data as "
                ".jsonl or .parquet, where it stays a list, or write the labels without brackets "
                "and quotes."
            )
        names = [Classification.parse(label, where) for label in value]
        if None in names:
            raise KdedgeError(
                f"{where} is {value!r:.40}; one of its labels is empty. Remove what is too much, "
                "for instance a delimiter at the end."
            )
        if len(names) > len({*names}) and {*names} <= {"0", "1"}:
            raise KdedgeError(
                f"{where} is {value!r:.40}: 0 or 1 for each label. Write the names of the labels, "
                "or a column for each label, and name the columns: label_columns in [data], "
                "--label-columns."
            )
        return tuple(sorted({name for name in names if name is not None}))

    @classmethod
    def from_labels(cls, parsed: Sequence[tuple[str, ...]], where: str) -> tuple[Self, Labels]:
        """The labels in the data, sorted as numbers or names; see `Task`."""
        classes, _ = Classification.from_labels([name for names in parsed for name in names], where)
        task = cls(label_names=classes.label_names)
        return task, task.numbers(parsed, where)

    def numbers(self, parsed: Sequence[tuple[str, ...]], where: str) -> Labels:
        """1 where a text has a label; see `Task`."""
        number = {name: i for i, name in enumerate(self.label_names)}
        if unknown := sorted({name for names in parsed for name in names} - {*number}):
            raise KdedgeError(f"{where}: unknown labels: {listed(unknown)}. Allowed: {self}.")
        labels = np.zeros((len(parsed), self.width), np.int8)
        for row, names in zip(labels, parsed, strict=True):
            row[[number[name] for name in names]] = 1
        return labels

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """The rarest label of each text; see `Task`.

        Texts without a label are a stratum. Strata too small to be divided join the largest one.
        """
        rarest_first = np.argsort(labels.sum(0), kind="stable")
        ordered = labels[:, rarest_first]
        strata = np.where(ordered.any(1), rarest_first[ordered.argmax(1)], self.width)
        sizes = np.bincount(strata, minlength=self.width + 1)
        return np.asarray(np.where(sizes[strata] < FEW, sizes.argmax(), strata), np.int64)

    def stratum_name(self, stratum: int) -> str:
        """The label; see `Task`."""
        if stratum == self.width:
            return "the group of texts without a label"
        return f"label {self.label_names[stratum]!r}"

    def in_training(self, labels: Labels, train: Labels) -> npt.NDArray[np.bool_]:
        """Whether all of a text's labels occur in the training split; see `Task`."""
        return np.asarray((labels <= train.max(0)).all(1))

    def counts(self, labels: Labels) -> dict[str, int]:
        """Of each label, and of texts that have none; see `Task`."""
        by_name = {
            f"label {name!r}": int(has_label.sum())
            for name, has_label in zip(self.label_names, labels.T, strict=True)
        }
        none = int((~labels.any(1)).sum())
        return by_name | ({"no label": none} if none else {})

    def unlabelled(self, count: int) -> Labels:
        """-1 for each label of each text; see `Task`."""
        return np.full((count, self.width), UNLABELLED, np.int8)

    def parsed(self, label: Any) -> tuple[str, ...]:
        """The names of a text's labels."""
        return tuple(self.label_names[i] for i in np.flatnonzero(label))

    def label_of(self, label: Any) -> str:
        """The names of a text's labels."""
        return ", ".join(self.parsed(label)) or "none"

    def with_logits_of(self, other: Task) -> Self:
        """Thresholds don't matter to logits; see `Task`."""
        if isinstance(other, MultiLabel) and other.label_names == self.label_names:
            return self
        return super().with_logits_of(other)

    @property
    def width(self) -> int:
        """Number of labels."""
        return len(self.label_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.label_names

    def outputs(self, logits: Logits) -> Outputs:
        """Probabilities; see `Task`."""
        # The form of the sigmoid that does not overflow.
        small = np.exp(-np.abs(logits))
        return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), np.float32)

    def logits(self, outputs: Outputs, where: str) -> Logits:
        """Log odds; see `Task`."""
        if (outputs < 0).any() or (outputs > 1).any():
            raise KdedgeError(f"{where}; they must be from 0 to 1.")
        return _log_odds(outputs)

    def predicted(self, outputs: Outputs) -> npt.NDArray[np.bool_]:
        """The labels above their thresholds; see `Task`."""
        return np.asarray(outputs > np.array(self.thresholds or UNTUNED, np.float32))

    def answer(
        self,
        outputs: Sequence[float],
        unsure: bool = False,
        predicted: Sequence[int] | None = None,
    ) -> LabelSet:
        """The labels above their thresholds; see `Task`."""
        predicted = self.predicted_one(outputs) if predicted is None else predicted
        order = sorted(predicted, key=outputs.__getitem__, reverse=True)
        return LabelSet(
            tuple(self.label_names[i] for i in order),
            dict(zip(self.label_names, outputs, strict=True)),
            unsure,
        )

    def labels_in(self, outputs: Outputs) -> Labels:
        """1 for labels above their thresholds; see `Task`."""
        return self.predicted(outputs).astype(np.int8)

    def config(self) -> dict[str, Any]:
        """A sequence classifier's with sigmoids; see `Task`."""
        classes = Classification(label_names=self.label_names)
        return {**classes.config(), "problem_type": "multi_label_classification"}

    def tuned(self, outputs: Outputs, labels: Labels) -> Self:
        """With `best_thresholds` on the valid split; see `Task`."""
        return self.model_copy(update={"thresholds": best_thresholds(outputs, labels)})

    @property
    def metrics(self) -> tuple[str, ...]:
        """Micro and macro F1; see `Task`."""
        return self.metric, "macro_f1"

    def by_class(self, outputs: Outputs, labels: Labels) -> ByClass:
        """Precision, recall and F1 of each label, from outputs float32 [texts, labels]."""
        true, false, missed = _counts(self.predicted(outputs), labels).sum(0).T
        return ByClass(
            (true + missed).astype(np.int64),
            true / np.maximum(true + false, 1),
            true / np.maximum(true + missed, 1),
            2 * true / np.maximum(2 * true + false + missed, 1),
        )

    def measures(self, outputs: Outputs, labels: Labels) -> dict[str, float]:
        """Micro F1, and macro F1, the mean over the labels; see `Task`."""
        counts = _counts(self.predicted(outputs), labels).sum(0)
        return {self.metric: f1(counts.sum(0)), "macro_f1": float(np.mean([f1(c) for c in counts]))}

    def same(
        self, outputs: Outputs, reference: Outputs, of: Self | None = None
    ) -> npt.NDArray[np.bool_]:
        """Whether the labels are the same; see `Task`."""
        other = (of or self).predicted(reference)
        return np.asarray((self.predicted(outputs) == other).all(1))

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """Probability of the least confident decision; see `Task`."""
        return np.asarray(np.where(self.predicted(outputs), outputs, 1 - outputs).min(1))

    def interval(self, outputs: Outputs, labels: Labels) -> tuple[float, float]:
        """By bootstrap over texts; see `Task`."""
        return bootstrap_interval(_counts(self.predicted(outputs), labels).sum(1), f1)

    def scaled(self, outputs: Outputs, temperature: float) -> Outputs:
        """The sigmoid of log odds divided by the temperature; see `Task`."""
        log_odds = _log_odds(outputs.astype(np.float64))
        return self.outputs(np.asarray(log_odds / temperature, np.float32))

    def scaled_one(self, outputs: Sequence[float], temperature: float) -> Sequence[float]:
        """`scaled` with powers of odds; see `Task`."""
        low, high, power = SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY, 1 / temperature
        # min and max take longer than the rest.
        bounded = [p if low < p < high else min(max(p, low), high) for p in outputs]
        return [1 / (1 + ((1 - p) / p) ** power) for p in bounded]

    def predicted_one(self, outputs: Sequence[float]) -> Sequence[int]:
        """The labels above their thresholds; see `Task`."""
        thresholds = self.thresholds or (UNTUNED,) * self.width
        return [i for i in range(self.width) if outputs[i] > thresholds[i]]

    def log_loss(self, outputs: Outputs, labels: Labels) -> float:
        """Binary cross-entropy, smoothed by one pseudo-text with half of each label; see `Task`."""
        sure = np.clip(outputs, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        logs = np.log(np.stack([1 - sure, sure], -1)).astype(np.float64)
        of_truth = np.take_along_axis(logs, labels[..., None].astype(np.int64), -1).sum()
        return float(-(of_truth / self.width + logs.mean()) / (len(labels) + 1))

    def truth(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """The labels; see `Task`."""
        return np.asarray(labels > 0)


def f1(counts: npt.NDArray[np.float64]) -> float:
    """2 TP / (2 TP + FP + FN); 0 if all counts are 0."""
    true, false, missed = counts
    return float(2 * true / (2 * true + false + missed)) if true else 0.0


def best_thresholds(outputs: Outputs, labels: Labels) -> tuple[float, ...]:
    """Find thresholds with a high mean of micro and macro F1, by coordinate search.

    All labels start with the best common threshold. Then the threshold of each label in turn, most
    frequent first, is moved to the best value, in a few rounds. Labels with few texts keep the
    common threshold. Thresholds for the highest F1 of each label alone would be low for rare
    labels, whose false positives cost more micro F1 than they gain macro F1.

    Args:
        outputs: probabilities, float32 [texts, labels].
        labels: 0 or 1, int [texts, labels].
    """
    common = best_threshold(outputs.ravel(), labels.ravel())
    thresholds = [common] * labels.shape[1]
    above = outputs > np.float32(common)
    # Predicted, right and true labels.
    predicted, right, true = above.sum(0), (above & (labels > 0)).sum(0), labels.sum(0)
    frequent = [label for label in np.argsort(-true, kind="stable") if true[label] >= FEW]
    for label in frequent * ROUNDS:
        hits, middles = _by_size(outputs[:, label], labels[:, label])
        sizes = np.arange(len(hits))
        others_right, others_predicted = (n.sum() - n[label] for n in (right, predicted))
        micro = 2 * (others_right + hits) / (others_predicted + sizes + true.sum())
        macro = 2 * hits / (sizes + true[label]) / len(true)
        best = int(np.where(np.isnan(middles), -1, micro + macro).argmax())
        predicted[label], right[label], thresholds[label] = best, hits[best], float(middles[best])
    return tuple(thresholds)


def best_threshold(outputs: Outputs, labels: Labels) -> float:
    """The threshold with the highest F1, in the middle between two outputs.

        >>> best_threshold(np.array([0.9, 0.4, 0.2], np.float32), np.array([1, 1, 0]))
        0.3

    Args:
        outputs: probabilities of a label, float32 [texts].
        labels: 0 or 1, int [texts].
    """
    hits, middles = _by_size(outputs, labels)
    if not hits[-1]:
        return UNTUNED
    f1s = 2 * hits / (np.arange(len(hits)) + hits[-1])
    return float(middles[np.where(np.isnan(middles), -1, f1s).argmax()])


def _log_odds(outputs: npt.NDArray[np.floating]) -> Logits:
    odds = np.clip(outputs, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.asarray(np.log(odds) - np.log1p(-odds), np.float32)


def _by_size(
    outputs: Outputs, labels: Labels
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each number of predictions of a label: the right ones, and the threshold.

    The threshold is in the middle between two outputs, or NaN between equal outputs.
    """
    order = np.argsort(-outputs, kind="stable")
    bounds = np.concatenate([[1.0], outputs[order].astype(np.float64), [0.0]])
    middles = np.where(bounds[:-1] > bounds[1:], (bounds[:-1] + bounds[1:]) / 2, np.nan)
    hits = np.concatenate([[0], np.cumsum(labels[order], dtype=np.int64)])
    return hits, np.asarray(np.round(middles, 6), np.float64)


def _counts(chosen: npt.NDArray[np.bool_], labels: Labels) -> npt.NDArray[np.float64]:
    """True positives, false positives and false negatives, float64 [texts, labels, 3]."""
    has = labels > 0
    return np.stack([chosen & has, chosen & ~has, ~chosen & has], -1).astype(np.float64)

"""Regression: each text has a score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kdedge.errors import KdedgeError
from kdedge.tasks.intervals import fisher_interval
from kdedge.tasks.task import UNSURE, Labels, Logits, Outputs, Task

# Most strata of the scores, and fewest texts of a stratum.
GROUPS, A_GROUP = 10, 10
# Scores that differ by less than this share of the deviation agree.
SAME = 0.1
# Most that rounding to float32 may change a score, as a share of the deviation.
MOST_ROUNDING = 0.01


@dataclass(frozen=True)
class ScoreAnswer:
    """The score of a text.

    Attributes:
        score: in units of the data.
        unsure: whether the text is unlike those that the model was made for.
    """

    score: float
    unsure: bool = False

    def text(self) -> str:
        """The score, or `unsure`."""
        return UNSURE if self.unsure else f"{self.score:.4g}"

    def line(self) -> str:
        """The score, or `unsure`."""
        return UNSURE if self.unsure else f"{self.score:.4f}"

    def fields(self) -> dict[str, Any]:
        """The score, and whether it is unsure."""
        return {"score": self.score, "unsure": self.unsure}


class Regression(Task):
    """Each text has a score: float32 [texts] in units of the data; NaN for none.

    Logits are standardised scores. Outputs are scores in units of the data.

        >>> task = Regression(mean=3.0, deviation=0.5, low=1.0, high=5.0)
        >>> task.outputs(np.array([[-1.0], [6.0]], np.float32)).tolist()
        [[2.5], [5.0]]
    """

    name: Literal["regression"] = "regression"
    metric: ClassVar[str] = "pearson"
    output: ClassVar[str] = "score"
    field: ClassVar[str] = "score"
    mean: float = Field(description="of the training split's scores")
    deviation: float = Field(gt=0, description="standard deviation of the training split's scores")
    low: float | None = Field(None, description="no answer is below; None for no limit")
    high: float | None = Field(None, description="no answer is above; None for no limit")

    def __str__(self) -> str:
        """Mean, deviation and range of the scores, for messages."""
        limits = "" if self.low is None else f", from {self.low:g} to {self.high:g}"
        return f"scores with mean {self.mean:.4g} and deviation {self.deviation:.4g}{limits}"

    @classmethod
    def parse(cls, value: Any, where: str) -> float | None:
        """A number, also as text; see `Task`."""
        if value is None or not str(value).strip():
            return None
        try:
            # bool is a subclass of int.
            score = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if not math.isfinite(score):
            raise KdedgeError(f"{where} is {value!r:.40}; a number, such as 2.5, is needed.")
        return score

    @classmethod
    def from_labels(cls, parsed: Sequence[float], where: str) -> tuple[Self, Labels]:
        """Mean and deviation of the scores; see `Task`."""
        if len({*parsed}) < 2:
            scores = ", ".join(f"{score:g}" for score in {*parsed}) or "none"
            raise KdedgeError(f"{where} has one score only ({scores}); at least two are needed.")
        exactly = np.array(parsed, np.float64)
        with np.errstate(all="ignore"):
            labels = exactly.astype(np.float32)
            deviation = float(labels.std())
            rounding = np.abs(labels - exactly).max()
        # Models and stores of soft labels compute in float32.
        if not (0 < deviation < math.inf and rounding < MOST_ROUNDING * deviation):
            raise KdedgeError(
                f"{where} has scores from {min(parsed):g} to {max(parsed):g}, which are too large, "
                "too small or too close together for 7 digits. Change the unit or subtract a "
                "number from all of them."
            )
        return cls(mean=float(labels.mean()), deviation=deviation), labels

    def numbers(self, parsed: Sequence[float], where: str) -> Labels:
        """The scores; see `Task`."""
        return np.array(parsed, np.float32)

    def strata(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Deciles of the scores, or fewer groups for few texts; see `Task`."""
        _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        least = max(A_GROUP, len(labels) // GROUPS)
        groups, size, left = [], 0, len(labels)
        for count in counts:
            # Equal scores are in one group, and a small rest joins the last group.
            begins = size >= least and left >= least
            groups.append(begins)
            size = count if begins else size + count
            left -= count
        return np.asarray(np.cumsum(groups)[place], np.int64)

    def stratum_name(self, stratum: int) -> str:
        """A group of scores; see `Task`."""
        return f"group {stratum + 1} of the scores, by size,"

    def in_training(self, labels: Labels, train: Labels) -> npt.NDArray[np.bool_]:
        """Always True: a model can predict scores that it was not trained on."""
        return np.full(len(labels), fill_value=True)

    def counts(self, labels: Labels) -> dict[str, int]:
        """Nothing to count; see `Task`."""
        return {}

    def fitted(self, train: Labels) -> Self:
        """With mean and deviation of the training split; see `Task`."""
        deviation = float(train.std())
        if not deviation:
            raise KdedgeError(
                f"the training split has one score only ({float(train[0]):g}); at least two are "
                "needed. Divide the rows in another way: split in [data], --split."
            )
        return self.model_copy(update={"mean": float(train.mean()), "deviation": deviation})

    def within(self, score_range: tuple[float, float]) -> Self:
        """With predictions clipped to a range; see `Task`."""
        # It can be anything in a call from Python.
        low, high = score_range if len(score_range) == 2 else (math.nan, math.nan)
        if not -math.inf < low < high < math.inf:
            given = ", ".join(f"{number:g}" for number in score_range) or "none"
            raise KdedgeError(
                f"score_range: {given}; two finite numbers are needed, the second larger."
            )
        return self.model_copy(update={"low": low, "high": high})

    def unlabelled(self, count: int) -> Labels:
        """NaN for each; see `Task`."""
        return np.full(count, np.nan, np.float32)

    def parsed(self, label: Any) -> float:
        """The score."""
        return float(label)

    def label_of(self, label: Any) -> str:
        """The score."""
        return f"{float(label):g}"

    def with_logits_of(self, other: Task) -> Self:
        """With the teacher's mean and deviation; see `Task`."""
        if not isinstance(other, Regression):
            return super().with_logits_of(other)
        return self.model_copy(update={"mean": other.mean, "deviation": other.deviation})

    def from_logits_of(self, other: Task) -> tuple[float, float]:
        """From logits with another mean and deviation; see `Task`."""
        if not isinstance(other, Regression):
            return super().from_logits_of(other)
        return other.deviation / self.deviation, (other.mean - self.mean) / self.deviation

    @property
    def width(self) -> int:
        """1."""
        return 1

    @property
    def output_names(self) -> tuple[str, ...]:
        """`score`."""
        return (self.output,)

    @property
    def unit(self) -> float:
        """The deviation; see `Task`."""
        return self.deviation

    def outputs(self, logits: Logits) -> Outputs:
        """Scores; see `Task`."""
        scores = self.mean + self.deviation * logits
        return np.asarray(np.clip(scores, self.low, self.high), np.float32)

    def logits(self, outputs: Outputs, where: str) -> Logits:
        """Standardised scores; see `Task`."""
        return np.asarray((outputs - self.mean) / self.deviation, np.float32)

    def answer(
        self,
        outputs: Sequence[float],
        unsure: bool = False,
        predicted: Sequence[int] | None = None,
    ) -> ScoreAnswer:
        """The score; see `Task`."""
        return ScoreAnswer(outputs[0], unsure)

    def labels_in(self, outputs: Outputs) -> Labels:
        """The scores; see `Task`."""
        return np.asarray(outputs[:, 0], np.float32)

    def config(self) -> dict[str, Any]:
        """A sequence classifier's with one output; see `Task`."""
        return {
            "architectures": ["BertForSequenceClassification"],
            "problem_type": "regression",
            "id2label": {"0": self.output},
            "label2id": {self.output: 0},
        }

    @property
    def metrics(self) -> tuple[str, ...]:
        """The correlations; see `Task`."""
        return self.metric, "spearman"

    def measures(self, outputs: Outputs, labels: Labels) -> dict[str, float]:
        """Pearson and Spearman correlation, and mean absolute error; see `Task`.

        Correlations are 0 if all scores are equal. The error is in units of the data.
        """
        scores = outputs[:, 0]
        return {
            self.metric: correlation(scores, labels),
            "spearman": correlation(_ranks(scores), _ranks(labels)),
            "mean_absolute_error": float(np.abs(scores - labels).mean()),
        }

    def same(
        self, outputs: Outputs, reference: Outputs, of: Self | None = None
    ) -> npt.NDArray[np.bool_]:
        """Whether the scores differ by less than a tenth of the deviation; see `Task`."""
        return np.asarray(self.difference(outputs, reference) < SAME)

    def confidence(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """NaN; see `Task`."""
        return np.full(len(outputs), np.nan, np.float32)

    def difference(self, outputs: Outputs, reference: Outputs) -> npt.NDArray[np.float32]:
        """The difference divided by the deviation; see `Task`."""
        return np.asarray(np.abs(outputs - reference)[:, 0] / self.deviation)

    def interval(self, outputs: Outputs, labels: Labels) -> tuple[float, float]:
        """Fisher interval; see `Task`."""
        return fisher_interval(self.score(outputs, labels), len(labels))


def correlation(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> float:
    """Pearson correlation, from -1 to 1; 0 if one side is constant.

    >>> correlation(np.array([1, 2, 3]), np.array([2, 4, 6]))
    1.0
    """
    a, b = (values - np.mean(values) for values in (np.asarray(v, np.float64) for v in (x, y)))
    size = math.sqrt(float(a @ a) * float(b @ b))
    return max(-1.0, min(1.0, float(a @ b) / size)) if size > 0 else 0.0


def _ranks(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Ranks from 0; equal values get their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count + 1) / 2)[place], np.float64)

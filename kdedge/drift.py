"""Detects drift: whether texts from the field still resemble the test split.

Reads and writes files on this machine and sends nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from kdedge.bundle.decision import Typical, answer_shares
from kdedge.errors import KdedgeError
from kdedge.runtime import TextModel
from kdedge.tasks import Task
from kdedge.text.readers import iter_rows
from kdedge.text.rules import same_text

Advice = Literal["train again", "look at it", "no need"]
# Fewest texts for a comparison.
FEWEST = 30
# A share has changed if chance explains it in at most one of 10,000 logs, and by this difference.
STANDARD_ERRORS, POINTS = 3.9, 0.05
# Population stability index; in credit scoring, 0.1 counts as small and 0.25 as large.
MUCH = 0.25
DECILES = 10
UNSURE_ANSWERS, UNKNOWN = "unsure answers", "unknown tokens"


class Log(NamedTuple):
    """Predictions for texts from the field.

    Attributes:
        answers: `Typical.answers` of these predictions.
        unsure: bool [texts].
        scores: float64 [texts]; None for labels.
        texts: None if the log has predictions only; then the fields below are None too.
        predicted: prediction for each text, in words.
        confidence: float32 [texts], of the least certain label, predicted or not.
        unknown: float64 [texts], share of unknown tokens.
        lengths: int64 [texts], tokens.
    """

    answers: tuple[float, ...]
    unsure: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64] | None = None
    texts: Sequence[str] | None = None
    predicted: Sequence[str] | None = None
    confidence: npt.NDArray[np.float32] | None = None
    unknown: npt.NDArray[np.float64] | None = None
    lengths: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Statistic:
    """A statistic on the test split and in the log.

    Attributes:
        name: name of the statistic.
        then: value on the test split.
        now: value in the log.
        changed: whether the difference counts.
        words: one line that describes it.
    """

    name: str
    then: float
    now: float
    changed: bool
    words: str


@dataclass(frozen=True)
class Drift:
    """Comparison of a log with the test split.

    Attributes:
        texts: number of texts in the log.
        changes: all statistics.
        advice: `train again`, `look at it` or `no need`.
    """

    texts: int
    changes: tuple[Statistic, ...]
    advice: Advice

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def log_of_texts(model: TextModel, texts: Sequence[str]) -> Log:
    """Predict texts, to compare them with the texts that the bundle was tested with."""
    task = model.manifest.task
    calibrated = model.calibrated_outputs(texts)
    sure = np.zeros(len(texts), bool)
    return Log(
        answer_shares(task, calibrated.predicted),
        calibrated.unsure,
        None if task.has_confidence else calibrated.outputs[:, 0].astype(np.float64),
        texts,
        [answer.text() for answer in model.answers(calibrated._replace(unsure=sure))],
        np.where(calibrated.predicted, calibrated.outputs, 1 - calibrated.outputs).min(1),
        calibrated.unknown,
        calibrated.lengths,
    )


def log_of_answers(path: Path, task: Task) -> Log:
    """Read predictions that an app or `kdedge predict --json` wrote.

    Args:
        path: file with a JSON object on each line, with `unsure` and the task's `field`.
        task: the bundle's task.

    Raises:
        KdedgeError: another kind of line.
    """
    answers, unsure = [], []
    for row in iter_rows(path):
        try:
            if (answer := task.parse(row.fields[task.field], "")) is None:
                raise ValueError
            # Raises KdedgeError for another label.
            answers.append(task.numbers([answer], "")[0])
            unsure.append({False: False, True: True}[row.fields["unsure"]])
        except (KdedgeError, ValueError, KeyError, TypeError):
            raise KdedgeError(
                f"{row.where}: {row.fields!r:.60}; needed is a JSON object with `{task.field}`, "
                f"for {task}, and `unsure`, true or false."
            ) from None
    numbers = np.array(answers)
    if not task.has_confidence:
        return Log((), np.array(unsure, bool), numbers.astype(np.float64))
    return Log(answer_shares(task, task.truth(numbers)), np.array(unsure, bool))


def drift_of(typical: Typical, log: Log, names: Sequence[str]) -> Drift:
    """Compare a log with the test split.

    Args:
        typical: statistics of the test split.
        log: predictions from the field.
        names: names of the labels.

    Raises:
        KdedgeError: the log has too few texts.
    """
    count = len(log.unsure)
    if count < FEWEST:
        raise KdedgeError(f"the log has {count} texts. At least {FEWEST} are needed.")
    unsure = float(log.unsure.mean())
    changes = [_share(UNSURE_ANSWERS, typical.unsure, unsure, typical.texts, count)]
    if log.scores is not None:
        changes.append(_deciles("scores", "", typical.scores, log.scores, typical.texts))
    else:
        then, now = np.array(typical.answers), np.array(log.answers)
        name = "labels" if len(then) > len(names) else "classes"
        changes.append(_mix(name, (*names, "no label"), then, now, typical.texts, count))
    if log.lengths is not None and log.unknown is not None:
        tokens = np.maximum(log.lengths, 1)
        unknown = float((log.unknown * tokens).sum() / tokens.sum())
        # Tokens of a text are not independent, so the number of texts is used.
        changes.append(_share(UNKNOWN, typical.unknown, unknown, typical.texts, count))
        lengths = log.lengths.astype(np.float64)
        changes.append(_deciles("lengths", " tokens", typical.lengths, lengths, typical.texts))
    changed = [change for change in changes if change.changed]
    worse = [c for c in changed if c.name in (UNSURE_ANSWERS, UNKNOWN) and c.now > c.then]
    advice: Advice = "train again" if worse else "look at it" if changed else "no need"
    return Drift(count, tuple(changes), advice)


def _share(name: str, then: float, now: float, texts: int, count: int) -> Statistic:
    """Compare two shares by the two-proportion z-test."""
    together = (then * texts + now * count) / (texts + count)
    error = math.sqrt(together * (1 - together) * (1 / texts + 1 / count))
    gap = abs(now - then)
    changed = gap > max(STANDARD_ERRORS * error, POINTS)
    words = f"{name}: {100 * now:.1f}%, and {100 * then:.1f}% on the test split"
    return Statistic(name, then, now, changed, words)


def stability_index(then: npt.NDArray[np.float64], now: npt.NDArray[np.float64]) -> float:
    """Population stability index of two lists of shares; 0 where they are equal.

    >>> round(stability_index(np.array([0.5, 0.5]), np.array([0.75, 0.25])), 4)
    0.2747
    """
    then, now = np.maximum(then, 1e-4), np.maximum(now, 1e-4)
    return float(((now - then) * np.log(now / then)).sum())


def _mix(
    name: str,
    parts: Sequence[str],
    then: npt.NDArray[np.float64],
    now: npt.NDArray[np.float64],
    texts: int,
    count: int,
) -> Statistic:
    """Compare two distributions: the index must be large, and larger than by chance."""
    index = stability_index(then, now)
    free = len(then) - 1
    # Approximately chi-squared; rarely more than 4 standard deviations above the mean.
    by_chance = (1 / texts + 1 / count) * (free + 4 * math.sqrt(2 * free))
    most = int(np.abs(now - then).argmax())
    words = f"{name}: stability index {index:.2f}, much from {MUCH}; most of all {parts[most]}: "
    words += f"{100 * now[most]:.1f}%, and {100 * then[most]:.1f}% on the test split"
    if MUCH < index <= by_chance:
        words += f"; with so few texts, up to {by_chance:.2f} can be chance"
    return Statistic(name, 0.0, index, index > max(MUCH, by_chance), words)


def _deciles(
    name: str, unit: str, deciles: Sequence[float], values: npt.NDArray[np.float64], texts: int
) -> Statistic:
    """Compare numbers by the deciles of the test split, which has `texts` texts."""
    edges = np.unique(deciles)
    then = np.diff([0, *(np.searchsorted(deciles, edges, "right") / DECILES), 1])
    now = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) / len(values)
    parts = [*(f"up to {edge:g}{unit}" for edge in edges), f"more than {edges[-1]:g}{unit}"]
    return _mix(name, parts, then, now, texts, len(values))


def next_to_label(log: Log, max_unknown: float, count: int) -> list[int]:
    """Choose different texts to label next: those with the lowest confidence.

    Texts with mostly unknown tokens are left out, because the model can't learn from them.

    Args:
        log: predictions with texts.
        max_unknown: largest share of unknown tokens of a text.
        count: number of texts.

    Returns:
        Positions in the log, lowest confidence first.

    Raises:
        KdedgeError: the log has no texts, or no labels but scores.
    """
    if log.scores is not None:
        raise KdedgeError(
            "--label-next: it chooses the texts with the lowest confidence, and scores have none. "
            "Leave it out."
        )
    if log.texts is None or log.confidence is None or log.unknown is None:
        raise KdedgeError("--label-next: a log of answers has no texts to label.")
    seen: set[str] = set()
    chosen: list[int] = []
    for i in np.argsort(log.confidence, kind="stable").tolist():
        key = same_text(log.texts[i])
        if log.unknown[i] <= max_unknown and key not in seen:
            seen.add(key)
            chosen.append(i)
    return chosen[:count]

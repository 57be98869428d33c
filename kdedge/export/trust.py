"""Fits the temperature and the thresholds of an artifact, on its outputs for the valid split."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdedge.bundle.decision import (
    Bin,
    Calibration,
    Coverage,
    Decision,
    OutOfScope,
    Trust,
    Typical,
)
from kdedge.errors import KdedgeError
from kdedge.recipe import Decide
from kdedge.tasks import Labels, Outputs, Task, wilson_interval
from kdedge.tasks.intervals import ONE_SIDED_95

Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]

BINS = 15
SIMULATIONS = 1000
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
# A share of unknown tokens; larger if 1% of the valid texts have more.
MAX_UNKNOWN, USUAL = 0.5, 0.99


class Predictions(NamedTuple):
    """An artifact's outputs for some texts.

    Attributes:
        outputs: float32 [texts, width], not calibrated.
        labels: true labels, one row for each text; empty for texts out of scope.
        unknown: float64 [texts], share of unknown tokens.
        lengths: int64 [texts], in tokens.
    """

    outputs: Outputs
    labels: Labels
    unknown: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]


def trust_of(
    name: str,
    task: Task,
    valid: Predictions,
    test: Predictions,
    decide: Decide,
    out_of_scope: Predictions | None,
) -> Trust:
    """Fit temperature and thresholds on the valid split, and measure them on the test split.

    Args:
        name: name of the artifact, for messages.
        task: a task with confidence.
        valid: outputs for the valid split, at least one text.
        test: outputs for the test split, at least one text.
        decide: wanted precision or coverage.
        out_of_scope: outputs for texts that no label fits. Every second one is used for fitting.

    Raises:
        KdedgeError: no threshold reaches the wanted precision.
    """
    temperature = fitted_temperature(task, valid.outputs, valid.labels)
    usual = float(np.quantile(valid.unknown, USUAL, method="lower"))
    decision = Decision(temperature=temperature, max_unknown=round(max(MAX_UNKNOWN, usual), 6))
    calibrated = decision.calibrated(task, valid.outputs)
    right, known = task.right(calibrated, valid.labels), valid.unknown <= decision.max_unknown
    if out_of_scope and decide.precision is not None:
        seen = decision.calibrated(task, out_of_scope.outputs[::2])
        calibrated = np.concatenate([calibrated, seen])
        right = np.concatenate([right, np.zeros(len(seen), bool)])
        known = np.concatenate([known, out_of_scope.unknown[::2] <= decision.max_unknown])
    thresholds = _thresholds(name, task, calibrated[known], right[known], decide)
    decision = decision.model_copy(update={"thresholds": thresholds})
    outputs = decision.calibrated(task, test.outputs)
    return Trust(
        decision=decision,
        calibration=_calibration(task, len(valid.labels), test, outputs),
        answered=_answered(task, decision, test, outputs),
        curve=_curve(task, test, outputs),
        out_of_scope=_out_of_scope(task, decision, outputs, out_of_scope),
        typical=_typical(task, decision, test, outputs),
    )


def fitted_temperature(task: Task, outputs: Outputs, labels: Labels) -> float:
    """The temperature with the lowest log loss, from 0.1 to 10 (Guo et al. 2017, 1706.04599).

    Args:
        task: a task with confidence.
        outputs: float32 [texts, width], not calibrated.
        labels: true labels, one row for each text.
    """
    low, high = math.log(0.1), math.log(10)
    golden = (math.sqrt(5) - 1) / 2

    def loss(log_temperature: float) -> float:
        return task.log_loss(task.scaled(outputs, math.exp(log_temperature)), labels)

    # Golden-section search: the loss has one minimum.
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return round(math.exp((low + high) / 2), 4)


def expected_error(confidence: Floats, right: Flags) -> float:
    """Expected calibration error, with 15 bins of equal count.

    >>> round(expected_error(np.array([0.9, 0.6]), np.array([True, True])), 4)
    0.25
    """
    order = np.argsort(confidence, kind="stable")
    return _error(confidence[order], right[order], _starts(len(order)))


def error_by_chance(confidence: Floats) -> float:
    """The 95th percentile of the expected calibration error of a perfectly calibrated model.

    From 1,000 simulations, in which predictions are right with their own probability.
    """
    ordered, rng = np.sort(confidence), np.random.default_rng(0)
    starts, texts = _starts(len(ordered)), len(ordered)
    errors = [_error(ordered, rng.random(texts) < ordered, starts) for _ in range(SIMULATIONS)]
    return float(np.quantile(errors, 0.95))


def _starts(texts: int) -> npt.NDArray[np.int64]:
    """The indices where bins of equal count begin."""
    count = min(BINS, texts)
    return np.asarray(np.arange(count) * texts // count)


def _error(confidence: Floats, right: Flags, starts: npt.NDArray[np.int64]) -> float:
    """The error, for texts in the order of their confidence."""
    gaps = np.add.reduceat(confidence.astype(np.float64) - right, starts)
    return float(np.abs(gaps).sum() / len(confidence))


def lowest_threshold(confidence: Floats, right: Flags, precision: float) -> float | None:
    """The lowest threshold that holds a precision with 95% confidence on other texts.

    On another sample with the same number of predictions, the precision is held in 95 of 100 cases.
    Both samples vary, each with half of the variance of their difference, so Wilson's one-sided
    interval is used with half of the count.

    Args:
        confidence: [texts].
        right: [texts].
        precision: wanted share of right predictions.

    Returns:
        The threshold, or None if there is none.
    """
    order = np.argsort(-confidence, kind="stable")
    ordered, hits = confidence[order], np.cumsum(right[order])
    for count in range(len(ordered), 0, -1):
        if _is_cut(ordered, count):
            low, _ = wilson_interval(hits[count - 1] / count, count / 2, ONE_SIDED_95)
            if low >= precision:
                return _cut(ordered, count)
    return None


def covering_threshold(confidence: Floats, coverage: float) -> float:
    """The highest threshold that at least this share of the texts reaches."""
    ordered = -np.sort(-confidence)
    count = math.ceil(coverage * len(ordered) - 1e-9)
    while not _is_cut(ordered, count):
        count += 1
    return _cut(ordered, count)


def _is_cut(ordered: Floats, count: int) -> bool:
    """Whether a threshold can separate this number of the most confident texts."""
    return count == len(ordered) or bool(ordered[count - 1] > ordered[count])


def _cut(ordered: Floats, count: int) -> float:
    """A threshold in the middle, so that rounding in other languages changes nothing."""
    return 0.0 if count == len(ordered) else float(ordered[count - 1] + ordered[count]) / 2


def _thresholds(
    name: str, task: Task, outputs: Outputs, right: Flags, decide: Decide
) -> tuple[float, ...]:
    if not decide.asks:
        return ()
    confidence = task.confidence(outputs)
    if not decide.per_class:
        groups = {"": np.ones(len(right), bool)}
    else:
        numbers = task.answer_numbers(outputs)
        groups = {one: numbers == i for i, one in enumerate(task.output_names)}
    found = []
    for group, rows in groups.items():
        if decide.coverage is not None:
            found.append(covering_threshold(confidence[rows], decide.coverage) if rows.any() else 0)
            continue
        threshold = lowest_threshold(confidence[rows], right[rows], decide.precision or 1)
        if threshold is None:
            of = f" for the answer {group!r}" if group else ""
            raise KdedgeError(
                f"{name}: precision = {decide.precision} in [decide] can't be promised{of}: on the "
                f"valid split {int(right[rows].sum()):,} of {int(rows.sum()):,} such answers are "
                "right, and no threshold leaves enough right ones to be sure. Lower it, set "
                "coverage instead, or give more valid texts."
            )
        found.append(threshold)
    return tuple(found)


def _calibration(task: Task, valid_texts: int, test: Predictions, outputs: Outputs) -> Calibration:
    confidence, right = task.confidence(outputs), task.right(outputs, test.labels)
    order = np.argsort(confidence, kind="stable")
    bins = np.split(order, _starts(len(order))[1:])
    return Calibration(
        valid_texts=valid_texts,
        test_texts=len(right),
        error_before=round(expected_error(task.confidence(test.outputs), right), 6),
        error_after=round(expected_error(confidence, right), 6),
        by_chance=round(error_by_chance(confidence), 6),
        bins=tuple(
            Bin(
                texts=len(rows),
                confidence=round(float(confidence[rows].mean()), 4),
                right=round(float(right[rows].mean()), 4),
            )
            for rows in bins
        ),
    )


def _coverage(right: Flags, answered: Flags, threshold: float | None) -> Coverage:
    count = int(answered.sum())
    share = float(right[answered].mean()) if count else None
    interval = None if share is None else wilson_interval(share, count)
    return Coverage(
        threshold=None if threshold is None else round(threshold, 6),
        coverage=round(count / len(right), 4),
        right=None if share is None else round(share, 4),
        interval=interval and (round(interval[0], 4), round(interval[1], 4)),
    )


def _answered(task: Task, decision: Decision, test: Predictions, outputs: Outputs) -> Coverage:
    answered = ~decision.unsure(task, outputs, test.unknown)
    threshold = {0: 0.0, 1: decision.thresholds[0] if decision.thresholds else 0.0}
    right = task.right(outputs, test.labels)
    return _coverage(right, answered, threshold.get(len(decision.thresholds)))


def _curve(task: Task, test: Predictions, outputs: Outputs) -> tuple[Coverage, ...]:
    confidence, right = task.confidence(outputs), task.right(outputs, test.labels)
    thresholds = [covering_threshold(confidence, coverage) for coverage in COVERAGES]
    return tuple(_coverage(right, confidence >= t, t) for t in thresholds)


def _out_of_scope(
    task: Task, decision: Decision, outputs: Outputs, out_of_scope: Predictions | None
) -> OutOfScope | None:
    """Results on the texts that were not used for fitting."""
    if not out_of_scope or len(out_of_scope.outputs) < 2:
        return None
    foreign = decision.calibrated(task, out_of_scope.outputs[1::2])
    unsure = decision.unsure(task, foreign, out_of_scope.unknown[1::2])
    return OutOfScope(
        texts=len(foreign),
        unsure=float(unsure.mean()),
        auroc=auroc(task.confidence(outputs), task.confidence(foreign)),
    )


def auroc(inside: Floats, outside: Floats) -> float:
    """Chance that one of `inside` is above one of `outside`; equal ones count half.

    >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(below.mean() / 2 / len(outside))


def _typical(task: Task, decision: Decision, test: Predictions, outputs: Outputs) -> Typical:
    shares = np.bincount(task.answer_numbers(outputs), minlength=task.width) / len(outputs)
    tokens = np.maximum(test.lengths, 1)
    return Typical(
        texts=len(outputs),
        unsure=round(float(decision.unsure(task, outputs, test.unknown).mean()), 6),
        unknown=round(float((test.unknown * tokens).sum() / tokens.sum()), 6),
        answers=tuple(round(float(share), 6) for share in shares),
        lengths=tuple(
            int(n) for n in np.quantile(test.lengths, np.arange(1, 10) / 10, method="lower")
        ),
    )

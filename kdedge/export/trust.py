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
    Margin,
    OutOfScope,
    Trust,
    Typical,
    answer_shares,
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
# The largest share of unknown tokens; raised if 1% of the valid texts have more.
MAX_UNKNOWN, USUAL = 0.5, 0.99
# Of a normal distribution, 99% are above the mean less this many standard deviations.
DEVIATIONS_BELOW_MEAN, FEWEST_FOR_FAMILIARITY = 2.33, 10
# The share of texts whose label is within the margin of a score.
WITHIN = 0.9


class Predictions(NamedTuple):
    """An artifact's outputs for some texts.

    Attributes:
        outputs: float32 [texts, width], not calibrated.
        labels: true labels, one row for each text; empty for texts out of scope.
        unknown: float64 [texts], share of unknown tokens.
        familiarity: float64 [texts], how like the training texts each is; infinite if not known.
        lengths: int64 [texts], in tokens.
    """

    outputs: Outputs
    labels: Labels
    unknown: npt.NDArray[np.float64]
    familiarity: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]

    def at(self, rows: slice) -> "Predictions":
        """The predictions for some of the texts."""
        return Predictions(
            self.outputs[rows],
            self.labels[rows],
            self.unknown[rows],
            self.familiarity[rows],
            self.lengths[rows],
        )


class Claims(NamedTuple):
    """Predicted labels, in the texts' order; one for each text if each has one class.

    Attributes:
        number: int64 [claims], position of the label in the outputs.
        confidence: float32 [claims], calibrated probability.
        right: bool [claims].
        known: bool [claims], whether the text is like those that the model was made for.
    """

    number: npt.NDArray[np.int64]
    confidence: Floats
    right: Flags
    known: Flags


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
        task: task of the outputs.
        valid: outputs for the valid split, at least one text.
        test: outputs for the test split, at least one text.
        decide: wanted precision or coverage, for tasks with confidence.
        out_of_scope: outputs for texts that no label fits. Every second one is used for fitting.

    Raises:
        KdedgeError: no threshold reaches the wanted precision.
    """
    usual = float(np.quantile(valid.unknown, USUAL, method="lower"))
    decision = Decision(
        max_unknown=round(max(MAX_UNKNOWN, usual), 6),
        min_familiarity=_min_familiarity(valid.familiarity) if decide.familiarity else None,
    )
    if not task.has_confidence:
        margin = _margin(*(np.abs(one.outputs[:, 0] - one.labels) for one in (valid, test)))
        return Trust(decision=decision, margin=margin, typical=_typical(task, decision, test))
    temperature = fitted_temperature(task, valid.outputs, valid.labels)
    decision = decision.model_copy(update={"temperature": temperature})
    fitted_on = [_claims(task, decision, valid)]
    if out_of_scope and decide.precision is not None:
        fitted_on.append(_claims(task, decision, out_of_scope.at(slice(0, None, 2))))
    joined = Claims(*map(np.concatenate, zip(*fitted_on, strict=True)))
    thresholds = _thresholds(name, task, joined, decide)
    decision = decision.model_copy(update={"thresholds": thresholds})
    claims = _claims(task, decision, test)
    uncalibrated = test.outputs[task.predicted(test.outputs)]
    return Trust(
        decision=decision,
        calibration=_calibration(len(valid.labels), uncalibrated, claims),
        answered=_answered(decision, claims),
        curve=_curve(claims),
        out_of_scope=_out_of_scope(task, decision, test, out_of_scope),
        typical=_typical(task, decision, test),
    )


def _min_familiarity(valid: Floats) -> float | None:
    """The familiarity that about 99% of the valid texts have; None with too few texts.

    The lower one of the quantile and that of a normal distribution: with few texts, the quantile
    is the lowest text, which many others may be below.
    """
    if len(valid) < FEWEST_FOR_FAMILIARITY or not np.isfinite(valid).all():
        return None
    quantile = float(np.quantile(valid, 1 - USUAL, method="lower"))
    return round(min(quantile, float(valid.mean() - DEVIATIONS_BELOW_MEAN * valid.std())), 6)


def _claims(task: Task, decision: Decision, predictions: Predictions) -> Claims:
    """The labels that an artifact predicts, without thresholds of a decision.

    Texts out of scope have no labels, so that all claims about them are wrong.
    """
    outputs, labels = predictions.outputs, predictions.labels
    predicted = task.predicted(outputs)
    truth = task.truth(labels) if len(labels) else np.zeros(predicted.shape, bool)
    texts, numbers = np.nonzero(predicted)
    return Claims(
        numbers,
        task.scaled(outputs, decision.temperature)[predicted],
        truth[predicted],
        ~decision.unlike_training(predictions.unknown, predictions.familiarity)[texts],
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
    """Expected calibration error of predictions that are sorted by confidence."""
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


def _thresholds(name: str, task: Task, claims: Claims, decide: Decide) -> tuple[float, ...]:
    if not decide.asks:
        return ()
    groups = {"": claims.known}
    if decide.per_class:
        names = enumerate(task.output_names)
        groups = {one: claims.known & (claims.number == i) for i, one in names}
    thresholds = []
    for group, rows in groups.items():
        confidence, right = claims.confidence[rows], claims.right[rows]
        if decide.coverage is not None:
            thresholds.append(covering_threshold(confidence, decide.coverage) if rows.any() else 0)
            continue
        threshold = lowest_threshold(confidence, right, decide.precision or 1)
        if threshold is None:
            for_group = f" for the answer {group!r}" if group else ""
            raise KdedgeError(
                f"{name}: precision = {decide.precision} in [decide] can't be promised"
                f"{for_group}: on the valid split {int(right.sum()):,} of {len(right):,} such "
                "answers are right, and no threshold leaves enough right ones to be sure. Lower "
                "it, set coverage instead, or give more valid texts."
            )
        thresholds.append(threshold)
    return tuple(thresholds)


def _calibration(valid_texts: int, before: Floats, claims: Claims) -> Calibration | None:
    """The errors of predicted labels; `before` are their probabilities as the model gives them."""
    confidence, right = claims.confidence, claims.right
    if not len(right):
        return None
    order = np.argsort(confidence, kind="stable")
    bins = np.split(order, _starts(len(order))[1:])
    return Calibration(
        valid_texts=valid_texts,
        test_labels=len(right),
        error_before=round(expected_error(before, right), 6),
        error_after=round(expected_error(confidence, right), 6),
        by_chance=round(error_by_chance(confidence), 6),
        bins=tuple(
            Bin(
                labels=len(rows),
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


def _answered(decision: Decision, claims: Claims) -> Coverage | None:
    if not len(claims.right):
        return None
    thresholds = np.array(decision.thresholds or (0.0,))
    label_thresholds = thresholds[claims.number] if len(thresholds) > 1 else thresholds
    answered = claims.known & (claims.confidence >= label_thresholds)
    return _coverage(claims.right, answered, thresholds[0] if len(thresholds) == 1 else None)


def _curve(claims: Claims) -> tuple[Coverage, ...]:
    confidence, right = claims.confidence, claims.right
    if not len(right):
        return ()
    thresholds = [covering_threshold(confidence, coverage) for coverage in COVERAGES]
    return tuple(_coverage(right, confidence >= t, t) for t in thresholds)


def _out_of_scope(
    task: Task, decision: Decision, test: Predictions, out_of_scope: Predictions | None
) -> OutOfScope | None:
    """Results on the texts that were not used for fitting."""
    if not out_of_scope or len(out_of_scope.outputs) < 2:
        return None
    other = out_of_scope.at(slice(1, None, 2))
    decided = decision.decide(task, other.outputs, other.unknown, other.familiarity)
    inside = task.scaled(test.outputs, decision.temperature)
    return OutOfScope(
        texts=len(decided.outputs),
        unsure=float((decided.unsure | ~decided.predicted.any(1)).mean()),
        auroc=auroc(inside.max(1), decided.outputs.max(1)),
    )


def auroc(inside: Floats, outside: Floats) -> float:
    """Chance that one of `inside` is above one of `outside`; equal ones count half.

    >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(below.mean() / 2 / len(outside))


def _margin(valid: Floats, test: Floats) -> Margin | None:
    """The margin, from the errors of scores; None for too few valid texts."""
    # With probability WITHIN, the error of another text is at most the one of this rank.
    count = math.ceil(WITHIN * (len(valid) + 1) - 1e-9)
    if count > len(valid):
        return None
    margin = float(np.sort(valid)[count - 1])
    within = float((test <= margin).mean())
    low, high = wilson_interval(within, len(test))
    return Margin(
        share=WITHIN,
        margin=margin,
        texts=len(test),
        within=round(within, 4),
        interval=(round(low, 4), round(high, 4)),
    )


def _typical(task: Task, decision: Decision, test: Predictions) -> Typical:
    decided = decision.decide(task, test.outputs, test.unknown, test.familiarity)
    tokens = np.maximum(test.lengths, 1)
    return Typical(
        texts=len(test.outputs),
        unsure=round(float(decided.unsure.mean()), 6),
        unknown=round(float((test.unknown * tokens).sum() / tokens.sum()), 6),
        answers=answer_shares(task, decided.predicted),
        scores=() if task.has_confidence else tuple(map(float, _deciles(test.outputs[:, 0]))),
        lengths=tuple(map(int, _deciles(test.lengths))),
    )


def _deciles(values: npt.NDArray[np.int64] | Outputs) -> npt.NDArray[np.float64]:
    return np.quantile(values.astype(np.float64), np.arange(1, 10) / 10, method="lower")

"""Calibration and thresholds of an artifact, and how good its predictions are with them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from kdedge.tasks import Answer, Outputs, Task


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Decided(NamedTuple):
    """What a `Decision` makes of a model's outputs for some texts.

    Attributes:
        outputs: float32 [texts, width], calibrated.
        predicted: bool [texts, width], the predicted labels of each text; none for scores.
        unsure: bool [texts], whether the prediction is unsure.
    """

    outputs: Outputs
    predicted: npt.NDArray[np.bool_]
    unsure: npt.NDArray[np.bool_]


class Decision(_Frozen):
    """Calibrates outputs, and decides which predictions are unsure.

    Clients in every language do the same; tests/golden/decisions.json has examples.

        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> decision = Decision(temperature=2.0, thresholds=(0.7,))
        >>> decided = decision.decide(task, np.array([[0.1, 0.9], [0.2, 0.8]], np.float32), [0, 0],
        ...                           [1, 1])
        >>> [[round(float(p), 3) for p in row] for row in decided.outputs]
        [[0.25, 0.75], [0.333, 0.667]]
        >>> decided.unsure.tolist()
        [False, True]
    """

    temperature: float = Field(
        1.0,
        gt=0,
        description="divides the logarithms of the probabilities; their log odds, if a text can "
        "have several labels",
    )
    thresholds: tuple[float, ...] = Field(
        (),
        description="a predicted label is unsure if its calibrated probability is below its "
        "threshold: one for all labels, or one for each; if empty, there is no such limit. Unsure "
        "labels are left out, and if no other is left, the answer is unsure and has them",
    )
    max_unknown: float = Field(
        1.0,
        ge=0,
        le=1,
        description="an answer is unsure if a larger share of the text's tokens is unknown; [CLS] "
        "and [SEP] don't count, and a text without tokens is wholly unknown",
    )
    min_familiarity: float | None = Field(
        None,
        description="an answer is unsure if the text is less like the training texts; see "
        "`kdedge.text.familiarity`, whose table the bundle then has",
    )

    def is_unlike_training(self, unknown: float, familiarity: float) -> bool:
        """Whether a text is unlike those that the model was made for."""
        least = self.min_familiarity
        return unknown > self.max_unknown or (least is not None and familiarity < least)

    def unlike_training(
        self, unknown: npt.ArrayLike, familiarity: npt.ArrayLike
    ) -> npt.NDArray[np.bool_]:
        """`is_unlike_training` for each text."""
        least = -np.inf if self.min_familiarity is None else self.min_familiarity
        return (np.asarray(unknown) > self.max_unknown) | (np.asarray(familiarity) < least)

    def decide(
        self,
        task: Task,
        outputs: Outputs,
        unknown: npt.ArrayLike,
        familiarity: npt.ArrayLike,
    ) -> Decided:
        """Calibrate a model's outputs, and find the unsure predictions.

        Args:
            task: task of the outputs.
            outputs: float32 [texts, width], not calibrated.
            unknown: share of each text's tokens that are unknown.
            familiarity: familiarity of each text.
        """
        calibrated, predicted = task.scaled(outputs, self.temperature), task.predicted(outputs)
        sure = predicted & (calibrated >= np.array(self.thresholds or (0.0,)))
        none_sure = np.logical_not(sure.any(1, keepdims=True))
        return Decided(
            calibrated,
            np.where(none_sure, predicted, sure),
            self.unlike_training(unknown, familiarity) | (none_sure & predicted).any(1),
        )

    def answer_one(
        self, task: Task, outputs: Sequence[float], unknown: float, familiarity: float
    ) -> Answer:
        """The answer for one text, without arrays, which take longer to make."""
        calibrated = task.scaled_one(outputs, self.temperature)
        predicted = task.predicted_one(outputs)
        sure = predicted
        if self.thresholds:
            # One for all labels, or one for each.
            several = len(self.thresholds) > 1
            sure = [i for i in predicted if calibrated[i] >= self.thresholds[i if several else 0]]
        unsure = self.is_unlike_training(unknown, familiarity) or (not sure and bool(predicted))
        return task.answer(calibrated, unsure, sure or predicted)


class Bin(_Frozen):
    """Some predicted labels of similar confidence: a point of the reliability diagram."""

    labels: int
    confidence: float = Field(description="mean of their probabilities, calibrated")
    right: float = Field(description="share of right labels")


class Calibration(_Frozen):
    """Calibration errors of an artifact, for the labels that it predicts.

    Each is an expected calibration error: the mean of |confidence - share of right labels| over
    15 bins with the same number of labels. With one label for each text, labels are texts.
    """

    valid_texts: int = Field(description="number of texts that the temperature was fitted on")
    test_labels: int = Field(description="number of labels that the errors are computed on")
    error_before: float
    error_after: float
    by_chance: float = Field(
        description="the error that a perfectly calibrated model with these probabilities would "
        "stay below in 95% of samples of this size"
    )
    bins: tuple[Bin, ...]


class Coverage(_Frozen):
    """Predicted labels that are not unsure, on test texts."""

    threshold: float | None = Field(description="None if each label has its own threshold")
    coverage: float = Field(description="their share of the predicted labels")
    right: float | None = Field(description="share of right ones among them; None if none are left")
    interval: tuple[float, float] | None = Field(description="95% interval of `right`")


class OutOfScope(_Frozen):
    """Results for texts out of scope, on the half that was not used for fitting."""

    texts: int
    unsure: float = Field(description="share of texts with an unsure answer or without a label")
    auroc: float = Field(
        description="chance that the highest probability of a test text is above that of a text "
        "out of scope"
    )


class Margin(_Frozen):
    """How far scores are from the labels (split-conformal intervals, arXiv 1604.04173)."""

    share: float = Field(description="share of texts that the margin was chosen for")
    margin: float = Field(
        description="for this share of texts like the valid split's, the label is within this "
        "distance of the score, in units of the data"
    )
    texts: int = Field(description="number of test texts")
    within: float = Field(description="share of the test texts whose label is within the margin")
    interval: tuple[float, float] = Field(description="95% interval of `within`")


class Typical(_Frozen):
    """Statistics of test texts and their predictions, to detect drift from."""

    texts: int
    unsure: float = Field(description="share of unsure answers")
    unknown: float = Field(description="share of unknown tokens")
    answers: tuple[float, ...] = Field(
        description="share of each label among the predicted ones; with several labels, at the end "
        "the share of texts without one; empty for scores"
    )
    scores: tuple[float, ...] = Field((), description="predicted scores, deciles from 10% to 90%")
    lengths: tuple[int, ...] = Field(
        description="tokens of a text, deciles from 10% to 90%; longer texts are truncated"
    )


class Trust(_Frozen):
    """The decision of an artifact, and how good its predictions are with it.

    Scores have neither `calibration` nor `answered`, and nor have labels if none is predicted for
    the test texts. Only scores have a `margin`, if there are enough valid texts.
    """

    decision: Decision
    calibration: Calibration | None = None
    answered: Coverage | None = Field(None, description="with the decision's thresholds")
    curve: tuple[Coverage, ...] = Field((), description="with other thresholds, for all labels")
    out_of_scope: OutOfScope | None = None
    margin: Margin | None = None
    typical: Typical


def answer_shares(task: Task, predicted: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """The share of each label for `Typical.answers`, from predicted labels, bool [texts, width]."""
    if not task.has_confidence:
        return ()
    without = () if task.has_classes else (int((~predicted.any(1)).sum()),)
    counts = np.array([*predicted.sum(0), *without])
    return tuple(round(float(share), 6) for share in counts / counts.sum())

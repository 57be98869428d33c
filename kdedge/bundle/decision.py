"""Calibration and thresholds of an artifact, and how good its predictions are with them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from kdedge.tasks import Outputs, Task


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Decision(_Frozen):
    """Calibrates outputs, and decides which predictions are unsure.

    Clients in every language do the same; tests/golden/decisions.json has examples.

        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> decision = Decision(temperature=2.0, thresholds=(0.7,))
        >>> outputs = decision.calibrated(task, np.array([[0.1, 0.9], [0.2, 0.8]], np.float32))
        >>> [[round(float(p), 3) for p in row] for row in outputs]
        [[0.25, 0.75], [0.333, 0.667]]
        >>> decision.unsure(task, outputs, [0.0, 0.0]).tolist()
        [False, True]
    """

    temperature: float = Field(1.0, gt=0, description="divides the logarithms of the probabilities")
    thresholds: tuple[float, ...] = Field(
        (),
        description="an answer is unsure if its calibrated probability is below its threshold: "
        "one for all classes, or one for each; if empty, there is no such limit",
    )
    max_unknown: float = Field(
        1.0,
        ge=0,
        le=1,
        description="an answer is unsure if a larger share of the text's tokens is unknown; [CLS] "
        "and [SEP] don't count, and a text without tokens is wholly unknown",
    )

    def calibrated(self, task: Task, outputs: Outputs) -> Outputs:
        """Outputs of logits divided by the temperature, float32 [texts, width]."""
        return task.scaled(outputs, self.temperature) if task.has_confidence else outputs

    def of_one(
        self, task: Task, outputs: Sequence[float], unknown: float
    ) -> tuple[Sequence[float], bool]:
        """`calibrated` and `unsure` for one text, without arrays, which take longer to make."""
        if not task.has_confidence:
            return outputs, unknown > self.max_unknown
        outputs = task.scaled_one(outputs, self.temperature)
        confidence = max(outputs)
        # One for all classes, or one for each.
        thresholds = self.thresholds or (0.0,)
        number = outputs.index(confidence) if len(thresholds) > 1 else 0
        return outputs, unknown > self.max_unknown or confidence < thresholds[number]

    def unsure(
        self, task: Task, outputs: Outputs, unknown: Sequence[float] | npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """For each text, whether the prediction is unsure.

        Args:
            task: task of the outputs.
            outputs: calibrated outputs, float32 [texts, width].
            unknown: share of each text's tokens that are unknown.
        """
        unsure = np.asarray(unknown) > self.max_unknown
        if not self.thresholds:
            return np.asarray(unsure)
        thresholds = np.array(self.thresholds)
        if len(thresholds) > 1:
            thresholds = thresholds[task.answer_numbers(outputs)]
        return np.asarray(unsure | (task.confidence(outputs) < thresholds))


class Bin(_Frozen):
    """Some test texts of similar confidence: a point of the reliability diagram."""

    texts: int
    confidence: float = Field(description="mean of their probabilities, calibrated")
    right: float = Field(description="share of right answers")


class Calibration(_Frozen):
    """Calibration errors of an artifact.

    Each is an expected calibration error: the mean of |confidence - share of right answers| over
    15 bins with the same number of texts.
    """

    valid_texts: int = Field(description="number of texts that the temperature was fitted on")
    test_texts: int = Field(description="number of texts that the errors are computed on")
    error_before: float
    error_after: float
    by_chance: float = Field(
        description="the error that a perfectly calibrated model with these probabilities would "
        "stay below in 95% of samples of this size"
    )
    bins: tuple[Bin, ...]


class Coverage(_Frozen):
    """Predictions that are not unsure, on test texts."""

    threshold: float | None = Field(description="None if each class has its own threshold")
    coverage: float = Field(description="share of the texts that are answered")
    right: float | None = Field(
        description="share of right answers among them; None if there are none"
    )
    interval: tuple[float, float] | None = Field(description="95% interval of `right`")


class OutOfScope(_Frozen):
    """Results for texts out of scope, on the half that was not used for fitting."""

    texts: int
    unsure: float = Field(description="share of unsure answers")
    auroc: float = Field(
        description="chance that a test text's confidence is above an out-of-scope text's"
    )


class Typical(_Frozen):
    """Statistics of test texts and their predictions, to detect drift from."""

    texts: int
    unsure: float = Field(description="share of unsure answers")
    unknown: float = Field(description="share of unknown tokens")
    answers: tuple[float, ...] = Field(description="share of each class among the answers")
    lengths: tuple[int, ...] = Field(
        description="tokens of a text, deciles from 10% to 90%; longer texts are truncated"
    )


class Trust(_Frozen):
    """The decision of an artifact, and how good its predictions are with it."""

    decision: Decision
    calibration: Calibration
    answered: Coverage = Field(description="with the decision's thresholds")
    curve: tuple[Coverage, ...] = Field(description="with other thresholds, for all classes")
    out_of_scope: OutOfScope | None = None
    typical: Typical

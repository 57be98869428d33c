"""When to trust an answer: temperature, thresholds, and their statistics."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from kdedge import KdedgeError
from kdedge.bundle.decision import Decision
from kdedge.export.trust import (
    Predictions,
    auroc,
    covering_threshold,
    error_by_chance,
    expected_error,
    fitted_temperature,
    lowest_threshold,
    trust_of,
)
from kdedge.recipe import Decide
from kdedge.tasks import Classification, MultiLabel, Regression, read_task

TASK = Classification(label_names=("bad", "good"))
GOLDEN = json.loads((ROOT / "tests" / "golden" / "decisions.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden_decisions(case: dict) -> None:
    task, decision = read_task(case["task"]), Decision(**case["decision"])
    decided = decision.decide(
        task, np.array([case["outputs"]], np.float32), [case["unknown"]], [case["familiarity"]]
    )
    np.testing.assert_allclose(decided.outputs[0], case["calibrated"], rtol=0, atol=1e-6)
    predicted = np.flatnonzero(decided.predicted[0]).tolist()
    of_list = task.answer(decided.outputs[0].tolist(), bool(decided.unsure[0]), predicted).fields()
    of_one = decision.answer_one(
        task, case["outputs"], case["unknown"], case["familiarity"]
    ).fields()
    for fields in (of_list, of_one):
        labels = fields.get("labels", [fields["label"]] if "label" in fields else [])
        assert (labels, fields["unsure"]) == (case["labels"], case["unsure"])
    shown = [*of_one.get("probabilities", {"score": of_one.get("score")}).values()]
    np.testing.assert_allclose(shown, case["calibrated"], rtol=0, atol=1e-6)


@pytest.mark.skipif(shutil.which("node") is None, reason="apt install nodejs")
def test_golden_decisions_in_javascript(tmp_path: Path) -> None:
    for name in ("classifier.js", "familiarity.js", "tasks.js", "words.js"):
        shutil.copyfile(ROOT / "web_demo" / name, tmp_path / name)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    program = (
        'import { decide } from "./classifier.js"; import { readFileSync } from "node:fs";'
        "const cases = JSON.parse(readFileSync(process.argv[2]));"
        "const answers = cases.map((c) => "
        "decide(c.task, c.decision, c.outputs, c.unknown, c.familiarity));"
        "console.log(JSON.stringify(answers));"
    )
    (tmp_path / "program.js").write_text(program)
    command = ["node", tmp_path / "program.js", ROOT / "tests" / "golden" / "decisions.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for case, answer in zip(GOLDEN, json.loads(done.stdout), strict=True):
        np.testing.assert_allclose(answer["calibrated"], case["calibrated"], rtol=0, atol=1e-8)
        said = answer["labels"], answer["unsure"]
        assert said == (case["labels"], case["unsure"]), case["name"]


def two_classes(logit: np.ndarray) -> np.ndarray:
    """Probabilities for logits (0, x), for each x of these."""
    return TASK.outputs(np.stack([np.zeros_like(logit), logit], 1).astype(np.float32))


def test_the_temperature_of_a_model_that_is_twice_too_sure() -> None:
    # 80% of the answers are right, and the model says so of logits that it then doubles.
    outputs = two_classes(np.full(1000, 2 * math.log(4)))
    labels = np.repeat([1, 0], [800, 200])
    assert TASK.confidence(outputs)[0] == pytest.approx(16 / 17)
    # One made-up text of either class among 1,000 moves it a little.
    assert fitted_temperature(TASK, outputs, labels) == pytest.approx(2, abs=0.01)
    calibrated = TASK.scaled(outputs, 2.0)
    np.testing.assert_allclose(calibrated, np.tile([0.2, 0.8], (1000, 1)), atol=1e-6)
    assert TASK.log_loss(outputs[:1], np.array([1])) == pytest.approx(
        (math.log(17 / 16) + (math.log(17) + math.log(17 / 16)) / 2) / 2, rel=1e-5
    )


def test_a_model_that_is_always_right_on_few_texts_does_not_become_certain() -> None:
    outputs, labels = two_classes(np.full(10, 1.0)), np.ones(10, np.int32)
    assert fitted_temperature(TASK, outputs, labels) > 0.2


def test_the_calibration_error_by_hand() -> None:
    # Each text is a bin: |0.9 - 1|, |0.8 - 0|, |0.6 - 1|.
    confidence, right = np.array([0.9, 0.8, 0.6]), np.array([True, False, True])
    assert expected_error(confidence, right) == pytest.approx((0.1 + 0.8 + 0.4) / 3)
    # 30 texts in 15 bins of 2: in each bin one is right.
    confidence = np.linspace(0.5, 1, 30)
    right = np.arange(30) % 2 == 0
    gaps = [abs(confidence[i : i + 2].mean() - 0.5) for i in range(0, 30, 2)]
    assert expected_error(confidence, right) == pytest.approx(np.mean(gaps))


def test_the_calibration_error_by_chance() -> None:
    # A bin of n texts with p = 0.8 is off by sqrt(2 p (1 - p) / (pi n)) in the mean.
    mean = math.sqrt(2 * 0.8 * 0.2 / (math.pi * 100))
    found = error_by_chance(np.full(1500, 0.8))
    # The mean of 15 such, each with a standard deviation of 0.75 of it: + 1.64 / sqrt(15) of that.
    assert found == pytest.approx(mean * (1 + 1.645 * 0.7555 / math.sqrt(15)), rel=0.03)


def test_the_lowest_threshold_for_a_precision() -> None:
    # Of n / 2 right answers Wilson's lower end is n / (n + 2 * 1.645 ** 2): 0.9 from 49 on.
    confidence = np.linspace(1, 0.5, 120)
    right = np.arange(120) < 48
    assert lowest_threshold(confidence, right, 0.9) is None
    right = np.arange(120) < 80
    found = lowest_threshold(confidence, right, 0.9)
    assert found is not None
    # With one wrong answer it is 0.916, with a second one 0.898.
    assert confidence[80] > found > confidence[81]
    assert lowest_threshold(confidence, np.ones(120, bool), 0.9) == 0


def test_the_threshold_for_a_coverage() -> None:
    confidence = np.array([0.6, 0.9, 0.7, 0.8])
    assert covering_threshold(confidence, 0.5) == pytest.approx(0.75)
    assert covering_threshold(confidence, 0.51) == pytest.approx(0.65)
    assert covering_threshold(confidence, 1.0) == 0
    # Of equal confidences, all or none are answered.
    assert covering_threshold(np.array([0.9, 0.9, 0.9, 0.1]), 0.5) == pytest.approx(0.5)


def predictions_of(confidence: np.ndarray, right: np.ndarray, unknown: float = 0.0) -> Predictions:
    """Predictions that are all `good`."""
    outputs = np.stack([1 - confidence, confidence], 1).astype(np.float32)
    count = len(right)
    return Predictions(
        outputs,
        right.astype(np.int32),
        np.full(count, unknown),
        np.full(count, np.inf),
        np.full(count, 7),
    )


def test_the_trust_of_an_artifact() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 2000)
    right = rng.random(2000) < confidence
    valid = predictions_of(confidence[:1000], right[:1000])
    test = predictions_of(confidence[1000:], right[1000:])
    trust = trust_of("litert-int8", TASK, valid, test, Decide(precision=0.9), None)
    assert trust.decision.temperature == pytest.approx(1, abs=0.15)
    (threshold,) = trust.decision.thresholds
    assert trust.decision.max_unknown == 0.5
    assert trust.answered is not None and trust.calibration is not None
    assert trust.answered.right is not None and trust.answered.right >= 0.9
    decided = trust.decision.decide(TASK, test.outputs, test.unknown, test.familiarity)
    answered = TASK.confidence(decided.outputs) >= threshold
    assert trust.answered.coverage == answered.mean()
    assert trust.typical.unsure == pytest.approx(1 - answered.mean())
    assert trust.typical.answers == (0, 1)
    assert trust.typical.lengths == (7,) * 9
    assert [point.coverage for point in trust.curve][:3] == [1, 0.95, 0.9]
    assert trust.curve[0].right == pytest.approx(right[1000:].mean(), abs=1e-4)
    assert trust.calibration.error_after < trust.calibration.by_chance
    assert sum(one.labels for one in trust.calibration.bins) == 1000

    # Texts out of scope, of which the model is as sure as of others, raise the threshold.
    out_of_scope = predictions_of(rng.uniform(0.5, 0.9, 200), np.zeros(200))
    stricter = trust_of("litert-int8", TASK, valid, test, Decide(precision=0.9), out_of_scope)
    assert stricter.decision.thresholds > trust.decision.thresholds
    assert stricter.out_of_scope is not None and stricter.out_of_scope.texts == 100
    assert 0.5 < stricter.out_of_scope.auroc < 0.75

    wish = Decide(coverage=0.8, per_class=True)
    by_class = trust_of("litert-int8", TASK, valid, test, wish, None).decision.thresholds
    assert len(by_class) == 2 and by_class[0] == 0 and 0.5 < by_class[1] < 0.7


def test_a_precision_that_can_not_be_promised() -> None:
    predictions = predictions_of(np.linspace(0.5, 1, 50), np.arange(50) % 2 == 0)
    with pytest.raises(KdedgeError, match=r"litert-int8: precision = 0.95 in \[decide\] can't be"):
        trust_of("litert-int8", TASK, predictions, predictions, Decide(precision=0.95), None)


def test_auroc_by_hand() -> None:
    # Of 2 x 2 pairs three are in order.
    assert auroc(np.array([0.9, 0.4]), np.array([0.5, 0.1])) == 0.75


LABELS = MultiLabel(label_names=("joy", "love"), thresholds=(0.4, 0.3))


def test_the_temperature_of_labels_that_are_twice_too_sure() -> None:
    # 80% have the first label and 20% the second one, and the logits are twice those of that.
    logits = np.tile(np.array([2 * math.log(4), -2 * math.log(4)], np.float32), (1000, 1))
    labels = np.stack([np.arange(1000) < 800, np.arange(1000) < 200], 1).astype(np.int8)
    outputs = LABELS.outputs(logits)
    assert fitted_temperature(LABELS, outputs, labels) == pytest.approx(2, abs=0.01)
    calibrated = LABELS.scaled(outputs, 2.0)
    np.testing.assert_allclose(calibrated, np.tile([0.8, 0.2], (1000, 1)), atol=1e-6)
    # One text with both labels, of probabilities 16/17 and 1/17, and a made-up one with half of
    # each: for each label ln(17 / 16) or ln 17, and the mean of both.
    both = (math.log(17 / 16) + math.log(17)) / 2
    assert LABELS.log_loss(outputs[:1], np.array([[1, 1]])) == pytest.approx(
        (both + both) / 2, rel=1e-5
    )


def labels_of(first: np.ndarray, right: np.ndarray) -> Predictions:
    """The first label has these probabilities; the second one 10%, and a tenth of the texts."""
    count = len(right)
    outputs = np.stack([first, np.full(count, 0.1)], 1).astype(np.float32)
    labels = np.stack([right, np.arange(count) % 10 == 0], 1).astype(np.int8)
    return Predictions(outputs, labels, np.zeros(count), np.full(count, np.inf), np.full(count, 7))


def test_the_trust_of_an_artifact_with_several_labels() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0.2, 1, 4000)
    right = rng.random(4000) < first
    valid, test = labels_of(first[:2000], right[:2000]), labels_of(first[2000:], right[2000:])
    plain = trust_of("litert-int8", LABELS, valid, test, Decide(), None)
    above = test.outputs[:, 0] > 0.4
    assert plain.decision.temperature == pytest.approx(1, abs=0.2)
    assert plain.decision.thresholds == () and plain.typical.unsure == 0
    # The labels that are predicted, and the texts without one.
    assert plain.typical.answers == pytest.approx((above.mean(), 0, 1 - above.mean()), abs=1e-6)
    assert plain.calibration is not None and plain.calibration.test_labels == above.sum()
    assert plain.answered is not None and plain.answered.coverage == 1
    assert plain.answered.right == pytest.approx(right[2000:][above].mean(), abs=1e-4)

    trust = trust_of("litert-int8", LABELS, valid, test, Decide(precision=0.9), None)
    (threshold,) = trust.decision.thresholds
    decided = trust.decision.decide(LABELS, test.outputs, test.unknown, test.familiarity)
    sure = above & (decided.outputs[:, 0] >= threshold)
    assert trust.answered is not None and trust.answered.right is not None
    assert trust.answered.right >= 0.9
    assert trust.answered.coverage == pytest.approx(sure.sum() / above.sum(), abs=1e-4)
    # A text is unsure if it has labels and none is sure, not if it has no label.
    np.testing.assert_array_equal(decided.unsure, above & ~sure)
    assert trust.typical.unsure == pytest.approx(decided.unsure.mean(), abs=1e-6)

    # Each label has its own threshold; the second one is always right.
    known = valid._replace(
        outputs=np.stack([valid.outputs[:, 0], np.full(2000, 0.95)], 1).astype(np.float32),
        labels=np.stack([valid.labels[:, 0], np.ones(2000, np.int8)], 1),
    )
    wish = Decide(precision=0.9, per_class=True)
    thresholds = trust_of("litert-int8", LABELS, known, test, wish, None).decision.thresholds
    assert len(thresholds) == 2 and thresholds[0] > 0.7 and thresholds[1] == 0

    # Out of scope, a text without a label counts as an unsure one.
    out_of_scope = labels_of(np.array([0.9, 0.95, 0.3, 0.3]), np.zeros(4))._replace(
        labels=np.empty(0)
    )
    found = trust_of("litert-int8", LABELS, valid, test, Decide(), out_of_scope).out_of_scope
    assert found is not None and (found.texts, found.unsure) == (2, 0.5)


def test_the_trust_of_labels_that_are_never_predicted() -> None:
    nothing = labels_of(np.full(50, 0.2), np.zeros(50))
    trust = trust_of("litert-int8", LABELS, nothing, nothing, Decide(coverage=0.9), None)
    assert (trust.calibration, trust.answered, trust.curve) == (None, None, ())
    assert trust.typical.answers == (0, 0, 1)


def test_the_trust_of_an_artifact_with_scores() -> None:
    task = Regression(mean=3.0, deviation=1.0)

    def scores_of(errors: np.ndarray) -> Predictions:
        labels = np.linspace(1, 5, len(errors)).astype(np.float32)
        outputs = (labels + errors).astype(np.float32)[:, None]
        count = len(errors)
        unknown, familiarity = np.full(count, 0.1), np.full(count, np.inf)
        return Predictions(outputs, labels, unknown, familiarity, np.full(count, 7))

    # Of 19 errors the margin is the one of rank 0.9 * 20 = 18.
    errors = np.arange(1, 20) / 10 * np.resize([1, -1], 19)
    test = scores_of(np.array([0.5, -1.75, 1.85, 1.0]))
    trust = trust_of("litert-int8", task, scores_of(errors), test, Decide(), None)
    assert trust.decision == Decision(max_unknown=0.5)
    assert (trust.calibration, trust.answered, trust.curve) == (None, None, ())
    assert trust.margin is not None and trust.margin.margin == pytest.approx(1.8, abs=1e-6)
    assert (trust.margin.texts, trust.margin.within) == (4, 0.75)
    assert trust.typical.answers == ()
    # Scores 1.5, 0.5833, 5.5167 and 6: of deciles the lower one.
    assert trust.typical.scores[0] == pytest.approx(0.5833, abs=1e-4)
    assert trust.typical.scores[8] == pytest.approx(5.5167, abs=1e-4)
    # Rank 9 of 8 errors would be needed.
    few = trust_of("litert-int8", task, scores_of(errors[:8]), test, Decide(), None)
    assert few.margin is None

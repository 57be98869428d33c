"""When to trust an answer: temperature, thresholds and what is known of them."""

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
from kdedge.tasks import Classification

TASK = Classification(label_names=("bad", "good"))
GOLDEN = json.loads((ROOT / "tests" / "golden" / "decisions.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden_decisions(case: dict) -> None:
    width = len(case["outputs"])
    task = Classification(label_names=[f"class {i}" for i in range(width)])
    decision = Decision(**case["decision"])
    outputs = decision.calibrated(task, np.array([case["outputs"]], np.float32))
    np.testing.assert_allclose(outputs[0], case["calibrated"], rtol=0, atol=1e-6)
    assert outputs[0].argmax() == case["answer"]
    assert decision.unsure(task, outputs, [case["unknown"]]).tolist() == [case["unsure"]]
    calibrated, unsure = decision.of_one(task, case["outputs"], case["unknown"])
    np.testing.assert_allclose(calibrated, case["calibrated"], rtol=0, atol=1e-8)
    assert task.answer(calibrated, unsure).label == f"class {case['answer']}"
    assert unsure is case["unsure"]


@pytest.mark.skipif(shutil.which("node") is None, reason="apt install nodejs")
def test_golden_decisions_in_javascript(tmp_path: Path) -> None:
    for name in ("classifier.js", "tasks.js"):
        shutil.copyfile(ROOT / "web_demo" / name, tmp_path / name)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    program = (
        'import { decide } from "./classifier.js"; import { readFileSync } from "node:fs";'
        "const cases = JSON.parse(readFileSync(process.argv[2]));"
        "const answers = cases.map((c) => decide(c.decision, c.outputs, c.unknown));"
        "console.log(JSON.stringify(answers));"
    )
    (tmp_path / "program.js").write_text(program)
    command = ["node", tmp_path / "program.js", ROOT / "tests" / "golden" / "decisions.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for case, answer in zip(GOLDEN, json.loads(done.stdout), strict=True):
        np.testing.assert_allclose(answer["calibrated"], case["calibrated"], rtol=0, atol=1e-8)
        assert (answer["answer"], answer["unsure"]) == (case["answer"], case["unsure"]), case[
            "name"
        ]


def two_classes(logit: np.ndarray) -> np.ndarray:
    """Outputs of logits 0 and these."""
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
    # Equal ones are answered all or none.
    assert covering_threshold(np.array([0.9, 0.9, 0.9, 0.1]), 0.5) == pytest.approx(0.5)


def predictions_of(confidence: np.ndarray, right: np.ndarray, unknown: float = 0.0) -> Predictions:
    """All answers are `good`."""
    outputs = np.stack([1 - confidence, confidence], 1).astype(np.float32)
    count = len(right)
    return Predictions(outputs, right.astype(np.int32), np.full(count, unknown), np.full(count, 7))


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
    assert trust.answered.right is not None and trust.answered.right >= 0.9
    answered = TASK.confidence(trust.decision.calibrated(TASK, test.outputs)) >= threshold
    assert trust.answered.coverage == answered.mean()
    assert trust.typical.unsure == pytest.approx(1 - answered.mean())
    assert trust.typical.answers == (0, 1)
    assert trust.typical.lengths == (7,) * 9
    assert [point.coverage for point in trust.curve][:3] == [1, 0.95, 0.9]
    assert trust.curve[0].right == pytest.approx(right[1000:].mean(), abs=1e-4)
    assert trust.calibration.error_after < trust.calibration.by_chance
    assert sum(one.texts for one in trust.calibration.bins) == 1000

    # Texts out of scope, of which the model is as sure as of others, raise the threshold.
    foreign = predictions_of(rng.uniform(0.5, 0.9, 200), np.zeros(200))
    stricter = trust_of("litert-int8", TASK, valid, test, Decide(precision=0.9), foreign)
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

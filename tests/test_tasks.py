"""Tasks: numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from kdedge import KdedgeError
from kdedge.tasks import TASKS, Classification, read_task

TASK = Classification(label_names=("bad", "good"))


def test_probabilities_worked_out_by_hand() -> None:
    # e^0 : e^ln3 = 1 : 3, however large the numbers.
    said = TASK.outputs(np.array([[0, np.log(3)], [1000, 1000 + np.log(3)]]))
    np.testing.assert_allclose(said, [[0.25, 0.75]] * 2, atol=1e-6)


def test_the_answer_is_the_most_probable_class() -> None:
    answer = TASK.answer(np.array([0.25, 0.75], np.float32))
    assert (answer.label, answer.probability) == ("good", 0.75)
    assert answer.line() == "good\t0.7500"
    assert answer.fields() == {"label": "good", "probabilities": {"bad": 0.25, "good": 0.75}}


def test_accuracy_and_agreement() -> None:
    outputs = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], np.float32)
    assert TASK.score(outputs, np.array([0, 1, 0])) == pytest.approx(2 / 3)
    assert TASK.agreement(outputs, outputs[::-1]) == pytest.approx(1 / 3)
    assert TASK.confidence(outputs).tolist() == pytest.approx([0.9, 0.6, 0.7])


def test_logits_give_the_probabilities_they_are_of() -> None:
    logits = TASK.logits(np.array([0.2, 0.8], np.float32), "here")
    np.testing.assert_allclose(TASK.outputs(logits), [0.2, 0.8], atol=1e-6)
    assert math.isfinite(TASK.logits(np.array([0, 1], np.float32), "here")[0])
    with pytest.raises(KdedgeError, match="here; they must be at least 0 and sum to 1"):
        TASK.logits(np.array([0.2, 0.7], np.float32), "here")


def test_labels_of_another_corpus() -> None:
    assert TASK.numbers(["good", "bad", "good"], "there").tolist() == [1, 0, 1]
    with pytest.raises(KdedgeError, match="there: fine, so so. There are the labels bad, good"):
        TASK.numbers(["so so", "good", "fine"], "there")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_comes_back_from_json(name: str) -> None:
    assert TASK.name == name
    assert read_task(json.loads(TASK.model_dump_json())) == TASK


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="task: 'translation'; this kdedge knows classification"):
        read_task({"name": "translation"})
    with pytest.raises(ValueError, match="label_names"):
        read_task({"name": "classification", "label_names": ["one"]})


def test_the_interval_of_an_accuracy() -> None:
    # Wilson's middle and half for 8 of 10, with z = 1.96: (0.8 + 0.19207) / 1.38415 and
    # sqrt(0.016 * 3.84146 + 0.0368920) / 1.38415.
    assert TASK.interval(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert TASK.interval(1.0, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)

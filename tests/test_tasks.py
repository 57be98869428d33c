"""Tasks: numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from kdedge import KdedgeError
from kdedge.tasks import TASKS, Classification, MultiLabel, Regression, Task, read_task
from kdedge.tasks.intervals import bootstrap_interval, fisher_interval, wilson_interval
from kdedge.tasks.multi_label import best_threshold

TASK = Classification(label_names=("bad", "good"))
EMOTIONS = MultiLabel(label_names=("anger", "joy", "love"))
STARS = Regression(mean=3.0, deviation=0.5)
EACH: dict[str, Task] = {task.name: task for task in (TASK, EMOTIONS, STARS)}


def test_probabilities_worked_out_by_hand() -> None:
    # e^0 : e^ln3 = 1 : 3, however large the numbers.
    outputs = TASK.outputs(np.array([[0, np.log(3)], [1000, 1000 + np.log(3)]]))
    np.testing.assert_allclose(outputs, [[0.25, 0.75]] * 2, atol=1e-6)


def test_the_answer_is_the_most_probable_class() -> None:
    answer = TASK.answer([0.25, 0.75])
    assert (answer.label, answer.probability) == ("good", 0.75)
    assert answer.line() == "good\t0.7500"
    probabilities = {"bad": 0.25, "good": 0.75}
    assert answer.fields() == {"label": "good", "unsure": False, "probabilities": probabilities}


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
    with pytest.raises(KdedgeError, match="there: unknown labels: fine, so so. Allowed: bad, good"):
        TASK.numbers(["so so", "good", "fine"], "there")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_comes_back_from_json(name: str) -> None:
    assert read_task(json.loads(EACH[name].model_dump_json())) == EACH[name]


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="task: .translation.; this kdedge knows classif"):
        read_task({"name": "translation"})
    with pytest.raises(ValueError, match="label_names"):
        read_task({"name": "classification", "label_names": ["one"]})


def test_the_interval_of_an_accuracy() -> None:
    # Wilson's middle and half for 8 of 10, with z = 1.96: (0.8 + 0.19207) / 1.38415 and
    # sqrt(0.016 * 3.84146 + 0.0368920) / 1.38415.
    assert wilson_interval(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)
    outputs = np.array([[0.2, 0.8]] * 8 + [[0.8, 0.2]] * 2, np.float32)
    found = TASK.interval(outputs, np.ones(10, np.int32))
    assert found == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


# Several labels


def test_sigmoids_worked_out_by_hand() -> None:
    # Odds of 3 : 1; far out they are 0 and 1, and nothing overflows.
    outputs = EMOTIONS.outputs(np.array([[math.log(3), -1000, 1000]], np.float32))
    np.testing.assert_allclose(outputs, [[0.75, 0, 1]], atol=1e-7)
    back = EMOTIONS.logits(np.array([0.75, 0.5, 0], np.float32), "here")
    np.testing.assert_allclose(back, [math.log(3), 0, math.log(1e-7)], rtol=1e-5)
    with pytest.raises(KdedgeError, match="here; they must be from 0 to 1"):
        EMOTIONS.logits(np.array([0.5, 1.5, 0], np.float32), "here")


def test_the_labels_are_those_above_their_thresholds() -> None:
    outputs = [0.6, 0.4, 0.7]
    assert EMOTIONS.answer(outputs).labels == ("love", "anger")
    tuned = EMOTIONS.model_copy(update={"thresholds": (0.9, 0.3, 0.5)})
    answer = tuned.answer(outputs)
    assert answer.line() == "love, joy\t0.7000, 0.4000"
    assert answer.fields()["labels"] == ["love", "joy"]
    assert tuned.answer([0, 0, 0]).text() == "none"
    with pytest.raises(ValueError, match="1 thresholds, 3 labels"):
        MultiLabel(label_names=EMOTIONS.label_names, thresholds=(0.5,))


def test_lists_of_labels_become_rows_of_0_and_1() -> None:
    parsed = [MultiLabel.parse(value, "here") for value in (["joy", "anger", "joy"], [], ["love"])]
    assert parsed == [("anger", "joy"), (), ("love",)]
    task, labels = MultiLabel.from_labels([names or () for names in parsed], "there")
    assert task == EMOTIONS
    assert labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert [task.parsed(row) for row in labels] == parsed
    assert task.counts(labels)["no label"] == 1
    assert MultiLabel.parse(None, "here") is None
    with pytest.raises(KdedgeError, match="here is 'joy,love'; a list is needed.*label_delimiter"):
        MultiLabel.parse("joy,love", "here")
    with pytest.raises(KdedgeError, match="one of its labels is empty"):
        MultiLabel.parse(["joy", " "], "here")
    with pytest.raises(KdedgeError, match="there: unknown labels: hate. Allowed: anger, joy, love"):
        task.numbers([("hate",)], "there")


def test_micro_and_macro_f1_worked_out_by_hand() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], np.int8)
    outputs = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    # anger: 2 right, 1 wrong: 0.8. joy: 1 right, 1 missed: 2/3. love: 1 wrong: 0. All: 3, 2, 1.
    assert EMOTIONS.measures(outputs, labels) == pytest.approx(
        {"micro_f1": 6 / 9, "macro_f1": (0.8 + 2 / 3) / 3}
    )
    assert EMOTIONS.agreement(outputs, labels.astype(np.float32)) == 0.25
    # With the other model's thresholds none of its labels is predicted; the third text has none.
    strict = EMOTIONS.model_copy(update={"thresholds": (1.0, 1.0, 1.0)})
    nothing = labels.astype(np.float32) * 0.9
    assert EMOTIONS.agreement(np.zeros_like(nothing), nothing, strict) == 1
    assert EMOTIONS.agreement(np.zeros_like(nothing), nothing) == 0.25
    low, high = EMOTIONS.interval(outputs, labels)
    assert 0 < low < 6 / 9 < high <= 1


def test_a_threshold_is_where_f1_is_highest() -> None:
    outputs = np.array([0.9, 0.8, 0.6, 0.3, 0.1], np.float32)
    # Of the first four, three are right and none is missed: 6/7; of the first one: 2/4.
    assert best_threshold(outputs, np.array([1, 0, 1, 1, 0])) == pytest.approx(0.2)
    assert best_threshold(outputs, np.array([1, 0, 0, 0, 0])) == pytest.approx(0.85)
    assert best_threshold(outputs, np.zeros(5, np.int8)) == 0.5
    # Equal probabilities are not told apart.
    assert best_threshold(np.array([0.5, 0.5, 0.5], np.float32), np.array([1, 0, 0])) == 0.25


def test_thresholds_do_well_together() -> None:
    task = MultiLabel(label_names=("easy", "faint", "hopeless"))
    labels = np.zeros((100, 3), np.int8)
    labels[:50, 0] = labels[50:, 1] = labels[::10, 2] = 1
    outputs = np.where(labels, [0.9, 0.3, 0.2], [0.1, 0.1, 0.2]).astype(np.float32)
    # hopeless is 0.2 for all: if all texts got it, its F1 would be 2 * 10 / 110 and not 0, but
    # micro F1 2 * 110 / 310 and not 2 * 100 / 210. The others have nothing wrong.
    task = task.tuned(outputs, labels)
    assert task.thresholds == pytest.approx((0.5, 0.2, 0.6))
    found = task.measures(outputs, labels)
    assert found == pytest.approx({"micro_f1": 200 / 210, "macro_f1": 2 / 3})


def test_rare_labels_have_the_threshold_of_all() -> None:
    task = MultiLabel(label_names=("common", "rare"))
    labels = np.array([[1, 0]] * 10 + [[0, 1]] * 9 + [[0, 0]] * 10, np.int8)
    outputs = np.where(labels, [0.4, 0.8], [0.2, 0.1]).astype(np.float32)
    # Of all, 19 have at least 0.4, and what is below is 0.2.
    assert task.tuned(outputs, labels).thresholds == pytest.approx((0.3, 0.3))


def test_texts_are_divided_by_their_rarest_label() -> None:
    rows = [[1, 0, 0]] * 20 + [[1, 1, 0]] * 12 + [[1, 1, 1]] * 2 + [[0, 0, 0]] * 11
    strata = EMOTIONS.strata(np.array(rows, np.int8))
    # Two are too few for a group of their own and go with the largest.
    assert strata.tolist() == [0] * 20 + [1] * 12 + [0] * 2 + [3] * 11


# Scores


def test_scores_are_standardised_and_cut() -> None:
    assert STARS.outputs(np.array([[-1.0], [6.0]], np.float32)).tolist() == [[2.5], [6.0]]
    cut = STARS.within((1, 5))
    assert cut.outputs(np.array([[6.0]], np.float32)).tolist() == [[5.0]]
    assert STARS.logits(np.array([2.5], np.float32), "here").tolist() == [-1.0]
    assert STARS.answer([2.5]).fields() == {"score": 2.5, "unsure": False}
    with pytest.raises(KdedgeError, match="score_range: 5, 1; two finite numbers are needed"):
        STARS.within((5, 1))
    with pytest.raises(KdedgeError, match="score_range: 0, inf; two finite numbers are needed"):
        STARS.within((0, math.inf))
    with pytest.raises(KdedgeError, match="score_range: 1, 3, 5; two finite numbers are needed"):
        STARS.within((1, 3, 5))  # type: ignore[arg-type]
    with pytest.raises(KdedgeError, match='score_range: is for task = "regression"'):
        TASK.within((1, 5))


@pytest.mark.parametrize(("value", "score"), [("2.5", 2.5), (3, 3.0), ("", None), (None, None)])
def test_scores_are_numbers(value: object, score: float | None) -> None:
    assert Regression.parse(value, "here") == score


@pytest.mark.parametrize("value", ["good", "2,5", "nan", True, [1]])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(KdedgeError, match="here is .*; a number, such as 2.5, is needed"):
        Regression.parse(value, "here")


def test_texts_are_divided_by_their_scores() -> None:
    # Groups of at least ten, equal scores in one; the last five are with the tens before.
    labels = np.array([1.0] * 4 + [2.0] * 7 + [3.0] * 10 + [4.0] * 5)
    assert STARS.strata(labels).tolist() == [0] * 11 + [1] * 15
    assert STARS.strata(np.arange(200.0)).tolist() == [i // 20 for i in range(200)]
    assert STARS.strata(np.array([1.0, 2.0])).tolist() == [0, 0]


def test_mean_and_deviation_are_of_the_training_split() -> None:
    task, labels = Regression.from_labels([1.0, 3.0, 11.0], "there")
    assert (task.mean, labels.dtype) == (5.0, np.float32)
    assert task.fitted(labels[:2]).model_dump()["mean"] == 2.0
    assert task.fitted(labels[:2]).deviation == 1.0
    with pytest.raises(KdedgeError, match="there has one score only"):
        Regression.from_labels([2.0, 2.0], "there")
    with pytest.raises(KdedgeError, match=r"the training split has one score only \(3\)"):
        task.fitted(labels[1:2])


def test_correlations_worked_out_by_hand() -> None:
    outputs, labels = np.array([[1.0], [2], [2], [5]]), np.array([1.0, 2, 3, 4])
    # Deviations -1.5, -0.5, -0.5, 2.5 and -1.5, -0.5, 0.5, 1.5: 6 / sqrt(9 * 5). Of ranks
    # 0, 1.5, 1.5, 3: 4.5 / sqrt(4.5 * 5).
    assert STARS.measures(outputs, labels) == pytest.approx(
        {"pearson": 6 / 45**0.5, "spearman": 0.9**0.5, "mean_absolute_error": 0.5}
    )
    assert STARS.score(np.ones((4, 1)), labels) == 0.0
    # A tenth of 0.5 apart is another answer.
    assert STARS.same(np.array([[1.0], [1.0]]), np.array([[1.04], [1.06]])).tolist() == [1, 0]


def test_intervals_of_other_figures() -> None:
    # atanh(0.5) = 0.549306; 1.959964 / sqrt(100) around it.
    expected = (math.tanh(0.549306 - 0.1959964), math.tanh(0.549306 + 0.1959964))
    assert fisher_interval(0.5, 103) == pytest.approx(expected, abs=1e-6)
    assert fisher_interval(0.5, 3) == (-1, 1)
    # The mean of 400 zeros and ones: 0.5 +- 1.96 * 0.5 / 20, but for 1,000 draws only.
    counts = np.array([[0.0], [1.0]] * 200)
    low, high = bootstrap_interval(counts, lambda sums: float(sums[0] / 400))
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.01)


def test_a_students_logits_are_on_its_teachers_scale() -> None:
    other = Regression(mean=0.0, deviation=1.0)
    assert STARS.within((1, 5)).with_logits_of(other) == other.within((1, 5))
    tuned = EMOTIONS.model_copy(update={"thresholds": (0.1, 0.2, 0.3)})
    assert EMOTIONS.with_logits_of(tuned) == EMOTIONS
    with pytest.raises(KdedgeError, match="the soft labels are for bad, good, the data has anger"):
        EMOTIONS.with_logits_of(TASK)

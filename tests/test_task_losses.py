"""Losses of several labels and of scores, compared with numbers worked out by hand."""

import math
from typing import Any

import keras
import numpy as np
import pytest

from kdedge import Distiller, KdedgeError
from kdedge.distill.prompts.soft_label import SoftLabelPrompt
from kdedge.objectives import objective_of
from kdedge.tasks import MultiLabel, Regression, Task

LABELS = MultiLabel(label_names=("anger", "joy"))
STARS = Regression(mean=3.0, deviation=0.5)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def values(task: Task, teacher: Any, student: Any, temperature: float = 1.0) -> Any:
    loss = objective_of(task).soft_label_loss(temperature)
    return np.asarray(loss.compute_loss(np.array(teacher), np.array(student)))


def test_kl_of_bernoullis_of_the_worked_example() -> None:
    one = MultiLabel(label_names=("a", "b"))
    # 0.8 ln(0.8/0.4) + 0.2 ln(0.2/0.6) = 0.8 ln 2 - 0.2 ln 3; the second label's is 0.
    loss = values(one, [[logit(0.8), 0.0]], [[logit(0.4), 0.0]])
    assert loss == pytest.approx([0.3348], abs=5e-5)
    # Both labels: twice as much.
    both = values(one, [[logit(0.8)] * 2], [[logit(0.4)] * 2])
    assert both == pytest.approx([2 * 0.334795], abs=1e-5)


def test_kl_of_bernoullis_at_a_temperature() -> None:
    # At T = 2 of twice the logits: that of T = 1, times 4.
    loss = values(LABELS, [[2 * logit(0.8), 0.0]], [[2 * logit(0.4), 0.0]], temperature=2)
    assert loss == pytest.approx([4 * 0.334795], abs=1e-5)


def test_kl_of_sure_bernoullis_is_finite() -> None:
    # KL(1 || sigmoid(-200)) = -log sigmoid(-200) = 200.
    assert values(LABELS, [[200.0, 0.0]], [[-200.0, 0.0]]) == pytest.approx([200.0])


def test_binary_cross_entropy_is_summed_over_labels() -> None:
    # -ln 0.8 - ln(1 - 0.4) = 0.223144 + 0.510826
    loss = objective_of(LABELS).label_loss()
    losses = loss.call(np.array([[1, 0]]), np.array([[logit(0.8), logit(0.4)]], np.float32))
    assert np.asarray(losses) == pytest.approx([0.733969], abs=1e-5)


def test_two_sided_cross_entropy_of_sigmoids() -> None:
    loss = objective_of(LABELS).two_sided_loss()
    # y = (0.8, 0.5), p = (0.4, 0.5): -(0.8 ln 0.4 + 0.2 ln 0.6) + ln 2 = 0.835198 + 0.693147
    losses = loss.compute_loss(np.array([[logit(0.8), 0.0]]), np.array([[logit(0.4), 0.0]]))
    assert np.asarray(losses) == pytest.approx([1.528345], abs=1e-5)


def test_scores_are_compared_standardised() -> None:
    # (0.5 - -1)^2, whatever the temperature.
    assert values(STARS, [[0.5]], [[-1.0]], temperature=4) == pytest.approx([2.25])
    objective = objective_of(STARS)
    labels, labelled = objective.labels(np.array([4.0, np.nan], np.float32))
    # (4 - 3) / 0.5
    assert np.asarray(labels).tolist() == [[2.0], [0.0]]
    assert np.asarray(labelled).tolist() == [1.0, 0.0]
    losses = objective.label_loss().call(labels, np.array([[1.5], [0.0]], np.float32))
    assert np.asarray(losses) == pytest.approx([0.25, 0.0])
    np.testing.assert_allclose(objective.outputs(np.array([[2.0]])), [[4.0]])
    cut = objective_of(STARS.within((1, 3.5)))
    np.testing.assert_allclose(cut.outputs(np.array([[2.0], [-9]])), [[3.5], [1.0]])


def fixed(logits: list[float]) -> keras.Model:
    """A model that gives these logits."""
    inputs = keras.Input((1,))
    layer = keras.layers.Dense(
        len(logits), kernel_initializer="zeros", bias_initializer=lambda *_, **__: np.array(logits)
    )
    return keras.Model(inputs, layer(inputs))


def evaluated(task: Task, student: list[float], teacher: list[float], labels: Any) -> Any:
    objective = objective_of(task)
    distiller = Distiller(None, fixed(student), objective.soft_label_loss(1.0), task=task)
    distiller.compile(metrics=objective.metrics())
    targets = {"label": labels, "teacher_logits": np.array([teacher] * len(labels), np.float32)}
    return distiller.evaluate(
        np.zeros((len(labels), 1)), targets, verbose=0, return_dict=True, batch_size=2
    )


def test_a_text_without_labels_counts_in_the_soft_loss_only() -> None:
    labels = np.array([[1, 0], [-1, -1], [1, 1]], np.int8)
    figures = evaluated(LABELS, [logit(0.8), logit(0.4)], [logit(0.8), logit(0.8)], labels)
    # KL(0.8 || 0.4) for each; cross-entropies 0.733969 and -ln 0.8 - ln 0.4 = 1.139434.
    assert figures["soft_label_loss"] == pytest.approx(0.334795, abs=1e-5)
    assert figures["student_loss"] == pytest.approx((0.733969 + 1.139434) / 2, abs=1e-5)
    # anger is chosen twice and right twice; joy is never chosen and missed once.
    assert figures["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))


def test_a_text_without_a_score_counts_in_the_soft_loss_only() -> None:
    labels = np.array([4.0, np.nan, 2.0], np.float32)
    figures = evaluated(STARS, [1.0], [0.5], labels)
    # (2 - 1)^2 and (-2 - 1)^2
    assert figures["soft_label_loss"] == pytest.approx(0.25)
    assert figures["student_loss"] == pytest.approx(5.0)


def test_a_correlation_over_batches() -> None:
    (metric,) = objective_of(STARS).metrics()
    # As in test_tasks: 6 / sqrt(45), in two batches, with a text that does not count.
    metric.update_state([[1.0], [2.0], [9.0]], [[1.0], [2.0], [0.0]], [1, 1, 0])
    metric.update_state([[2.0], [5.0]], [[3.0], [4.0]])
    assert float(metric.result()) == pytest.approx(6 / 45**0.5, abs=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_a_prompt_of_labels_is_mixed_by_sigmoids_and_refused_for_scores() -> None:
    prompt = SoftLabelPrompt(2, tokens=1, dropped=0.0, task=LABELS)
    prompt.build((None, None, 3))
    prompt.table.assign(np.array([[[1.0, 0, 0]], [[0, 1.0, 0]]]))
    x, mask = prompt(
        np.zeros((1, 2, 3), np.float32),
        np.ones((1, 2), np.int32),
        np.array([[logit(0.8), logit(0.4)]], np.float32),
        done=0.0,
    )
    np.testing.assert_allclose(x[0, 0], [0.8, 0.4, 0.0], atol=1e-6)
    assert np.asarray(mask).tolist() == [[1, 1, 1]]
    again = SoftLabelPrompt.from_config(prompt.get_config())
    assert again.task == LABELS
    with pytest.raises(KdedgeError, match="regression has scores"):
        SoftLabelPrompt(1, task=STARS)

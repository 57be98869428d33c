"""Schedules in training, compared with values worked out by hand."""

import keras
import numpy as np
import pytest
from test_losses import X, fixed_model, stored

from kdedge import Distiller, KdedgeError, SoftLabelLoss
from kdedge.objectives.schedules import LearningRate, Schedule


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("constant", [4.0, 4.0, 4.0, 4.0]),
        # 4 down to 1: 4 - 3 * done
        ("linear", [4.0, 3.25, 2.5, 1.0]),
        # 1 + 3 * (1 + cos(pi * done)) / 2; cos(pi / 4) = 0.707107: 1 + 1.5 * 1.707107
        ("cosine", [4.0, 3.56066, 2.5, 1.0]),
    ],
)
def test_a_schedule(kind: str, values: list[float]) -> None:
    schedule = Schedule(4.0, 1.0, kind)
    assert [float(schedule(done)) for done in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(values)
    assert Schedule.from_config(schedule.get_config()).get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("decay", "values"),
    [
        # Warm-up of 2 steps to 0.1, then 8 steps; steps 0, 1, 2, 6 (half of them) and 10.
        ("linear", [0.0, 0.05, 0.1, 0.05, 0.0]),
        ("cosine", [0.0, 0.05, 0.1, 0.05, 0.0]),
        # A hundredth at the end, so a tenth at half the way.
        ("exponential", [0.0, 0.05, 0.1, 0.01, 0.001]),
        ("constant", [0.0, 0.05, 0.1, 0.1, 0.1]),
    ],
)
def test_learning_rates(decay: str, values: list[float]) -> None:
    rate = LearningRate(0.1, 10, warmup=2, decay=decay)
    assert [float(rate(step)) for step in (0, 1, 2, 6, 10)] == pytest.approx(values, abs=1e-8)
    assert LearningRate.from_config(rate.get_config()).get_config() == rate.get_config()


def test_the_default_decay_is_keras_own() -> None:
    ours = LearningRate(1e-3, 100, warmup=5)
    theirs = keras.optimizers.schedules.CosineDecay(0.0, 95, warmup_target=1e-3, warmup_steps=5)
    steps = range(0, 101)
    np.testing.assert_allclose([ours(i) for i in steps], [theirs(i) for i in steps], atol=1e-10)


def step(distiller: Distiller, rate: float = 0.0) -> dict[str, float]:
    distiller.compile(keras.optimizers.SGD(rate))
    history = distiller.fit(X, stored(), batch_size=1, epochs=1, verbose=0, shuffle=False).history
    return {name: values[0] for name, values in history.items()}


def test_alpha_and_temperature_move_while_training() -> None:
    # Four steps; alpha 0, 0.25, 0.5, 0.75 in them: 0.375 on average. Hard: -ln 0.6 = 0.510826,
    # soft at T = 1: 0.021601. 0.625 * 0.510826 + 0.375 * 0.021601
    student = fixed_model([0.6, 0.4])
    alpha = Distiller(None, student, SoftLabelLoss(), None, Schedule(1.0, 0.0), schedule_steps=4)
    assert step(alpha)["loss"] == pytest.approx(0.327367, abs=1e-5)

    # Temperatures 2, 1.75, 1.5, 1.25, each the value of a fixed one.
    def soft(temperature: float) -> float:
        loss = SoftLabelLoss(temperature).compute_loss(np.log([[0.7, 0.3]]), np.log([[0.6, 0.4]]))
        return float(loss[0])

    moving = SoftLabelLoss(Schedule(2.0, 1.0))
    distiller = Distiller(None, student, moving, None, 0.0, schedule_steps=4)
    expected = np.mean([soft(t) for t in (2.0, 1.75, 1.5, 1.25)])
    assert step(distiller)["soft_label_loss"] == pytest.approx(expected, abs=1e-6)
    # Evaluated at the end of the schedule, whenever that is.
    assert distiller.evaluate(X, stored(), verbose=0, return_dict=True)[
        "soft_label_loss"
    ] == pytest.approx(soft(1.0), abs=1e-6)


def test_schedules_are_in_the_config() -> None:
    student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss, weight = SoftLabelLoss(Schedule(2.0, 1.0, "cosine")), Schedule(0.0, 1.0)
    distiller = Distiller(
        None, student, loss, [weight], weight, schedule_steps=4, adaptive_weights=True
    )
    again = Distiller.from_config(distiller.get_config())
    assert again.get_config() == distiller.get_config()
    assert again.distillation_losses[0].temperature.end == 1.0


def test_adaptive_weights_go_against_the_loss() -> None:
    distiller = Distiller(
        None, fixed_model([0.6, 0.4]), SoftLabelLoss(), None, 0.25, adaptive_weights=True
    )
    distiller.log_variances.assign([np.log(2.0), 0.0])
    distiller.compile(keras.optimizers.SGD(1.0))
    # hard 0.510826 / 2 + ln 2 / 2 = 0.601987; soft 0.021601: 0.25 * 0.601987 + 0.75 * 0.021601
    history = distiller.fit(X, stored(), batch_size=4, epochs=1, verbose=0).history
    assert history["loss"][0] == pytest.approx(0.166697, abs=1e-5)
    # d/ds of w (exp(-s) L + s / 2) = w (1 / 2 - exp(-s) L), one step of SGD at rate 1:
    # ln 2 - 0.25 * (0.5 - 0.255413) and 0 - 0.75 * (0.5 - 0.021601)
    assert np.asarray(distiller.log_variances) == pytest.approx([0.632000, -0.358799], abs=1e-5)


def test_evaluation_does_not_move_with_adaptive_weights() -> None:
    distiller = Distiller(
        None, fixed_model([0.6, 0.4]), SoftLabelLoss(), None, 0.25, adaptive_weights=True
    )
    distiller.log_variances.assign([3.0, -1.0])
    distiller.compile()
    result = distiller.evaluate(X, stored(), verbose=0, return_dict=True)
    # 0.25 * 0.510826 + 0.75 * 0.021601
    assert result["loss"] == pytest.approx(0.143907, abs=1e-5)


def test_what_schedules_refuse() -> None:
    student = fixed_model([0.6, 0.4])
    with pytest.raises(KdedgeError, match="kind: 'cubic'. Allowed: constant, linear, cosine"):
        Schedule(1.0, 0.0, "cubic")
    with pytest.raises(KdedgeError, match="decay: 'step'. Allowed: cosine, linear, exponential"):
        LearningRate(0.1, 10, decay="step")
    with pytest.raises(KdedgeError, match="warmup: 10 steps. Allowed: 0 to 9"):
        LearningRate(0.1, 10, warmup=10)
    with pytest.raises(KdedgeError, match="temperature: 0.0; it must be above 0"):
        SoftLabelLoss(Schedule(1.0, 0.0))
    with pytest.raises(KdedgeError, match="schedule_steps: None; schedules need"):
        Distiller(None, student, SoftLabelLoss(Schedule(2.0, 1.0)))
    with pytest.raises(KdedgeError, match="student_loss_weight: 1.5; from 0 to 1"):
        Distiller(None, student, SoftLabelLoss(), None, Schedule(0.5, 1.5), schedule_steps=4)

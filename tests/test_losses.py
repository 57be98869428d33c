"""Losses, compared with numbers worked out by hand."""

import keras
import numpy as np
import pytest
from conftest import classes

from kdedge import DistillationLoss, Distiller, FeatureLoss, KdedgeError, SoftLabelLoss
from kdedge.objectives import objective_of
from kdedge.objectives.classification import TwoSidedCrossEntropy
from kdedge.tasks import MultiLabel, Regression

LOG = np.log


def logits(*probabilities: list[float]) -> np.ndarray:
    return LOG(np.array(probabilities, np.float32))


def test_kl_of_the_worked_example() -> None:
    # 0.7 ln(0.7/0.6) + 0.3 ln(0.3/0.4) = 0.10791 - 0.08630
    loss = SoftLabelLoss().compute_loss(logits([0.7, 0.3]), logits([0.6, 0.4]))
    assert np.asarray(loss) == pytest.approx([0.0216], abs=5e-5)


def test_kl_does_not_change_when_logits_are_shifted() -> None:
    loss = SoftLabelLoss().compute_loss(logits([0.7, 0.3]) + 5, logits([0.6, 0.4]) - 3)
    assert np.asarray(loss) == pytest.approx([0.0216], abs=5e-5)


def test_kl_at_a_temperature() -> None:
    # Logits (2, 0) and (0, 0) at T = 2: softmax (1, 0) = (0.731059, 0.268941) against (.5, .5):
    # 0.731059 ln 1.462117 + 0.268941 ln 0.537883 = 0.277730 - 0.166773 = 0.110944; times 4.
    loss = SoftLabelLoss(temperature=2).compute_loss(np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]]))
    assert np.asarray(loss) == pytest.approx([0.443777], abs=1e-5)


def test_two_sided_cross_entropy_of_the_worked_example() -> None:
    # -(0.8 ln 0.4 + 0.2 ln 0.6) - (0.2 ln 0.6 + 0.8 ln 0.4) = 1.6 * 0.916291 + 0.4 * 0.510826
    loss = TwoSidedCrossEntropy().compute_loss(logits([0.8, 0.2]), logits([0.4, 0.6]))
    assert np.asarray(loss) == pytest.approx([1.670395], abs=1e-6)


def test_two_sided_cross_entropy_of_three_classes() -> None:
    # y = (.5, .3, .2), p = (.2, .2, .6):
    # -(.5 ln .2 + .3 ln .2 + .2 ln .6) - (.5 ln .8 + .7 ln .8 + .8 ln .4) = 1.389717 + 1.000805
    loss = TwoSidedCrossEntropy().compute_loss(logits([0.5, 0.3, 0.2]), logits([0.2, 0.2, 0.6]))
    assert np.asarray(loss) == pytest.approx([2.390518], abs=1e-5)


def test_two_sided_cross_entropy_of_a_sure_student_is_finite() -> None:
    loss = TwoSidedCrossEntropy().compute_loss(np.array([[0.0, 0.0]]), np.array([[200.0, 0.0]]))
    # p = (1, e^-200): -(.5 * 0 + .5 * -200) - (.5 * -200 + .5 * 0)
    assert np.asarray(loss) == pytest.approx([200.0])


def test_feature_loss_is_the_mean_of_squares() -> None:
    loss = FeatureLoss(2).compute_loss(np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]]))
    assert np.asarray(loss) == pytest.approx([2.5])
    with pytest.raises(KdedgeError, match="^width: -1; at least 1 is needed.$"):
        FeatureLoss(-1)


def test_the_softmax_loss_is_for_classes_only() -> None:
    student = fixed_model([0.6, 0.4])
    for task in (MultiLabel(label_names=("a", "b")), Regression(mean=0.0, deviation=1.0)):
        with pytest.raises(KdedgeError, match=rf"For {task.name}: kdedge.objectives"):
            Distiller(None, student, SoftLabelLoss(), task=task)
        Distiller(None, student, objective_of(task).soft_label_loss(1.0), task=task)
    one = keras.KerasTensor((2, 1))
    with pytest.raises(KdedgeError, match="one logit, whose probability is always 1"):
        SoftLabelLoss().validate_outputs(one, one)


def test_temperature_must_be_above_zero() -> None:
    with pytest.raises(KdedgeError, match="temperature: 0; it must be above 0"):
        SoftLabelLoss(temperature=0)


class Fixed(keras.layers.Layer):
    """A model with fixed logits, and others in training."""

    def __init__(self, values: list[float], noise: float = 0.0) -> None:
        super().__init__()
        self.values = self.add_weight(
            shape=(len(values),), initializer="zeros", trainable=True, name="values"
        )
        self.values.assign(values)
        self.noise, self.calls = noise, []

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        self.calls.append(bool(training))
        shift = self.noise if training else 0.0
        return keras.ops.zeros_like(x[:, :1]) + self.values + shift * keras.ops.array([1.0, 0.0])


def fixed_model(probabilities: list[float], noise: float = 0.0) -> keras.Model:
    inputs = keras.Input((1,))
    layer = Fixed(list(LOG(probabilities)), noise)
    return keras.Model(inputs, layer(inputs))


X = np.zeros((4, 1), np.float32)
LABELS = np.array([0, 0, 0, 0])


def evaluate(distiller: Distiller, x, y, **kwargs) -> dict[str, float]:
    distiller.compile()
    return distiller.evaluate(x, y, verbose=0, return_dict=True, **kwargs)


def stored(labels=LABELS, teacher=(0.7, 0.3)) -> dict[str, np.ndarray]:
    return {"label": labels, "teacher_logits": np.tile(LOG(np.float32(teacher)), (len(labels), 1))}


def test_live_teacher_and_stored_labels_give_the_same_numbers() -> None:
    live = Distiller(fixed_model([0.7, 0.3]), fixed_model([0.6, 0.4]), SoftLabelLoss(), None, 0.25)
    store = Distiller(None, fixed_model([0.6, 0.4]), [SoftLabelLoss()], [1.0], 0.25)
    # hard: -ln 0.6 = 0.510826; total 0.25 * 0.510826 + 0.75 * 0.021601
    expected = {"student_loss": 0.510826, "soft_label_loss": 0.021601, "loss": 0.143907}
    assert evaluate(live, X, LABELS) == pytest.approx(expected, abs=1e-5)
    assert evaluate(store, X, stored()) == pytest.approx(expected, abs=1e-5)


def test_sample_weights_are_respected() -> None:
    distiller = Distiller(None, fixed_model([0.6, 0.4]), SoftLabelLoss(), None, 0.5)
    labels = np.array([0, 1])
    weights = np.array([3.0, 1.0])
    result = evaluate(distiller, X[:2], stored(labels), sample_weight=weights)
    # terms are weighted means: (3 * 0.510826 + 1 * 0.916291) / 4; the loss is Keras's
    # sum(weight * loss) / batch: 0.5 * (3 * 0.510826 + 0.916291) / 2 + 0.5 * 4 * 0.021601 / 2
    assert result["student_loss"] == pytest.approx(0.612192, abs=1e-5)
    assert result["soft_label_loss"] == pytest.approx(0.021601, abs=1e-5)
    assert result["loss"] == pytest.approx(0.633793, abs=1e-5)


def test_texts_without_a_label_count_in_the_soft_term_only() -> None:
    distiller = Distiller(None, fixed_model([0.6, 0.4]), SoftLabelLoss(), None, 0.5)
    distiller.compile(metrics=["accuracy"])
    result = distiller.evaluate(X[:2], stored(np.array([1, -1])), verbose=0, return_dict=True)
    assert result["student_loss"] == pytest.approx(0.916291, abs=1e-5)
    assert result["accuracy"] == 0.0
    # 0.5 * (0.916291 + 0) / 2 + 0.5 * 0.021601
    assert result["loss"] == pytest.approx(0.239873, abs=1e-5)


def test_loss_reads_logits_as_logits() -> None:
    # Keras's documented string would take the logits (ln .6, ln .4) for probabilities.
    distiller = Distiller(None, fixed_model([0.6, 0.4]), SoftLabelLoss())
    with pytest.raises(KdedgeError, match="from_logits=True"):
        distiller.compile(loss="sparse_categorical_crossentropy")
    with pytest.raises(KdedgeError, match="from_logits=True"):
        distiller.compile(loss=keras.losses.SparseCategoricalCrossentropy())


def layered_student(noise: float) -> tuple[keras.Model, Fixed]:
    inputs = keras.Input((1,))
    layer = Fixed([0.0, 0.0], noise)
    layer.name = "sentence"
    return keras.Model(inputs, keras.layers.Dense(2)(layer(inputs))), layer


def test_the_student_runs_once_a_step_and_not_in_training_when_evaluated() -> None:
    student, layer = layered_student(noise=7.0)
    distiller = Distiller(None, student, [SoftLabelLoss(), FeatureLoss(2)])
    distiller.compile(run_eagerly=True)
    targets = stored() | {"teacher_pooled": np.zeros((4, 2), np.float32)}
    layer.calls.clear()
    result = distiller.evaluate(X, targets, batch_size=4, verbose=0, return_dict=True)
    assert layer.calls == [False]
    # Zero features through a fresh projection stay zero; the noise of training would show.
    assert result["feature_loss"] == 0.0
    layer.calls.clear()
    distiller.fit(X, targets, batch_size=4, epochs=1, verbose=0)
    assert layer.calls == [True]


def test_teacher_is_frozen_and_only_the_student_learns() -> None:
    teacher, student = fixed_model([0.9, 0.1]), fixed_model([0.5, 0.5])
    before = teacher.get_weights()
    distiller = Distiller(teacher, student, SoftLabelLoss(), None, 0.0)
    distiller.compile(keras.optimizers.SGD(1.0))
    distiller.fit(X, LABELS, epochs=1, batch_size=4, verbose=0)
    assert np.array_equal(teacher.get_weights()[0], before[0])
    # Gradient of KL at T = 1 is p - y = (.5 - .9, .5 - .1); one step of SGD at rate 1.
    assert student.get_weights()[0] == pytest.approx(LOG(0.5) + np.array([0.4, -0.4]), abs=1e-5)


def test_predict_gives_logits_only() -> None:
    student, _ = layered_student(0.0)
    distiller = Distiller(None, student, [SoftLabelLoss(), FeatureLoss(2)])
    distiller.compile()
    assert distiller.predict(X, verbose=0).shape == (4, 2)


class OwnLoss(DistillationLoss):
    """A loss with a trained adapter: the sum of the student's sentence vector."""

    name = "own_loss"

    def tap(self, student):
        return student.sentence

    def adapter(self, student):
        return keras.layers.Dense(1, kernel_initializer="ones")

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return student_outputs[:, 0]


def test_a_loss_learns_what_it_puts_between() -> None:
    student, layer = layered_student(0.0)
    layer.values.assign([1.0, 2.0])
    distiller = Distiller(None, student, OwnLoss(), None, 0.0)
    distiller.compile(keras.optimizers.SGD(0.5))
    history = distiller.fit(X, stored(), batch_size=4, epochs=2, verbose=0).history
    # 1 + 2; then sentence and kernel are less by half of the other, and the bias by a half:
    # (1 - 0.5) * (1 - 0.5 * 1) + (2 - 0.5) * (1 - 0.5 * 2) - 0.5
    assert history["own_loss"] == pytest.approx([3.0, -0.25])
    assert len(distiller.trainable_variables) == len(student.trainable_variables) + 2


def test_labels_of_classes_and_what_they_decide() -> None:
    objective = objective_of(None)
    labels, labelled = objective.labels(np.array([[2], [-1]]))
    assert np.asarray(labels).tolist() == [2, 0]
    assert np.asarray(labelled).tolist() == [1.0, 0.0]
    logits = np.array([[1.0, 2.0, 6.0]])
    assert np.asarray(objective.chosen_output(logits)).tolist() == [2]
    # 6 less the mean of 1 and 2
    assert np.asarray(objective.evidence(logits, [2])).tolist() == [4.5]


def test_config_round_trip() -> None:
    inputs = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(4, name="sentence")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    losses = [SoftLabelLoss(3.0), FeatureLoss(5)]
    distiller = Distiller(None, student, losses, [0.5, 2.0], 0.1, task=classes(2))
    again = Distiller.from_config(distiller.get_config())
    assert again.get_config() == distiller.get_config()
    assert again.distillation_losses[0].temperature == 3.0
    assert again.task == classes(2)
    assert isinstance(again, keras.distillation.Distiller)


def test_student_saves_and_loads_by_itself(tmp_path) -> None:
    student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    distiller = Distiller(None, student, SoftLabelLoss())
    distiller.student.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    x = np.ones((1, 3), np.float32)
    assert np.array_equal(again(x), student(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": "bert"}, "teacher: str; a keras.Model or None"),
        ({"student": "micro"}, "student: str; a keras.Model"),
        ({"distillation_losses": []}, "distillation_losses: none given"),
        (
            {"distillation_losses": keras.distillation.LogitsDistillation()},
            "LogitsDistillation; a kdedge DistillationLoss",
        ),
        ({"distillation_losses": [FeatureLoss(2, "cls")]}, "no layer 'cls'. It has: "),
        ({"distillation_losses": [SoftLabelLoss(), SoftLabelLoss(2)]}, "names must differ"),
        ({"distillation_loss_weights": [1.0, 2.0]}, "2 weights for 1 losses"),
        ({"distillation_loss_weights": [-1.0]}, "none may be below 0"),
        ({"student_loss_weight": 1.5}, "student_loss_weight: 1.5; from 0 to 1"),
    ],
)
def test_bad_arguments(arguments, message) -> None:
    good = {
        "teacher": None,
        "student": fixed_model([0.5, 0.5]),
        "distillation_losses": SoftLabelLoss(),
    }
    with pytest.raises(KdedgeError, match=message):
        Distiller(**good | arguments)


def test_missing_teacher_outputs_are_named() -> None:
    distiller = Distiller(None, fixed_model([0.5, 0.5]), SoftLabelLoss())
    distiller.compile(run_eagerly=True)
    with pytest.raises(KdedgeError, match="dictionary with `teacher_logits`"):
        distiller.fit(X, LABELS, verbose=0)


def test_another_number_of_classes_is_an_error() -> None:
    distiller = Distiller(None, fixed_model([0.5, 0.5]), SoftLabelLoss())
    distiller.compile(run_eagerly=True)
    with pytest.raises(KdedgeError, match="soft_label_loss: the teacher's logits has shape"):
        distiller.fit(X, stored(teacher=(0.5, 0.3, 0.2)), verbose=0)

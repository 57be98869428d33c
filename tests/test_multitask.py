"""One encoder, several heads."""

import keras
import numpy as np
import pytest
from test_losses import LOG, Fixed, X, stored

from kdedge import Distiller, FeatureLoss, KdedgeError, SoftLabelLoss
from kdedge.distill.multitask import MultiTaskDistiller


def two_tasks(**options) -> tuple[MultiTaskDistiller, Fixed]:
    inputs = keras.Input((1,))
    shared = Fixed([1.0, 0.0])
    shared.name = "sentence"
    sentence = shared(inputs)
    heads = {"mood": Fixed(list(LOG([0.6, 0.4]))), "stars": Fixed(list(LOG([0.5, 0.5])))}
    tasks = {
        name: Distiller(None, keras.Model(inputs, head(sentence)), SoftLabelLoss(), None, 0.25)
        for name, head in heads.items()
    }
    return MultiTaskDistiller(tasks, **options), shared


TARGETS = {"mood": stored(), "stars": stored(np.array([1, 1, 1, -1]), (0.5, 0.5))}


def test_tasks_are_summed_by_weight_in_one_pass() -> None:
    distiller, shared = two_tasks(task_weights={"mood": 1.0, "stars": 0.5})
    distiller.compile(run_eagerly=True)
    shared.calls.clear()
    result = distiller.evaluate(X, TARGETS, batch_size=4, verbose=0, return_dict=True)
    assert shared.calls == [False]
    # mood: 0.25 * 0.510826 + 0.75 * 0.021601 = 0.143907; stars: three of four have a label,
    # 0.25 * 0.693147 * 3 / 4 = 0.129965, and the soft term is 0. The first and half of the second.
    assert result["loss"] == pytest.approx(0.208890, abs=1e-5)
    assert result["mood_soft_label_loss"] == pytest.approx(0.021601, abs=1e-5)
    assert result["stars_student_loss"] == pytest.approx(0.693147, abs=1e-5)
    outputs = distiller.predict(X, verbose=0)
    assert {name: logits.shape for name, logits in outputs.items()} == {
        "mood": (4, 2), "stars": (4, 2)
    }  # fmt: skip


def test_task_weights_are_learned() -> None:
    distiller, _ = two_tasks(adaptive_weights=True)
    distiller.compile(keras.optimizers.SGD(1.0))
    distiller.fit(X, TARGETS, batch_size=4, verbose=0)
    # d/ds of exp(-s) L + s / 2 at s = 0 is 1 / 2 - L: 0.143907 - 0.5 and 0.129965 - 0.5
    assert np.asarray(distiller.log_variances) == pytest.approx([-0.356093, -0.370035], abs=1e-5)


def test_both_heads_and_the_encoder_learn() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    sentence = keras.layers.Dense(8, activation="relu", name="sentence")(inputs)
    students = [keras.Model(inputs, keras.layers.Dense(n)(sentence)) for n in (2, 5)]
    losses = [SoftLabelLoss(), FeatureLoss(3)]
    tasks = {
        "mood": Distiller(None, students[0], losses, None, 0.0),
        "stars": Distiller(None, students[1], SoftLabelLoss(), None, 0.0),
    }
    distiller = MultiTaskDistiller(tasks)
    distiller.compile(keras.optimizers.Adam(0.01))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4)).astype(np.float32)
    targets = {
        "mood": {
            "teacher_logits": 4 * x[:, :2],
            "teacher_pooled": x[:, :3],
        },
        "stars": {"teacher_logits": x @ rng.normal(size=(4, 5)).astype(np.float32)},
    }
    history = distiller.fit(x, targets, epochs=30, verbose=0).history
    for name in ("mood_soft_label_loss", "mood_feature_loss", "stars_soft_label_loss"):
        assert history[name][-1] < 0.3 * history[name][0], name
    # Each student can be saved alone, with the shared encoder.
    outputs = distiller.predict(x, verbose=0)
    np.testing.assert_allclose(outputs["stars"], students[1](x), atol=1e-5)


class Plain(keras.Model):
    """A model that is not functional: a Distiller can train it on its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def test_what_does_not_go_together() -> None:
    with pytest.raises(KdedgeError, match="task_weights: {} for the tasks ; at least one"):
        MultiTaskDistiller({})
    distiller, _ = two_tasks()
    with pytest.raises(KdedgeError, match=r"task_weights: {'mood': 1.0} for the tasks mood, stars"):
        MultiTaskDistiller(distiller.tasks, {"mood": 1.0})
    plain = Distiller(None, Plain(), SoftLabelLoss())
    plain.compile()
    assert plain.evaluate(X, stored(), verbose=0, return_dict=True)["loss"] > 0
    with pytest.raises(KdedgeError, match="is not a functional Keras model"):
        Distiller(None, Plain(), FeatureLoss(2))
    with pytest.raises(KdedgeError, match="the student of a must be a functional model"):
        MultiTaskDistiller({"a": plain})
    other, _ = two_tasks()
    mixed = {"mood": distiller.tasks["mood"], "stars": other.tasks["stars"]}
    with pytest.raises(
        KdedgeError, match="the student of stars must have the inputs of the others"
    ):
        MultiTaskDistiller(mixed)

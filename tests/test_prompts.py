"""Prompts, their numbers, and a prompted student in both runtimes."""

from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import classes
from test_adversary import TEXT, linear_student

from kdedge import Distiller, KdedgeError, SoftLabelLoss, build_student
from kdedge.distill.adversaries.adversary import AdversarialLoss
from kdedge.distill.adversaries.prompt import AdversarialPrompt
from kdedge.distill.prompts.raw import raw_prompt
from kdedge.distill.prompts.soft_label import SoftLabelPrompt
from kdedge.distill.prompts.task import with_task_prompt
from kdedge.export.litert.convert import to_litert
from kdedge.export.onnx.convert import to_onnx
from kdedge.objectives.losses import HiddenStateLoss
from kdedge.objectives.schedules import Schedule
from kdedge.students.architecture import Parts
from kdedge.tasks import Classification

TASK = Classification(label_names=("bad", "good"))


def test_a_template_goes_around_the_text() -> None:
    assert raw_prompt("It said: {text} {x}", ["good", "{text}"]) == [
        "It said: good {x}",
        "It said: {text} {x}",
    ]
    with pytest.raises(KdedgeError, match="template: 'none'; it must hold {text} once"):
        raw_prompt("none", ["good"])


def test_a_task_prompt_worked_out_by_hand() -> None:
    student = linear_student()
    prompted = with_task_prompt(student, 2)
    prompted.get_layer("prompt").set_weights([np.array([[1.0], [2.5]])])
    # The worth of the text is 9 + 2 + 0 + 9 - 9 = 11 over 5 tokens; with 1 + 2.5 over 7.
    np.testing.assert_allclose(student(TEXT), [[-2.2, 2.2]], atol=1e-5)
    np.testing.assert_allclose(prompted(TEXT), [[-14.5 / 7, 14.5 / 7]], atol=1e-5)


def prompted(plain: keras.Model) -> keras.Model:
    """A prompted student with large token vectors, and three large vectors before the text."""
    student = with_task_prompt(plain, 3)
    for seed, name in enumerate(("tokens", "prompt")):
        weights = student.get_layer(name).weights[0]
        weights.assign(np.random.default_rng(seed).normal(size=weights.shape))
    Parts(plain).token_embedding.set_weights(Parts(student).token_embedding.get_weights())
    return student


@pytest.mark.parametrize("preset", ["nano", "micro", "mini"])
def test_a_prompted_student_is_a_student(preset: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    plain = build_student(preset, vocabulary=10, task=classes(2), max_length=6)
    student = prompted(plain)
    outputs = np.asarray(student(TEXT))
    assert np.abs(outputs - plain(TEXT)).max() > 1e-3
    # Padding changes nothing, and the positions go as far as before.
    short = {name: array[:, :5] for name, array in TEXT.items()}
    np.testing.assert_allclose(student(short), outputs, atol=1e-5)
    student.save(tmp_path / "s.keras")
    again = keras.models.load_model(tmp_path / "s.keras", safe_mode=True)
    np.testing.assert_allclose(again(TEXT), outputs, atol=1e-6)
    # Layers inside are this model's own, for feature losses.
    inside = keras.Model(again.inputs, again.get_layer("sentence").output)
    assert inside(TEXT).shape[0] == 1


@pytest.mark.parametrize("preset", ["micro", "mini"])
def test_a_prompted_student_in_both_runtimes(preset: str) -> None:
    keras.utils.set_random_seed(2)
    plain = build_student(preset, vocabulary=10, task=classes(2), max_length=6)
    student = prompted(plain)
    outputs = np.asarray(student(TEXT))

    interpreter = Interpreter(model_content=to_litert(student, TASK, 6))
    names = {d["op_name"] for d in interpreter._get_ops_details()}
    assert not [name for name in names if name.startswith("Flex")]
    runner = interpreter.get_signature_runner()
    np.testing.assert_allclose(runner(**TEXT)["probabilities"], TASK.outputs(outputs), atol=1e-5)

    session = onnxruntime.InferenceSession(to_onnx(student))
    two = {k: np.repeat(v, 2, 0).astype(np.int64) for k, v in TEXT.items()}
    feed = dict(
        zip(
            ("input_ids", "attention_mask", "token_type_ids"),
            (two["ids"], two["mask"], two["segment_ids"]),
            strict=True,
        )
    )
    np.testing.assert_allclose(session.run(None, feed)[0], np.repeat(outputs, 2, 0), atol=1e-5)


def test_a_soft_label_prompt_mixes_by_the_soft_label() -> None:
    prompt = SoftLabelPrompt(2, tokens=1, dropped=0.0)
    prompt.build((None, None, 2))
    prompt.table.assign([[[1.0, 0.0]], [[0.0, 4.0]]])
    x, mask = prompt(
        np.ones((1, 1, 2)), np.array([[1]], np.int32), np.log([[0.75, 0.25]]), done=0.0
    )
    # 0.75 * (1, 0) + 0.25 * (0, 4)
    np.testing.assert_allclose(x, [[[0.75, 1.0], [1.0, 1.0]]], atol=1e-6)
    assert np.asarray(mask).tolist() == [[1, 1]]


def test_a_soft_label_prompt_goes_as_its_schedule_says() -> None:
    prompt = SoftLabelPrompt(2, tokens=2, seed=0)
    prompt.build((None, None, 1))
    rows = 4000
    x, real, outputs = np.ones((rows, 1, 1)), np.ones((rows, 1), np.int32), np.zeros((rows, 2))
    for done in (0.0, 0.3, 1.0):
        mask = np.asarray(prompt(x, real, outputs, done=done)[1])
        assert (mask[:, 0] == mask[:, 1]).all()
        # Standard error of 4,000: 0.007.
        assert abs(mask[:, 0].mean() - (1 - done)) < 0.03
    assert mask[:, 0].sum() == 0


@pytest.mark.parametrize(("preset", "rate"), [("nano", 0.01), ("mini", 0.003)])
def test_the_student_is_prompted_in_training_only(preset: str, rate: float) -> None:
    keras.utils.set_random_seed(0)
    student = build_student(preset, vocabulary=10, task=classes(2), max_length=6)
    prompt = SoftLabelPrompt(2, tokens=2, dropped=0.0, seed=1)
    distiller = Distiller(None, student, SoftLabelLoss(), None, 0.0, prompt=prompt)
    distiller.compile(keras.optimizers.Adam(rate))
    # The teacher gives one text both answers: without the prompt the student can only say 0.5.
    x = {name: np.repeat(array, 64, 0) for name, array in TEXT.items()}
    logits = np.tile(np.array([[4.0, -4.0], [-4.0, 4.0]], np.float32), (32, 1))
    targets = {"label": np.full(64, -1), "teacher_logits": logits}
    history = distiller.fit(x, targets, epochs=40, batch_size=16, verbose=0).history
    assert history["soft_label_loss"][-1] < 0.4
    # ln 2 less the teacher's doubt: 0.693 - 0.003
    alone = distiller.evaluate(x, targets, verbose=0, return_dict=True)["soft_label_loss"]
    assert alone > 0.6
    assert distiller.predict(x, verbose=0).shape == (64, 2)
    again = Distiller.from_config(distiller.get_config())
    assert again.get_config() == distiller.get_config()


def test_an_adversarial_prompt_worked_out_by_hand() -> None:
    student = linear_student()
    prompt = AdversarialPrompt(student, tokens=4, radius=2.0)
    # As in the test of substitution: a surer teacher wants less of good. Four tokens of width 1
    # with a norm of 2 are -1 each: (11 - 4) / 9; with an unsure teacher (11 + 4) / 9.
    for good, worth in ((0.999, 7 / 9), (0.6, 15 / 9)):
        logits = np.log([[1 - good, good]]).astype(np.float32)
        teacher, outputs = prompt.logits(TEXT, logits)
        np.testing.assert_allclose(outputs, [[-worth, worth]], atol=1e-4)
        np.testing.assert_array_equal(teacher, logits)
    # More steps stay within the ball.
    _, outputs = AdversarialPrompt(student, 4, 2.0, steps=3).logits(TEXT, logits)
    np.testing.assert_allclose(outputs, [[-15 / 9, 15 / 9]], atol=1e-4)


def test_an_adversarial_prompt_needs_no_live_teacher() -> None:
    student = build_student("nano", vocabulary=10, task=classes(2), max_length=6)
    losses = [SoftLabelLoss(), AdversarialLoss(AdversarialPrompt(student))]
    distiller = Distiller(None, student, losses)
    distiller.compile()
    targets = {"label": np.array([1]), "teacher_logits": np.array([[-1.0, 1.0]], np.float32)}
    history = distiller.fit(TEXT, targets, verbose=0).history
    assert history["adversarial_loss"][0] > 0


def test_what_prompts_refuse() -> None:
    student = linear_student()
    with pytest.raises(KdedgeError, match="tokens: 0. At least 1"):
        with_task_prompt(student, 0)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(KdedgeError, match="no keras.layers.Embedding named .tokens"):
        with_task_prompt(plain, 2)
    with pytest.raises(KdedgeError, match="tokens: 0; at least 1"):
        SoftLabelPrompt(2, tokens=0)
    with pytest.raises(KdedgeError, match=r"dropped: \(0.0, 1.5\); from 0 to 1"):
        SoftLabelPrompt(2, dropped=Schedule(0.0, 1.5))
    with pytest.raises(KdedgeError, match="schedule_steps: None; schedules need"):
        Distiller(None, student, SoftLabelLoss(), prompt=SoftLabelPrompt(2))
    mini = build_student("mini", vocabulary=10, task=classes(2), max_length=6)
    with pytest.raises(KdedgeError, match="can't compare them with the teacher's"):
        losses = HiddenStateLoss(4, Parts(mini).blocks[0].last.name, 1)
        Distiller(None, mini, losses, prompt=SoftLabelPrompt(2, dropped=0.0))
    with pytest.raises(KdedgeError, match="radius: 0; it must be above 0"):
        AdversarialPrompt(student, radius=0)

"""Adversaries, compared with numbers worked out by hand."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import classes
from typer.testing import CliRunner

from kdedge import (
    Adversary,
    Distiller,
    KdedgeError,
    SoftLabelLoss,
    SoftLabels,
    build_student,
    load_teacher,
)
from kdedge.cli import app
from kdedge.distill.adversaries.adversary import AdversarialLoss
from kdedge.distill.adversaries.generator import Generator
from kdedge.distill.adversaries.substitution import Substitution
from kdedge.distill.adversaries.texts import adversarial_texts
from kdedge.objectives.classification import divergence
from kdedge.students.architecture import Parts, student_inputs
from kdedge.students.trained import Evaluation, Student
from kdedge.tasks import Classification
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.label import label_texts
from kdedge.text.neighbours import nearest_pieces

VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "film", "good", "bad", "great", "awful", ","]
FILM, GOOD, BAD, GREAT, AWFUL, COMMA = range(4, 10)
# What each word adds to the logit of `good`; the special tokens would be the best swaps by far.
WORTH = [9.0, 9.0, -9.0, -9.0, 0.0, 2.0, -2.0, 3.0, -3.0, 9.0]
# All tokens are neighbours of each other.
VECTORS = np.ones((10, 1), np.float32) + 0.01 * np.arange(10, dtype=np.float32)[:, None]


def linear_student() -> keras.Model:
    """A student with logits (-s, s); s is the mean worth of the tokens."""
    inputs = student_inputs()
    x = keras.layers.Embedding(10, 1, name="tokens")(inputs["ids"])
    mean = keras.layers.GlobalAveragePooling1D()(x, mask=inputs["mask"])
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(mean))
    model.set_weights([np.array(WORTH)[:, None], np.array([[-1.0, 1.0]])])
    return model


def of(*rows: list[int]) -> dict[str, np.ndarray]:
    ids = np.array(rows, np.int32)
    return {"ids": ids, "mask": (ids > 0).astype(np.int32), "segment_ids": np.zeros_like(ids)}


TEXT = of([1, GOOD, FILM, COMMA, 2, 0])


def attack(teacher_good: float, swaps: int) -> list[int]:
    adversary = Substitution(linear_student(), VECTORS, VOCABULARY, swaps=swaps, neighbours=9)
    logits = np.log([[1 - teacher_good, teacher_good]]).astype(np.float32)
    return np.asarray(adversary.attack(TEXT, logits))[0].tolist()


def test_substitution_goes_where_the_two_part() -> None:
    # The student's s is (9 + 2 + 0 + 9 - 9) / 5 = 2.2, its p of good 1 / (1 + e^-4.4) = 0.988. The
    # teacher is surer, so lowering `good` drives them apart: good -> awful is -5, film -> awful -3.
    assert attack(0.999, 1) == [1, AWFUL, FILM, COMMA, 2, 0]
    assert attack(0.999, 2) == [1, AWFUL, AWFUL, COMMA, 2, 0]
    # No more swaps than words.
    assert attack(0.999, 5) == [1, AWFUL, AWFUL, COMMA, 2, 0]
    # The teacher is less sure, so raising `good` drives them apart: good -> great is +1, film +3.
    assert attack(0.6, 1) == [1, GOOD, GREAT, COMMA, 2, 0]
    assert attack(0.6, 2) == [1, GREAT, GREAT, COMMA, 2, 0]


def test_no_swap_where_none_would_part_them() -> None:
    student = linear_student()
    adversary = Substitution(student, VECTORS, VOCABULARY, swaps=2, neighbours=9)
    text = of([1, AWFUL, AWFUL, 2])
    # s = (9 - 3 - 3 - 9) / 4 = -1.5; the teacher says 0.9 good. Lowering it would drive them
    # apart, but no word is worth less than awful.
    assert np.asarray(adversary.attack(text, np.log([[0.1, 0.9]]).astype(np.float32))).tolist() == [
        [1, AWFUL, AWFUL, 2]
    ]


def test_neighbours_by_cosine_and_kind() -> None:
    vocabulary = ["[PAD]", "a", "b", "c", "##a", "##b", "7"]
    vectors = np.array([[1, 0], [1, 0], [1, 1], [0, 2], [1, 0], [0, 1], [1, 0]], np.float32)
    # Of a: b (cosine 0.71), then c (0). Of c: b, then a. ##a and ##b have each other; the rest
    # itself.
    expected = [[0, 0], [2, 3], [1, 3], [2, 1], [5, 4], [4, 5], [6, 6]]
    assert nearest_pieces(vectors, vocabulary, 2).tolist() == expected
    with pytest.raises(KdedgeError, match="vectors: 6 rows for 7 word pieces"):
        nearest_pieces(vectors[:6], vocabulary, 2)


class Apart(Adversary):
    """Teacher and student as in the worked example."""

    def logits(self, inputs, teacher_logits):
        rows = keras.ops.zeros_like(teacher_logits)
        return rows + np.log([[0.8, 0.2]]), rows + np.log([[0.4, 0.6]])


def test_adversarial_loss_of_the_worked_example() -> None:
    student = linear_student()
    losses = [SoftLabelLoss(), AdversarialLoss(Apart())]
    distiller = Distiller(None, student, losses, [0.0, 0.5], student_loss_weight=0.2)
    distiller.compile(keras.optimizers.SGD(0.0))
    targets = {"label": np.array([-1]), "teacher_logits": np.zeros((1, 2), np.float32)}
    history = distiller.fit(TEXT, targets, verbose=0).history
    # 1.6 * 0.916291 + 0.4 * 0.510826 = 1.670395; 0.8 * 0.5 of it
    assert history["adversarial_loss"] == pytest.approx([1.670395], abs=1e-5)
    assert history["loss"] == pytest.approx([0.668158], abs=1e-5)
    # Adversaries act in training only.
    assert distiller.evaluate(TEXT, targets, verbose=0, return_dict=True)["loss"] == 0.0
    with pytest.raises(KdedgeError, match="can't be stored"):
        distiller.get_config()


def test_every_nth_text_of_a_batch_is_changed() -> None:
    seen = []

    class Watching(Apart):
        def learn(self, inputs):
            seen.append(inputs["ids"].numpy().tolist())

        def logits(self, inputs, teacher_logits):
            seen.append(inputs["ids"].numpy().tolist())
            return super().logits(inputs, teacher_logits)

    losses = [SoftLabelLoss(), AdversarialLoss(Watching(), every=2)]
    distiller = Distiller(None, linear_student(), losses, [0.0, 1.0], student_loss_weight=0.0)
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x = of([1, GOOD], [1, BAD], [1, GREAT])
    targets = {"label": np.full(3, -1), "teacher_logits": np.zeros((3, 2), np.float32)}
    history = distiller.fit(
        x, targets, sample_weight=np.array([0.5, 9.0, 1.0]), shuffle=False, verbose=0
    ).history
    assert seen == [[[1, GOOD], [1, GREAT]]] * 2
    # (0.5 * 1.670395 + 1 * 1.670395) / 2
    assert history["loss"] == pytest.approx([1.252796], abs=1e-5)


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(tiny_bert, task=Classification(label_names=("bad", "good")))


TEXTS = ["good film", "a very bad plot and the actor is not good", "awful film , bad plot"]


@pytest.mark.parametrize("preset", ["nano", "micro", "mini"])
def test_a_student_runs_from_its_embeddings(preset: str, tmp_path: Path) -> None:
    student = build_student(preset, vocabulary=10, task=classes(2), max_length=8)
    parts = Parts(student)
    tokens = parts.token_embedding
    outputs = parts.run_from(tokens, tokens(TEXT["ids"]), TEXT)
    np.testing.assert_allclose(outputs, student(TEXT), atol=1e-6)
    student.save(tmp_path / "s.keras")
    keras.utils.set_random_seed(0)
    noisy = [parts.run_from(tokens, tokens(TEXT["ids"]), TEXT, training=True) for _ in range(2)]
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-4


@pytest.mark.parametrize("preset", ["nano", "micro", "mini"])
def test_substitution_parts_teacher_and_student(preset: str, teacher: BertTeacher) -> None:
    # A swap is the best to first order only: with some random students it brings a text nearer.
    keras.utils.set_random_seed(1)
    vocabulary = teacher.encoder.vocabulary
    student = build_student(preset, vocabulary=len(vocabulary), task=classes(2), max_length=16)
    tokens = Parts(student).token_embedding.embeddings
    tokens.assign(np.random.default_rng(0).normal(size=tokens.shape) * 0.3)
    encoded = teacher.encoder.encode(TEXTS)
    outputs = teacher(encoded.inputs)["logits"]
    table = np.asarray(teacher.word_embeddings)
    adversary = Substitution(student, table, vocabulary, teacher, swaps=2, neighbours=6)
    ids = np.asarray(adversary.attack(encoded.inputs, outputs))
    moved = (ids != encoded.ids).sum(1)
    assert ((moved > 0) & (moved <= 2)).all()
    before = divergence(outputs, student(encoded.inputs))
    after = divergence(outputs, student({**encoded.inputs, "ids": ids}))
    assert (np.asarray(after) > np.asarray(before)).all()


def test_the_generator_changes_its_share_and_learns_to_part_them(teacher: BertTeacher) -> None:
    keras.utils.set_random_seed(6)
    vocabulary = teacher.encoder.vocabulary
    student = build_student("nano", vocabulary=len(vocabulary), task=classes(2), max_length=16)
    tokens = Parts(student).token_embedding.embeddings
    tokens.assign(np.random.default_rng(0).normal(size=tokens.shape) * 0.3)
    x = {name: np.repeat(a, 32, 0) for name, a in teacher.encoder.encode(TEXTS).inputs.items()}
    inputs = {name: keras.ops.convert_to_tensor(array) for name, array in x.items()}
    generator = Generator(
        student, teacher, vocabulary, learning_rate=0.02, masked_share=0.5, turns=(1, 0)
    )

    def apart() -> float:
        pairs = [generator.logits(inputs, None) for _ in range(8)]
        return float(np.mean([divergence(*pair) for pair in pairs]))

    ids = np.asarray(generator.attack(inputs, None))
    letters = np.array([piece.removeprefix("##").isalpha() for piece in vocabulary])
    can = letters[x["ids"]] & (x["mask"] > 0)
    assert (ids[~can] == x["ids"][~can]).all()
    assert letters[ids[can]].all()
    # Half of 32 * 15 words are drawn, a word in 50 or so by itself; standard error 0.02.
    assert 0.40 < (ids != x["ids"])[can].mean() < 0.58
    weights, first = student.get_weights(), apart()
    learn = tf.function(generator.learn)
    for _ in range(40):
        learn(inputs)
    assert apart() > 1.5 * first
    for before, after in zip(weights, student.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_generator_learns_in_turns(teacher: BertTeacher) -> None:
    vocabulary = teacher.encoder.vocabulary
    student = build_student("nano", vocabulary=len(vocabulary), task=classes(2), max_length=16)
    generator = Generator(student, teacher, vocabulary, turns=(2, 3))
    inputs = {name: tf.constant(a) for name, a in teacher.encoder.encode(TEXTS).inputs.items()}
    learn, learned = tf.function(generator.learn), []
    for _ in range(8):
        before = generator.network.get_weights()
        learn(inputs)
        after = generator.network.get_weights()
        learned.append(any((a != b).any() for a, b in zip(before, after, strict=True)))
    assert learned == [True, True, False, False, False, True, True, False]


def test_adversarial_texts_are_labelled_and_stored(teacher: BertTeacher, tmp_path: Path) -> None:
    store = label_texts(teacher, TEXTS, tmp_path / "s")
    vocabulary = teacher.encoder.vocabulary
    student = build_student("nano", vocabulary=len(vocabulary), task=classes(2), max_length=16)
    made, grown = adversarial_texts(student, teacher.encoder, teacher, TEXTS, store, neighbours=4)
    assert made
    assert set(grown.texts) == {*TEXTS, *made}
    assert SoftLabels(tmp_path / "s").missing(made) == []
    outputs = teacher(teacher.encoder.encode(made).inputs)["logits"]
    np.testing.assert_allclose(grown.lookup(made)[0], outputs, atol=1e-5)
    # The second time, all texts are stored already.
    assert adversarial_texts(student, teacher.encoder, teacher, TEXTS, grown, neighbours=4)[0] == []


def test_a_student_with_some_of_its_teachers_word_pieces(
    teacher: BertTeacher, tmp_path: Path
) -> None:
    store = label_texts(teacher, TEXTS, tmp_path / "s")
    encoder, ids = teacher.encoder.pruned(TEXTS, min_count=0, most=20)
    assert len(ids) < len(teacher.encoder.vocabulary)
    student = build_student("nano", vocabulary=len(ids), task=classes(2), max_length=16)
    made, grown = adversarial_texts(student, encoder, teacher, TEXTS, store, neighbours=4)
    assert made
    assert {*grown.texts} == {*TEXTS, *made}


def test_the_command_adds_them_to_the_store(
    tiny_bert: Path, teacher: BertTeacher, tmp_path: Path
) -> None:
    rows = [("good film", "good", "train"), ("bad film", "bad", "train"),
            ("awful", "bad", "valid"), ("great", "good", "test")]  # fmt: skip
    (tmp_path / "d.csv").write_text(
        "text,label,split\n" + "".join(",".join(row) + "\n" for row in rows)
    )
    teacher.save_pretrained(tmp_path / "teacher")
    saved = load_teacher(tmp_path / "teacher")
    store = label_texts(saved, [row[0] for row in rows], tmp_path / "labels")
    size = len(teacher.encoder.vocabulary)
    model = build_student("nano", vocabulary=size, task=classes(2), max_length=16)
    one = Evaluation(("awful",), np.array([0], np.int32), np.zeros((1, 2), np.float32))
    student = Student(
        model, teacher.encoder, Classification(label_names=("bad", "good")), one, one, {}
    )
    student.save(tmp_path / "student")
    folders = {"--student": "student", "--teacher": "teacher", "--soft-labels": "labels"}
    arguments = ["attack", tmp_path / "d.csv", "--split", "split"]
    for option, name in folders.items():
        arguments += [option, tmp_path / name]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    made = set(SoftLabels(tmp_path / "labels").texts) - set(store.texts)
    # At most one for each training text, and none for other texts.
    assert 1 <= len(made) <= 2
    assert f"{len(made)} texts added" in result.output


def test_what_adversaries_refuse(teacher: BertTeacher) -> None:
    student = linear_student()
    with pytest.raises(KdedgeError, match="swaps: 0; at least 1"):
        Substitution(student, VECTORS, VOCABULARY, swaps=0)
    with pytest.raises(KdedgeError, match="vocabulary: 9 word pieces; the student has 10"):
        Substitution(student, VECTORS[:9], VOCABULARY[:9])
    with pytest.raises(
        KdedgeError, match="teacher: None; one is needed to label the changed inputs"
    ):
        Substitution(student, VECTORS, VOCABULARY).logits(TEXT, np.zeros((1, 2), np.float32))
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(KdedgeError, match="no keras.layers.Embedding named .tokens"):
        Substitution(plain, VECTORS, VOCABULARY)
    with pytest.raises(KdedgeError, match="masked_share: 0; above 0"):
        Generator(student, teacher, VOCABULARY, masked_share=0)
    with pytest.raises(KdedgeError, match=r"turns: \(0, 5\); at least 1 step to learn"):
        Generator(student, teacher, VOCABULARY, turns=(0, 5))
    with pytest.raises(KdedgeError, match="every: 0; at least 1"):
        AdversarialLoss(Apart(), every=0)
    with pytest.raises(KdedgeError, match="teacher: Functional; a BertTeacher"):
        Generator(student, student, VOCABULARY)

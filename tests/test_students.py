"""Students: padding, initialisation, saving and loading must not change their outputs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import pytest
from conftest import classes, few_texts

from kdedge import Corpus, KdedgeError, Student, TextEncoder, build_student, load_teacher
from kdedge.bench.report.disagreements import disagreements_of
from kdedge.compress.vocabulary import prune_vocabulary
from kdedge.files import CHECKSUMS, write_checksums
from kdedge.layers.pooling import TokenMean
from kdedge.layers.transformer import Attention, PositionEmbedding, gelu_tanh
from kdedge.students.architecture import Parts, Request
from kdedge.students.cut import (
    Importance,
    cut_from_teacher,
    mini_cut,
    taylor_importance,
    vector_length,
)
from kdedge.students.initial import EMBEDDING_SCALE, set_token_embeddings
from kdedge.students.presets import PRESETS
from kdedge.students.trained import Evaluation, measures, predict_logits
from kdedge.tasks import Classification, MultiLabel, Task
from kdedge.teachers.bert import BertTeacher
from kdedge.text.familiarity import Familiarity
from kdedge.text.splits import Split

SIZE = 60
# Of a BERT of 2 layers with 2 heads and 64 neurons: the later, the more they count.
IMPORTANCE = Importance(np.arange(4.0).reshape(2, 2), np.arange(128.0).reshape(2, 64))


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(
        tiny_bert, task=Classification(label_names=("bad", "good")), with_hidden_states=True
    )


def build(preset: str, teacher: BertTeacher, task: Task | None = None) -> keras.Model:
    keras.utils.set_random_seed(5)
    cut = PRESETS[preset].needs_teacher
    return build_student(
        preset,
        task=task or (teacher.task if cut else classes(3)),
        vocabulary=len(teacher.encoder.vocabulary) if cut else SIZE,
        max_length=16,
        teacher=teacher,
        corpus=few_texts("good film", "awful plot"),
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_padding_does_not_change_the_logits(preset: str, teacher: BertTeacher) -> None:
    student = build(preset, teacher)
    ids = np.array([[2, 7, 9, 11, 8, 3]], np.int32)

    def logits(length: int) -> np.ndarray:
        inputs = {
            "ids": np.pad(ids, [(0, 0), (0, length - 6)]),
            "mask": np.pad(np.ones_like(ids), [(0, 0), (0, length - 6)]),
            "segment_ids": np.zeros((1, length), np.int32),
        }
        return np.asarray(student(inputs, training=False))

    assert logits(6).shape == (1, student.output.shape[-1])
    for length in (7, 16):
        np.testing.assert_allclose(logits(length), logits(6), atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_student_is_functional_and_has_a_sentence(preset: str, teacher: BertTeacher) -> None:
    student = build(preset, teacher)
    parts = Parts(student)
    assert len(parts.sentence.shape) == 2
    assert parts.logits.shape == student.output.shape
    assert parts.token_embedding.output.shape[-1] == parts.token_embedding.output_dim
    assert len(parts.blocks) == (2 if PRESETS[preset].has_blocks else 0)
    for block in parts.blocks:
        assert isinstance(block.attention, keras.layers.MultiHeadAttention)
        assert block.input.shape[-1] == block.output.shape[-1]
    assert {tensor.name: tensor.dtype for tensor in student.inputs} == {
        "ids": "int32", "mask": "int32", "segment_ids": "int32",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        # 60 * 32 embeddings; filters of 2 + 3 tokens: 5 * 32 * 48 + 2 * 48;
        # 2 * (max and mean) * 48 into 64; 64 * 3 + 3
        ("nano", 1920 + 7776 + 12_352 + 195),
        # 60 * 56 embeddings; filters of 1 + 2 + 3 + 5 tokens: 11 * 56 * 128 + 4 * 128;
        # 4 * (max and mean) * 128 into 192; 192 * 3 + 3
        ("micro", 3360 + 79_360 + 196_800 + 579),
        # 60 * 128 embeddings and 16 positions; norm; two layers of 4 * (128 * 128 + 128),
        # 128 * 512 + 512 + 512 * 128 + 128 and two norms; 128 * 3 + 3
        ("mini", 7680 + 2048 + 256 + 2 * (66_048 + 131_712 + 512) + 387),
    ],
)
def test_sizes_worked_out_by_hand(preset: str, parameters: int, teacher: BertTeacher) -> None:
    assert build(preset, teacher).count_params() == parameters


def test_gelu_by_its_tanh_approximation() -> None:
    # 0.5 * 1 * (1 + tanh(sqrt(2 / pi) * (1 + 0.044715))) = 0.5 * (1 + tanh(0.833562))
    assert float(gelu_tanh(np.float32(1.0))) == pytest.approx(0.841192, abs=1e-6)
    assert float(gelu_tanh(np.float32(-1.0))) == pytest.approx(-0.158808, abs=1e-6)


def test_positions_are_added() -> None:
    layer = PositionEmbedding(3)
    layer.build((None, None, 2))
    layer.table.assign([[1, 2], [3, 4], [5, 6]])
    outputs = layer(np.array([[[10.0, 20.0], [30.0, 40.0]]], np.float32))
    assert np.asarray(outputs).tolist() == [[[11, 22], [33, 44]]]
    assert PositionEmbedding.from_config(layer.get_config()).max_length == 3


def test_the_mean_is_over_tokens() -> None:
    x = np.array([[[1.0, 2.0], [3.0, 8.0], [0.0, 0.0]]], np.float32)
    outputs = TokenMean()(x, np.array([[1, 1, 0]], np.int32))
    assert np.asarray(outputs).tolist() == [[2, 5]]


def test_attention_is_that_of_keras() -> None:
    x = keras.random.normal((2, 3, 4), seed=1)
    mask = np.array([[[1, 1, 0]], [[1, 1, 1]]], np.int32)
    ours, theirs = (kind(2, 3) for kind in (Attention, keras.layers.MultiHeadAttention))
    theirs(x, x)
    ours(x, x, attention_mask=mask)
    ours.set_weights(theirs.get_weights())
    expected, maps = theirs(x, x, attention_mask=mask, return_attention_scores=True)
    outputs, scores = ours(x, x, attention_mask=mask, return_attention_scores=True)
    assert np.asarray(outputs) == pytest.approx(np.asarray(expected), abs=1e-6)
    assert np.asarray(scores) == pytest.approx(np.asarray(maps), abs=1e-6)


def cut_whole(
    teacher: BertTeacher, layers: int, teacher_ids: list[int] | None = None
) -> keras.Model:
    return cut_from_teacher(
        teacher, IMPORTANCE, teacher.task, 16,
        layers=layers, heads=9, neurons=99, teacher_ids=teacher_ids,
    )  # fmt: skip


def test_a_cut_student_begins_as_the_teacher(teacher: BertTeacher) -> None:
    inputs = teacher.encoder.encode(["good film", "not very good and not bad"]).inputs
    outputs = teacher(inputs)
    states, mask = outputs["hidden_states"], inputs["mask"].astype(bool)
    size = len(teacher.encoder.vocabulary)
    # The teacher's exact GELU against the approximate one of students.
    within = {"rtol": 0, "atol": 2e-3}
    for layers in (1, 2):
        student = cut_whole(teacher, layers)
        for i in range(layers):
            output = Parts(student).blocks[i].output
            found = np.asarray(keras.Model(student.inputs, output)(inputs))
            # The last layer gives the first token only.
            some = mask if i < layers - 1 else np.s_[:, :1]
            np.testing.assert_allclose(found[some], states[i + 1].numpy()[some], **within)
        assert Parts(student).token_embedding.embeddings.shape == (size, 32)
    np.testing.assert_allclose(student(inputs), outputs["logits"], **within)
    # No dropout.
    np.testing.assert_array_equal(student(inputs, training=True), student(inputs))
    few = cut_whole(teacher, 1, teacher_ids=[0, 2, 7])
    whole = Parts(student).token_embedding.embeddings.numpy()
    np.testing.assert_array_equal(Parts(few).token_embedding.embeddings.numpy(), whole[[0, 2, 7]])


def test_a_cut_student_has_the_teachers_classes(teacher: BertTeacher) -> None:
    with pytest.raises(KdedgeError, match="task: 3 logits are needed; .* has 2"):
        cut_from_teacher(teacher, IMPORTANCE, classes(3), 16, layers=1, heads=1, neurons=1)


def test_embeddings_by_principal_components() -> None:
    student = build_student("nano", vocabulary=4, task=classes(2), max_length=8)
    with pytest.raises(KdedgeError, match="vectors: 5 rows; the student has 4 tokens"):
        set_token_embeddings(student, np.zeros((5, 200), np.float32))
    # A narrower teacher fills only as many columns as it has.
    before = Parts(student).token_embedding.embeddings.numpy()
    set_token_embeddings(student, np.eye(4, 3, dtype=np.float32))
    after = Parts(student).token_embedding.embeddings.numpy()
    np.testing.assert_array_equal(after[:, 3:], before[:, 3:])
    assert after[:, :3].std() == pytest.approx(EMBEDDING_SCALE)

    inputs = keras.Input((None,), dtype="int32")
    plain = keras.Model(inputs, keras.layers.Embedding(4, 1, name="tokens")(inputs))
    # Nearly all variance is along (3, 4) / 5: coordinates there are 0, 5, 10, 15, less their mean
    # -7.5, -2.5, 2.5, 7.5, with a standard deviation of sqrt(31.25).
    vectors = np.array([[0, 0], [3, 4], [6, 8], [9, 12]], np.float32)
    set_token_embeddings(plain, vectors)
    table = Parts(plain).token_embedding.embeddings.numpy()[:, 0]
    expected = np.array([-7.5, -2.5, 2.5, 7.5]) / np.sqrt(31.25) * EMBEDDING_SCALE
    # The sign of an axis is arbitrary.
    np.testing.assert_allclose(table * np.sign(table[-1]), expected, atol=1e-6)


def test_unknown_presets_and_missing_teachers() -> None:
    with pytest.raises(KdedgeError, match="'huge' is unknown. Allowed: nano, micro, mini, mini-c"):
        build_student("huge", vocabulary=9, task=classes(2), max_length=8)
    with pytest.raises(KdedgeError, match="mini-cut takes layers from the teacher.* --teacher"):
        build_student("mini-cut", vocabulary=9, task=classes(2), max_length=8)


@pytest.mark.parametrize("name", ["vocabulary", "max_length"])
def test_numbers_below_1_are_refused(name: str) -> None:
    sizes = {"vocabulary": 9, "max_length": 8} | {name: 0}
    with pytest.raises(KdedgeError, match=f"^{name}: 0; at least 1 is needed.$"):
        build_student("micro", task=classes(2), **sizes)


def test_mini_cut_of_more_labels_than_importance_has_texts(
    teacher: BertTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdedge.students.cut.IMPORTANCE_TEXTS", 1)
    split = Split(("good film", "bad film"), np.array([1, 0], np.int32))
    corpus, size = Corpus(teacher.task, split, split, split), len(teacher.encoder.vocabulary)
    student = mini_cut(Request(teacher.task, size, 16, teacher, corpus))
    assert student.output_shape == (None, 2)


def test_a_cut_student_keeps_what_counts_most(teacher: BertTeacher) -> None:
    cut = cut_from_teacher(teacher, IMPORTANCE, teacher.task, 16, layers=1, heads=1, neurons=3)
    block = teacher.transformer.blocks[0]
    query = block.query.kernel.numpy()
    # Of 32 columns the last 16 are the second head's.
    np.testing.assert_array_equal(
        Parts(cut).blocks[0].attention.get_weights()[0][:, 0], query[:, 16:]
    )
    out = block.output_dense.kernel.numpy()
    np.testing.assert_array_equal(cut.get_layer("dense_out_0").get_weights()[0], out[61:])


def test_importance_is_what_the_loss_loses_to_first_order(tiny_bert: Path) -> None:
    # The head's weights are random, and with some the loss bends too much for the slope.
    keras.utils.set_random_seed(1)
    teacher = load_teacher(tiny_bert, task=Classification(label_names=("bad", "good")))
    # With its own weights, the slope would be too small for float32.
    for variable in teacher.trainable_variables:
        variable.assign(8 * variable.value)
    texts, labels = ["good film", "awful plot"], np.array([1, 0], np.int32)
    importance = taylor_importance(teacher, texts, labels, teacher.task)
    block = teacher.transformer.blocks[1]
    kernels = {
        "heads": (block.attention_output.kernel, slice(16, 32)),
        "neurons": (block.output_dense.kernel, slice(5, 6)),
    }
    inputs = teacher.encoder.encode(texts).inputs
    for name, (kernel, rows) in kernels.items():
        whole = kernel.numpy()

        def loss(scale: float, kernel=kernel, rows=rows, whole=whole) -> float:
            changed = whole.copy()
            changed[rows] *= scale
            kernel.assign(changed)
            logits = teacher(inputs)["logits"].numpy().astype(np.float64)
            kernel.assign(whole)
            log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            return -float(log_probabilities[[0, 1], labels].mean())

        # The slope of the loss along the part's own weights, by central differences.
        slope = (loss(1.02) - loss(0.98)) / 0.04
        number = 1 if name == "heads" else 5
        assert getattr(importance, name)[1, number] == pytest.approx(abs(slope), rel=0.02)


def test_only_a_bert_can_be_cut(teacher: BertTeacher, tiny_bert: Path) -> None:
    other = load_teacher(tiny_bert, task=teacher.task)
    other.settings["model_type"] = "roberta"
    with pytest.raises(KdedgeError, match="roberta; mini-cut can be made from a BERT only"):
        cut_from_teacher(other, IMPORTANCE, teacher.task, 16, layers=1, heads=1, neurons=1)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_cut_student_takes_a_probes_head(
    pooling: Literal["mean", "first"], teacher: BertTeacher, tiny_bert: Path
) -> None:
    linear = load_teacher(tiny_bert, task=teacher.task, head=pooling)
    texts = ["not very good and not bad"]
    student = cut_from_teacher(
        linear, IMPORTANCE, teacher.task, 16,
        layers=2, heads=9, neurons=99, length=vector_length(linear, texts),
    )  # fmt: skip
    inputs = linear.encoder.encode(texts).inputs
    # Exact except for GELU if all vectors have that length, as with one text.
    np.testing.assert_allclose(student(inputs), linear(inputs)["logits"], atol=2e-3)


# On disk


def make_student(preset: str, teacher: BertTeacher) -> Student:
    valid = Evaluation(("bad",), np.array([0], np.int32), np.array([[1.5, 0.5]], np.float32))
    test = Evaluation(
        ("good film", "awful"),
        np.array([1, 0], np.int32),
        np.array([[0.25, 1.0], [1.5, -1.5]], np.float32),
        np.array([[0.5, 1.5], [2.0, -1.0]], np.float32),
    )
    notes = {"preset": preset, "history": [{"epoch": 1, "loss": 0.5}]}
    model = build(preset, teacher, teacher.task)
    return Student(model, teacher.encoder, teacher.task, valid, test, notes)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_student_comes_back_as_it_was(preset: str, teacher: BertTeacher, tmp_path: Path) -> None:
    student = make_student(preset, teacher)
    student.save(tmp_path / "student")
    again = Student.load(tmp_path / "student")
    inputs = teacher.encoder.encode(["good film"]).inputs
    np.testing.assert_array_equal(again.model(inputs), student.model(inputs))
    assert again.task == student.task
    assert again.notes == student.notes
    for ours, theirs in ((again.valid, student.valid), (again.test, student.test)):
        assert ours.texts == theirs.texts
        for name in ("labels", "logits", "teacher_logits"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert isinstance(again.encoder, TextEncoder)
    with pytest.raises(KdedgeError, match="exists already"):
        student.save(tmp_path / "student")


@pytest.mark.parametrize("name", ["student.keras", "evaluation.parquet", "student.json"])
def test_a_cut_file_is_refused(name: str, teacher: BertTeacher, tmp_path: Path) -> None:
    make_student("nano", teacher).save(tmp_path / "student")
    path = tmp_path / "student" / name
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(KdedgeError, match="cannot read this|is not the file"):
        Student.load(tmp_path / "student")


def test_a_newer_student_and_no_student(teacher: BertTeacher, tmp_path: Path) -> None:
    make_student("nano", teacher).save(tmp_path / "student")
    notes = tmp_path / "student" / "student.json"
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"format_version": 1}))
    with pytest.raises(KdedgeError, match="format_version is 1 and this kdedge reads 2 and 3"):
        Student.load(tmp_path / "student")
    with pytest.raises(KdedgeError, match="not a student: student.json is missing"):
        Student.load(tmp_path)


def test_code_in_a_student_is_not_run(teacher: BertTeacher, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    evil = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs))
    make_student("nano", teacher).save(tmp_path / "student")
    (tmp_path / "student" / "student.keras").unlink()
    evil.save(tmp_path / "student" / "student.keras")
    files = (f.name for f in (tmp_path / "student").iterdir() if f.name != CHECKSUMS)
    write_checksums(tmp_path / "student", files)
    with pytest.raises(KdedgeError, match="[Ll]ambda"):
        Student.load(tmp_path / "student")


# A smaller vocabulary


@pytest.mark.parametrize("preset", PRESETS)
def test_a_pruned_student_says_the_same_of_its_corpus(preset: str, teacher: BertTeacher) -> None:
    corpus = ["good film", "bad plot", "good"]
    known = Familiarity.fit(teacher.encoder, corpus)
    student = replace(make_student(preset, teacher), familiarity=known)
    pruned = prune_vocabulary(student, corpus)
    assert pruned.notes["vocabulary"] == len(pruned.encoder.vocabulary)
    rows = Parts(pruned.model).token_embedding.embeddings.shape[0]
    assert rows == pruned.notes["vocabulary"] < len(student.encoder.vocabulary)
    np.testing.assert_array_equal(
        predict_logits(pruned.model, pruned.encoder, corpus),
        predict_logits(student.model, student.encoder, corpus),
    )
    assert pruned.familiarity
    for text in corpus:
        (before,), (after,) = (one.encoder.token_ids([text]) for one in (student, pruned))
        assert pruned.familiarity.of(after) == known.of(before)
    # The figures are the pruned student's own: `awful` is now in pieces.
    outputs = predict_logits(pruned.model, pruned.encoder, student.test.texts)
    np.testing.assert_array_equal(pruned.test.logits, outputs)
    assert pruned.notes["accuracy"] == np.mean(outputs.argmax(1) == [1, 0])


def test_no_corpus_and_no_embedding(teacher: BertTeacher) -> None:
    student = make_student("nano", teacher)
    with pytest.raises(KdedgeError, match="texts: none"):
        prune_vocabulary(student, [])
    inputs = keras.Input((4,))
    other = replace(student, model=keras.Model(inputs, inputs, name="own"))
    with pytest.raises(KdedgeError, match="own has no keras.layers.Embedding named .tokens"):
        prune_vocabulary(other, ["good"])


def test_a_share_of_nothing_is_left_out() -> None:
    task, labels = classes(3), np.array([0, 1], np.int32)
    right, wrong = np.eye(3, dtype=np.float32)[:2], np.eye(3, dtype=np.float32)[[2, 2]]
    found = measures(task, Evaluation(("a", "b"), labels, right, wrong))
    assert found == {
        "accuracy": 1.0, "macro_f1": 1.0, "teacher_accuracy": 0.0, "teacher_macro_f1": 0.0,
        "agreement": 0.0,
    }  # fmt: skip
    assert measures(task, Evaluation(("a", "b"), labels, wrong, right))["retention"] == 0.0


def test_each_model_answers_with_its_own_thresholds(teacher: BertTeacher) -> None:
    task = MultiLabel(label_names=("joy", "love"), thresholds=(0.2, 0.2))
    texts, labels = ("good film", "awful plot"), np.array([[1, 0], [0, 1]], np.int8)
    # Of the teacher 0.4 is no label yet: its wrong ones have 0.4, its right ones 0.6.
    half = np.float32(np.log(0.4 / 0.6))
    teachers = np.array([[-half, half], [half, -half]], np.float32)
    students = np.array([[9.0, -9.0], [9.0, 9.0]], np.float32)
    split = Evaluation(texts, labels, students, teachers)
    student = Student(
        build("nano", teacher, task), teacher.encoder, task, split, split, {"preset": "nano"}
    )
    (found,) = disagreements_of(student, None)
    assert (found.text, found.teacher, found.student) == ("awful plot", "love", "joy, love")
    assert measures(task, split, split)["agreement"] == 0.5

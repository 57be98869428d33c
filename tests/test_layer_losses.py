"""Hidden states and attention maps as targets."""

from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import classes

from kdedge import Distiller, FeatureLoss, KdedgeError, SoftLabelLoss, build_student, load_teacher
from kdedge.distill.terms import terms_of
from kdedge.objectives.losses import AttentionLoss, HiddenStateLoss, attention_maps
from kdedge.recipe import Distill
from kdedge.students.cut import Importance, cut_from_teacher
from kdedge.tasks import Classification
from kdedge.teachers.bert import BertTeacher

TEXTS = ["good film", "a very bad plot and the actor is not good"]


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(
        tiny_bert,
        task=Classification(label_names=("bad", "good")),
        with_hidden_states=True,
        with_attentions=True,
    )


def test_hidden_states_of_padding_do_not_count() -> None:
    teacher = np.array([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    student = np.array([[[1.0, 0.0], [0.0, 4.0], [0.0, 0.0]]])
    # Tokens 1 and 2: (0 + 4) / 2 = 2 and (9 + 0) / 2 = 4.5; their mean.
    loss = HiddenStateLoss(2, "dense_norm_0", 1)
    value = loss.compute_loss(teacher, student, mask=np.array([[1, 1, 0]]))
    assert np.asarray(value) == pytest.approx([3.25])


def test_attention_maps_head_by_head_and_their_means() -> None:
    # Two heads, two tokens and one of padding, whose rows and columns are far off.
    teacher = np.full((1, 2, 3, 3), 9.0)
    student = np.zeros((1, 2, 3, 3))
    teacher[0, :, :2, :2] = [[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]
    student[0, :, :2, :2] = [[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.0, 1.0]]]
    mask = np.array([[1, 1, 0]])
    # Each head: (0.25 + 0.25 + 0 + 0) / 4 and (0.25 + 0.25 + 0.25 + 0.25) / 4
    each = AttentionLoss("attention_0", 0).compute_loss(teacher, student, mask=mask)
    assert np.asarray(each) == pytest.approx([(0.125 + 0.25) / 2])
    # The means are [.5, .5], [.5, .5] and [.5, .5], [.25, .75]: (0.0625 + 0.0625) / 4
    means = AttentionLoss("attention_0", 0, mean_of_heads=True)
    assert np.asarray(means.compute_loss(teacher, student, mask=mask)) == pytest.approx([0.03125])


def test_attention_maps_are_those_of_keras() -> None:
    keras.utils.set_random_seed(0)
    layer = keras.layers.MultiHeadAttention(2, 3)
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32)
    _, theirs = layer(x, x, attention_mask=mask[:, None], return_attention_scores=True)
    ours = attention_maps(layer, keras.ops.convert_to_tensor(x), mask)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.asarray(ours)[1, :, :, 2:].max() == 0.0


def test_the_teachers_maps(teacher: BertTeacher) -> None:
    outputs = teacher.run(teacher.encoder.encode(TEXTS).inputs)
    assert [maps.shape for maps in outputs["attentions"]] == [(2, 2, 12, 12)] * 2
    np.testing.assert_allclose(outputs["attentions"][0].sum(-1), 1.0, atol=1e-5)


def test_the_teacher_takes_embeddings_in_the_place_of_ids(teacher: BertTeacher) -> None:
    inputs = teacher.encoder.encode(TEXTS).inputs
    embeddings = np.asarray(teacher.word_embeddings)[inputs["ids"]]
    rest = {name: inputs[name] for name in ("mask", "segment_ids")}
    outputs = teacher(rest | {"embeddings": embeddings})["logits"]
    np.testing.assert_allclose(outputs, teacher(inputs)["logits"], atol=1e-6)


def test_a_mini_learns_from_the_layers_in_one_pass(teacher: BertTeacher, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    size = len(teacher.encoder.vocabulary)
    student = build_student("mini", vocabulary=size, task=classes(2), max_length=16)
    losses = [
        SoftLabelLoss(),
        FeatureLoss(32),
        HiddenStateLoss(32, "embedding_norm", 0),
        HiddenStateLoss(32, "dense_norm_1", 2),
        # 4 heads and 2.
        AttentionLoss("attention_0", 1, mean_of_heads=True),
    ]
    weights = [1.0, 1.0, 1.0, 1.0, 100.0]
    distiller = Distiller(teacher, student, losses, weights, student_loss_weight=0.0)
    distiller.compile(keras.optimizers.Adam(3e-3))
    x = {name: np.repeat(a, 8, 0) for name, a in teacher.encoder.encode(TEXTS).inputs.items()}
    history = distiller.fit(x, np.zeros(16, np.int32), batch_size=8, epochs=8, verbose=0).history
    for loss in losses:
        assert history[loss.name][-1] < history[loss.name][0], loss.name
    # The student is unchanged: saved and loaded, it gives the same outputs.
    inputs = teacher.encoder.encode(TEXTS).inputs
    student.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(again(inputs), student(inputs), atol=1e-6)
    for loss in losses:
        assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()


def test_as_many_heads_are_needed(teacher: BertTeacher) -> None:
    size = len(teacher.encoder.vocabulary)
    student = build_student("mini", vocabulary=size, task=classes(2), max_length=16)
    distiller = Distiller(teacher, student, AttentionLoss("attention_0", 0))
    distiller.compile(run_eagerly=True)
    x = teacher.encoder.encode(TEXTS).inputs
    with pytest.raises(KdedgeError, match=r"attentions_0 has shape \(2, 2, .* \(2, 4,"):
        distiller.fit(x, np.zeros(2, np.int32), verbose=0)
    with pytest.raises(KdedgeError, match="'sentence' is a .* be a keras.layers.MultiHead"):
        Distiller(teacher, student, AttentionLoss("sentence", 0))


def test_the_layer_that_gives_one_token_is_not_matched(teacher: BertTeacher) -> None:
    importance = Importance(np.ones((2, 2)), np.ones((2, 64)))
    student = cut_from_teacher(teacher, importance, teacher.task, 16, layers=2, heads=2, neurons=64)
    settings = Distill(student="mini-cut", hidden_weight=1.0, attention_weight=1.0)
    losses = [loss for loss, _ in terms_of(settings, student, teacher.task, None, teacher)]
    assert [loss.name for loss in losses] == [
        "soft_label_loss", "hidden_state_loss_dense_norm_0", "attention_loss_attention_0",
    ]  # fmt: skip
    # All others work: the longest texts, and padding.
    distiller = Distiller(teacher, student, losses)
    distiller.compile(keras.optimizers.Adam(1e-3))
    inputs = teacher.encoder.encode(TEXTS).inputs
    distiller.fit(inputs, np.array([1, 0]), epochs=1, verbose=0)

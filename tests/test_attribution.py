"""Attributions of tokens to a class, compared with numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from conftest import classes
from test_adversary import TEXT, linear_student

from kdedge import KdedgeError, build_student, load_teacher
from kdedge.explain import explain, gradient_x_input, integrated_gradients
from kdedge.students.architecture import Parts
from kdedge.tasks import Classification
from kdedge.teachers.bert import BertTeacher


@pytest.mark.parametrize("method", [gradient_x_input, integrated_gradients])
def test_a_linear_student_worked_out_by_hand(method) -> None:
    # Logits (-s, s) with s the mean worth of 5 tokens: what speaks for class 1 is 2 s, so a token
    # adds 2 / 5 of its worth: 9, 2, 0, 9, -9, and nothing for padding. Class 0 the opposite.
    expected = np.array([[3.6, 0.8, 0.0, 3.6, -3.6, 0.0]])
    np.testing.assert_allclose(method(linear_student(), TEXT, [1]), expected, atol=1e-5)
    np.testing.assert_allclose(method(linear_student(), TEXT, [0]), -expected, atol=1e-5)


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(tiny_bert, task=Classification(label_names=("bad", "good")))


def speaks_for(logits: np.ndarray, chosen: int) -> float:
    return float(logits[0, chosen] - np.delete(logits[0], chosen).mean())


# Not a transformer: its norms are steep near embeddings of 0, which takes many steps.
@pytest.mark.parametrize("preset", ["nano", "micro"])
def test_integrated_gradients_sum_to_the_difference(preset: str) -> None:
    student = build_student(preset, vocabulary=10, task=classes(3), max_length=8)
    tokens = Parts(student).token_embedding
    table = np.random.default_rng(0).normal(size=tokens.embeddings.shape)
    tokens.set_weights([table])
    there = np.asarray(student(TEXT))
    given = integrated_gradients(student, TEXT, [2], steps=50)
    tokens.set_weights([np.zeros_like(table)])
    difference = speaks_for(there, 2) - speaks_for(np.asarray(student(TEXT)), 2)
    assert given.sum() == pytest.approx(difference, rel=0.02)
    assert given[0, -1] == 0.0


def test_a_teacher_is_explained_beside_its_student(teacher: BertTeacher) -> None:
    encoder = teacher.encoder
    texts = ["good film", "a very bad plot"]
    explained = explain(teacher, encoder, texts, steps=4)
    assert [[piece for piece, _ in pieces] for pieces in explained] == [t.split() for t in texts]
    student = build_student(
        "nano", task=classes(2), vocabulary=len(encoder.vocabulary), max_length=16
    )
    inputs = encoder.encode(texts).inputs
    decided = np.asarray(student(inputs)).argmax(1).tolist()
    values = integrated_gradients(student, inputs, decided)
    beside = explain(student, encoder, texts)
    assert [len(pieces) for pieces in beside] == [2, 4]
    np.testing.assert_allclose([v for _, v in beside[1]], values[1, 1:5], atol=1e-6)
    # Gradient x input of the teacher, by differences: the embeddings a little longer.
    rest = {name: inputs[name] for name in ("mask", "segment_ids")}
    words = np.asarray(teacher.word_embeddings)[inputs["ids"]]
    given = gradient_x_input(teacher, inputs, [1, 1])
    for place in (1, 3):
        longer, shorter = words.copy(), words.copy()
        longer[1, place] *= 1.01
        shorter[1, place] *= 0.99
        up, down = (
            np.asarray(teacher({**rest, "embeddings": e})["logits"])[1] for e in (longer, shorter)
        )
        slope = ((up[1] - up[0]) - (down[1] - down[0])) / 0.02
        assert given[1, place] == pytest.approx(slope, rel=0.05, abs=1e-4)


def test_what_can_not_be_explained() -> None:
    with pytest.raises(KdedgeError, match="steps: 0. At least 1"):
        integrated_gradients(linear_student(), TEXT, [1], steps=0)

"""Files that release 0.1.0 wrote are still read, and give the answers that 0.1.0 gave."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdedge import SoftLabels, Student, load_bundle, load_teacher
from kdedge.students.architecture import Parts
from kdedge.students.presets import find_preset
from kdedge.teachers.label import label_texts

FIXTURES = Path(__file__).parent / "fixtures" / "0.1.0"
ANSWERS = json.loads((FIXTURES / "answers.json").read_text())
UNSEEN = ANSWERS["unseen"]
# Between machines: float32 sums in another order, and an activation that is rounded to the int8
# value beside.
FLOAT32, INT8 = 1e-5, 2e-3


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("0.1.0")
    with tarfile.open(FIXTURES / "artefacts.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def check_store(store: SoftLabels, expected: dict[str, Any]) -> None:
    assert store.teacher == expected["teacher"]
    assert store.task.label_names == tuple(expected["label_names"])
    assert list(store) == list(store.texts) == expected["texts"]
    # All of it is stored: nothing is computed.
    logits, pooled = store.lookup(expected["texts"][::-1])
    np.testing.assert_array_equal(logits[::-1], np.float32(expected["logits"]))
    if expected["pooled"] is None:
        assert pooled is None and store.token_vectors() is None
    else:
        assert pooled is not None and pooled.dtype == np.float16
        np.testing.assert_array_equal(pooled[::-1], np.float16(expected["pooled"]))
        np.testing.assert_array_equal(store.token_vectors(), np.float16(expected["token_vectors"]))
    assert store.missing([*expected["texts"], "another"]) == ["another"]


def test_a_store(artefacts: Path) -> None:
    store = SoftLabels(artefacts / "store")
    check_store(store, ANSWERS["store"])
    assert store.encoder().token_ids(UNSEEN) == ANSWERS["teacher"]["ids"]


def test_an_imported_store(artefacts: Path) -> None:
    store = SoftLabels(artefacts / "imported")
    check_store(store, ANSWERS["imported"])
    assert store.encoder().token_ids(UNSEEN) == ANSWERS["teacher"]["ids"]


def test_a_teacher(artefacts: Path) -> None:
    teacher = load_teacher(artefacts / "teacher")
    expected = ANSWERS["teacher"]
    assert teacher.task.label_names == tuple(expected["label_names"])
    assert teacher.fingerprint == expected["fingerprint"] == ANSWERS["store"]["teacher"]
    assert teacher.encoder.token_ids(UNSEEN) == expected["ids"]
    outputs = teacher.run(teacher.encoder.encode(UNSEEN).inputs)
    for name in ("logits", "pooled"):
        np.testing.assert_allclose(outputs[name], expected[name], rtol=0, atol=FLOAT32)


def test_a_teacher_goes_on_with_its_store(artefacts: Path, tmp_path: Path) -> None:
    stored = ANSWERS["store"]["texts"]
    folder = shutil.copytree(artefacts / "store", tmp_path / "store")
    store = label_texts(load_teacher(artefacts / "teacher"), [*stored, *UNSEEN], folder)
    assert list(store) == [*stored, *UNSEEN]
    logits, _ = store.lookup(UNSEEN)
    np.testing.assert_allclose(logits, ANSWERS["teacher"]["logits"], rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("name", ANSWERS["students"])
def test_a_student(name: str, artefacts: Path) -> None:
    student = Student.load(artefacts / name)
    expected = ANSWERS["students"][name]
    assert student.task.label_names == tuple(ANSWERS["teacher"]["label_names"])
    assert student.notes["preset"] == name.removesuffix("-task")
    assert student.notes["accuracy"] == expected["accuracy"]
    assert student.notes["parameters"] == student.model.count_params() == expected["parameters"]
    assert student.encoder.token_ids(UNSEEN) == expected["ids"]
    logits = student.model(student.encoder.encode(UNSEEN).inputs, training=False)
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=FLOAT32)
    parts = Parts(student.model)
    assert parts.token_embedding.input_dim == len(student.encoder.vocabulary)
    assert len(parts.sentence.shape) == 2
    assert bool(parts.blocks) == find_preset(student.notes["preset"]).has_blocks

    assert list(student.test.texts) == expected["test_texts"]
    for found, recorded in [
        (student.valid.logits, expected["valid"]),
        (student.test.logits, expected["test"]),
        (student.test.labels, expected["test_labels"]),
        (student.test.teacher_logits, expected["teacher_test"]),
    ]:
        assert found is not None
        np.testing.assert_array_equal(found, np.array(recorded, found.dtype))


@pytest.mark.parametrize("artifact", ANSWERS["bundle"]["probabilities"])
def test_a_bundle(artifact: str, artefacts: Path) -> None:
    model = load_bundle(artefacts / "bundle", artifact)
    labels = ANSWERS["bundle"]["labels"]
    expected = np.float32(ANSWERS["bundle"]["probabilities"][artifact])
    found = model.outputs(UNSEEN)
    tolerance = INT8 if "int8" in artifact else FLOAT32
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    for answer, row in zip(model.predict(UNSEEN), found, strict=True):
        assert answer.label == labels[row.argmax()]
        assert list(answer.probabilities) == labels


def test_the_default_of_a_bundle(artefacts: Path) -> None:
    found = load_bundle(artefacts / "bundle").outputs(UNSEEN)
    name = ANSWERS["bundle"]["default"]
    expected = ANSWERS["bundle"]["probabilities"][name]
    np.testing.assert_allclose(found, expected, rtol=0, atol=INT8)

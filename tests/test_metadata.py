"""Metadata in a .tflite file: it changes nothing else, and wrong input is refused.

tests/test_mediapipe.py proves that MediaPipe reads it.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from kdedge import KdedgeError, TextEncoder
from kdedge.export.litert.metadata import with_metadata
from kdedge.runtime import load_engine

LABELS = ["negative", "positive"]


@pytest.fixture
def content(quick_run: Path) -> bytes:
    return (quick_run / "bundle" / "litert" / "model_int8.tflite").read_bytes()


@pytest.fixture
def vocabulary(quick_run: Path) -> list[str]:
    return TextEncoder.load(quick_run / "bundle").vocabulary


def test_the_model_answers_as_before(
    quick_run: Path, tmp_path: Path, content: bytes, vocabulary: list[str]
) -> None:
    encoder = TextEncoder.load(quick_run / "bundle")
    outputs = []
    for path, model in (
        (tmp_path / "before.tflite", content),
        (tmp_path / "after.tflite", with_metadata(content, vocabulary, LABELS)),
    ):
        path.write_bytes(model)
        engine = load_engine(path)
        outputs.append(engine.run(encoder.encode(["a moving film", "dull"], engine.length).inputs))
    np.testing.assert_array_equal(*outputs)


def test_files_are_those_of_the_bundle_and_not_compressed(
    quick_run: Path, tmp_path: Path, content: bytes, vocabulary: list[str]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(with_metadata(content, vocabulary, LABELS))
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == ["vocab.txt", "labels.txt"]
        # MediaPipe maps them into memory as they are.
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        for entry in entries:
            assert archive.read(entry) == (quick_run / "bundle" / entry.filename).read_bytes()


def test_equal_models_are_equal_bytes(content: bytes, vocabulary: list[str]) -> None:
    first = with_metadata(content, vocabulary, LABELS)
    assert first == with_metadata(content, vocabulary, LABELS)
    assert first == with_metadata(first, vocabulary, LABELS)


def test_labels_can_be_given_anew(tmp_path: Path, content: bytes, vocabulary: list[str]) -> None:
    path = tmp_path / "model.tflite"
    first = with_metadata(content, vocabulary, LABELS)
    path.write_bytes(with_metadata(first, vocabulary, ["schlecht", "gut"]))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["vocab.txt", "labels.txt"]
        assert archive.read("labels.txt") == b"schlecht\ngut\n"


def test_weights_are_aligned_as_the_schema_says(content: bytes, vocabulary: list[str]) -> None:
    from tensorflow.lite.python.schema_py_generated import Model

    model = Model.GetRootAsModel(with_metadata(content, vocabulary, LABELS), 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    # Slot 4: the vector `data` of a buffer.
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    assert len(starts) > 2
    assert {start % 16 for start in starts} == {0}


def test_what_is_refused(content: bytes, vocabulary: list[str]) -> None:
    with pytest.raises(
        KdedgeError, match=r"label_names: 3 names, but the model's output has shape"
    ):
        with_metadata(content, vocabulary, [*LABELS, "neutral"])
    with pytest.raises(KdedgeError, match=r"label_names: 'a\\nb' has a line break"):
        with_metadata(content, vocabulary, ["a\nb", "c"])
    with pytest.raises(KdedgeError, match="vocabulary: 'a\\\\r' has a line break"):
        with_metadata(content, [*vocabulary, "a\r"], LABELS)
    with pytest.raises(KdedgeError, match="content: not a .tflite file"):
        with_metadata(b"rubbish", vocabulary, LABELS)


def test_a_model_with_other_inputs(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.export(tmp_path / "other.tflite", format="litert", verbose=False)
    with pytest.raises(KdedgeError, match="1 inputs and 1 outputs; one subgraph with three int32"):
        with_metadata((tmp_path / "other.tflite").read_bytes(), ["a"], LABELS)

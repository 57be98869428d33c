"""Converted models in their own runtimes, against Keras, on text."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from transformers import AutoTokenizer

from kdedge import KdedgeError, Subject, build_student, export_bundle, load_bundle, load_teacher
from kdedge.bundle import verify
from kdedge.export.litert import to_litert
from kdedge.export.onnx import to_onnx
from kdedge.export.parity import accuracy, parity
from kdedge.recipe import ARTIFACTS, PRESETS, Export
from kdedge.runtime import softmax
from kdedge.students.inputs import student_inputs
from kdedge.teachers.bert import BertTeacher

NAMES = ("bad", "good")
LENGTH = 16
TEXTS = ("good film", "not very good and not bad", "awful plot", "the actor is great", "bad",
         "a b c d e f g h i l m n o r s t u v w y good bad")  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(tiny_bert, label_names=NAMES, max_length=16)


def subject(name: str, teacher: BertTeacher) -> Subject:
    """A model with weights of unit size, so that it says something, and its own labels as true."""
    variables = None
    if name == "teacher":
        model, variables = teacher, teacher.transformer
        parameters = teacher.transformer.count_params()
    else:
        keras.utils.set_random_seed(11)
        model = build_student(
            name, vocabulary=len(teacher.encoder.vocabulary), classes=2, max_length=16,
            transformer=teacher.transformer,
        )  # fmt: skip
        tokens = model.get_layer("tokens").embeddings
        tokens.assign(np.random.default_rng(1).normal(size=tokens.shape))
        parameters = model.count_params()
    said = model(teacher.encoder.encode(TEXTS).inputs, training=False)
    logits = np.asarray(said["logits"] if isinstance(said, dict) else said)
    return Subject(
        name, model, parameters, teacher.encoder, NAMES, TEXTS, logits.argmax(1), logits, variables
    )


def settings(**changes: object) -> Export:
    return Export.model_validate({"length": LENGTH, "max_accuracy_drop": 100, **changes})


@pytest.fixture(scope="module")
def micro(teacher: BertTeacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = tmp_path_factory.mktemp("micro") / "bundle"
    export_bundle(subject("micro", teacher), settings(), bundle)
    return bundle


@pytest.mark.parametrize("name", [*PRESETS, "teacher"])
def test_every_artifact_says_what_its_source_says(
    name: str, teacher: BertTeacher, tmp_path: Path
) -> None:
    source = subject(name, teacher)
    manifest = export_bundle(source, settings(), tmp_path / "bundle")
    assert [a.name for a in manifest.artifacts] == list(ARTIFACTS)
    for artifact in manifest.artifacts:
        said = load_bundle(tmp_path / "bundle", artifact.name).probabilities(TEXTS)
        difference = np.abs(said - softmax(source.logits))
        assert difference.max() < (0.2 if artifact.quantization == "int8" else 1e-5)
        # The manifest's figures are of this very file.
        assert artifact.parity.max_difference == pytest.approx(difference.max(), abs=1e-9)
        assert artifact.parity.mean_difference == pytest.approx(difference.mean(), abs=1e-9)
        assert artifact.parity.texts == artifact.accuracy.texts == len(TEXTS)
        assert artifact.bytes == (tmp_path / "bundle" / artifact.file).stat().st_size


@pytest.mark.parametrize("name", [*PRESETS, "teacher"])
def test_a_litert_model_is_as_clients_want_it(
    name: str, teacher: BertTeacher, tmp_path: Path
) -> None:
    source = subject(name, teacher)
    for quantization in ("float32", "int8"):
        path = tmp_path / f"{quantization}.tflite"
        to_litert(source.model, path, LENGTH, quantization, source.variables)
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        ops = {op["op_name"] for op in interpreter._get_ops_details()}
        assert not any(op.startswith(("Flex", "CUSTOM")) for op in ops), ops
        inputs = interpreter.get_input_details()
        assert [d["name"].split(":")[0].split("_", 2)[-1] for d in inputs] == [
            "ids", "mask", "segment_ids",
        ]  # fmt: skip
        assert all(d["dtype"] == np.int32 and d["shape"].tolist() == [1, LENGTH] for d in inputs)
        (output,) = interpreter.get_output_details()
        assert output["dtype"] == np.float32 and output["shape"].tolist() == [1, 2]
        signature = interpreter.get_signature_list()["serving_default"]
        assert sorted(signature["inputs"]) == ["ids", "mask", "segment_ids"]
        assert signature["outputs"] == ["probabilities"]


def test_int8_shrinks_the_embedding_too(teacher: BertTeacher, tmp_path: Path) -> None:
    model = build_student("nano", vocabulary=5000, classes=2, max_length=16)
    for quantization in ("float32", "int8"):
        to_litert(model, tmp_path / f"{quantization}.tflite", 8, quantization)
        to_onnx(model, tmp_path / f"{quantization}.onnx", quantization)
    # 5000 * 128 numbers of 4 bytes and of 1 byte.
    for suffix in (".tflite", ".onnx"):
        float32, int8 = ((tmp_path / f"{q}{suffix}").stat().st_size for q in ("float32", "int8"))
        assert 2_560_000 < float32 < 2_700_000
        assert 640_000 < int8 < 700_000


def test_an_onnx_model_is_as_clients_want_it(micro: Path, teacher: BertTeacher) -> None:
    for file in ("onnx/model.onnx", "onnx/model_quantized.onnx"):
        model = onnx.load(micro / file)
        onnx.checker.check_model(model, full_check=True)
        assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [17]
        session = onnxruntime.InferenceSession(str(micro / file))
        assert [(v.name, v.type, v.shape) for v in session.get_inputs()] == [
            (name, "tensor(int64)", ["batch_size", "sequence_length"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ]
        (output,) = session.get_outputs()
        assert (output.name, output.type) == ("logits", "tensor(float)")
        assert output.shape == ["batch_size", 2]
        encoded = teacher.encoder.encode(TEXTS)
        feeds = {
            "input_ids": encoded.ids.astype(np.int64),
            "attention_mask": encoded.mask.astype(np.int64),
            "token_type_ids": encoded.segment_ids.astype(np.int64),
        }
        (together,) = session.run(None, feeds)
        for i in range(len(TEXTS)):
            (alone,) = session.run(None, {name: feed[i : i + 1] for name, feed in feeds.items()})
            np.testing.assert_allclose(alone[0], together[i], atol=0.1)


def test_a_bundle_holds_all_that_clients_need(micro: Path, teacher: BertTeacher) -> None:
    manifest = verify(micro)
    assert manifest.labels == NAMES
    assert manifest.max_length == 16
    assert set(manifest.files) == {
        "config.json", "encoder.json", "labels.txt", "sample_texts.txt", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt", "litert/model_float32.tflite",
        "litert/model_int8.tflite", "onnx/model.onnx", "onnx/model_quantized.onnx",
    }  # fmt: skip
    assert (micro / "labels.txt").read_text() == "bad\ngood\n"
    assert (micro / "sample_texts.txt").read_text().splitlines() == list(TEXTS)
    assert json.loads((micro / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}
    tokenizer = AutoTokenizer.from_pretrained(micro)
    assert tokenizer(list(TEXTS), truncation=True)["input_ids"] == teacher.encoder.token_ids(TEXTS)


def test_figures_of_parity_and_accuracy() -> None:
    ours = np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], np.float32)
    theirs = np.array([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]], np.float32)
    # Differences .25 .25 | .25 .25 | 0 0; labels 0 0 1 against 0 1 1.
    said = parity(ours, theirs)
    assert (said.texts, said.max_difference) == (3, 0.25)
    assert said.mean_difference == pytest.approx(1 / 6)
    assert said.agreement == pytest.approx(2 / 3)
    assert accuracy(ours, [0, 1, 1]).value == pytest.approx(2 / 3)


# What is refused


def test_an_artifact_that_loses_accuracy_is_refused_and_the_others_written(
    teacher: BertTeacher, tmp_path: Path
) -> None:
    source = subject("nano", teacher)
    # One entry that is never used, but so large that 8 bits leave nothing of the others.
    table = source.model.get_layer("tokens").embeddings
    table.assign(np.concatenate([np.full((1, 128), 1e5), table.numpy()[1:]]))
    with pytest.raises(KdedgeError, match=r"refused: litert-int8 loses [\d.]+ points"):
        export_bundle(
            source,
            settings(artifacts=["litert-float32", "litert-int8"], max_accuracy_drop=0.5),
            tmp_path / "bundle",
        )
    manifest = verify(tmp_path / "bundle")
    assert [a.name for a in manifest.artifacts] == ["litert-float32"]
    assert "litert/model_int8.tflite" not in manifest.files
    assert not (tmp_path / "bundle/litert/model_int8.tflite").exists()

    with pytest.raises(KdedgeError, match="refused: litert-int8.* No artifact is left"):
        export_bundle(
            source, settings(artifacts=["litert-int8"], max_accuracy_drop=0.5), tmp_path / "none"
        )
    assert not (tmp_path / "none").exists()


def test_bad_lengths_places_and_texts(teacher: BertTeacher, tmp_path: Path) -> None:
    source = subject("nano", teacher)
    with pytest.raises(KdedgeError, match="length: 64; this model takes at most 16"):
        export_bundle(source, settings(length=64), tmp_path / "bundle")
    with pytest.raises(KdedgeError, match="texts: none"):
        export_bundle(replace(source, texts=()), settings(), tmp_path / "bundle")
    (tmp_path / "there").mkdir()
    with pytest.raises(KdedgeError, match="there exists already"):
        export_bundle(source, settings(), tmp_path / "there")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


@keras.saving.register_keras_serializable("kdedge-tests")
class Counts(keras.layers.Layer):
    """Neither runtime has this op as TensorFlow has it."""

    def call(self, x):
        return tf.math.bincount(tf.cast(x, tf.int32), minlength=2, maxlength=2, axis=-1)


def test_ops_that_a_runtime_lacks_are_refused(teacher: BertTeacher, tmp_path: Path) -> None:
    inputs = student_inputs()
    logits = keras.ops.cast(Counts()(inputs["ids"]), "float32")
    source = replace(subject("nano", teacher), model=keras.Model(inputs, logits, name="odd"))
    for artifact, message in (
        ("litert-float32", "odd: LiteRT's converter refuses this model"),
        # tf2onnx takes it and gets it wrong.
        ("onnx-float32", "says something else than its source"),
    ):
        with pytest.raises(KdedgeError, match=message):
            export_bundle(source, settings(artifacts=[artifact]), tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()


def test_exact_gelu_converts_right(tmp_path: Path) -> None:
    inputs = student_inputs()
    x = keras.layers.Embedding(9, 4, embeddings_initializer="normal")(inputs["ids"])
    x = keras.layers.GlobalAveragePooling1D()(keras.activations.gelu(x * 30, approximate=False))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    to_onnx(model, tmp_path / "gelu.onnx", "float32")
    ids = np.arange(8)[None]
    session = onnxruntime.InferenceSession(str(tmp_path / "gelu.onnx"))
    feeds = {value.name: ids for value in session.get_inputs()}
    (said,) = session.run(None, feeds)
    same = {name: ids.astype(np.int32) for name in inputs}
    np.testing.assert_allclose(said, model(same), atol=1e-6)

"""Converted models in their own runtimes, against Keras, on text."""

import functools
import gzip
import json
import shutil
import zipfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import few_texts
from tensorflow.lite.python import schema_py_generated as schema
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from transformers import AutoTokenizer

from kdedge import KdedgeError, Subject, build_student, export_bundle, load_bundle, load_teacher
from kdedge.bench.run import sample_texts
from kdedge.bundle.manifest import score_of, verify
from kdedge.export.litert.convert import to_litert
from kdedge.export.litert.flatbuffer import parsed
from kdedge.export.litert.quantize import LiteRTQuantizer
from kdedge.export.onnx.convert import INPUTS, to_onnx
from kdedge.export.onnx.quantize import OnnxQuantizer
from kdedge.export.parity import parity
from kdedge.export.prove import Prover, holds, quantization_of
from kdedge.export.selective import Quantizer, spare_layers
from kdedge.recipe import ARTIFACTS, Decide, Export
from kdedge.students.architecture import Parts, student_inputs
from kdedge.students.presets import PRESETS
from kdedge.students.trained import Evaluation
from kdedge.tasks import Classification
from kdedge.teachers.bert import BertTeacher
from kdedge.text.encoder import Encoded, TextEncoder

TASK = Classification(label_names=("bad", "good"))

NAMES = ("bad", "good")
LENGTH = 16
TEXTS = ("good film", "not very good and not bad", "awful plot", "the actor is great", "bad",
         "a b c d e f g h i l m n o r s t u v w y good bad", "very bad film", "great",
         "the plot is not great", "good actor awful film")  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(tiny_bert, task=Classification(label_names=NAMES), max_length=16)


def subject(name: str, teacher: BertTeacher) -> Subject:
    """A model with large random weights, so that outputs vary; its own answers are the labels."""
    if name == "teacher":
        model = teacher
    else:
        keras.utils.set_random_seed(11)
        model = build_student(
            name, task=TASK, vocabulary=len(teacher.encoder.vocabulary), max_length=16,
            teacher=teacher, corpus=few_texts(*TEXTS),
        )  # fmt: skip
        tokens = Parts(model).token_embedding.embeddings
        tokens.assign(np.random.default_rng(1).normal(size=tokens.shape))
    outputs = model(teacher.encoder.encode(TEXTS).inputs, training=False)
    logits = np.asarray(outputs["logits"] if isinstance(outputs, dict) else outputs)
    split = Evaluation(TEXTS, logits.argmax(1).astype(np.int32), logits)
    return Subject(name, model, model.count_params(), teacher.encoder, TASK, split, split)


def settings(**changes: object) -> Export:
    return Export.model_validate({"lengths": [LENGTH], "max_accuracy_drop": 100, **changes})


@pytest.fixture(scope="module")
def micro(teacher: BertTeacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = tmp_path_factory.mktemp("micro") / "bundle"
    export_bundle(subject("micro", teacher), settings(), bundle)
    return bundle


# The largest difference of a probability; of random models, whose layers are all alike.
WITHIN = {
    "float32": 1e-5, "float16": 0.01, "int8": 0.2, "int8-weights": 0.1, "int8-full": 0.35,
    "int16x8": 0.35, "int4": 0.9, "int8-static": 0.35,
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(
    teacher: BertTeacher, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Subject, Path]]:
    """For a name: the model, and its bundle with all artifacts."""

    @functools.cache
    def export(name: str) -> tuple[Subject, Path]:
        source, bundle = subject(name, teacher), tmp_path_factory.mktemp(name) / "bundle"
        export_bundle(source, settings(artifacts=[*ARTIFACTS]), bundle)
        return source, bundle

    return export


@pytest.mark.parametrize("name", [*PRESETS, "teacher"])
def test_every_artifact_says_what_its_source_says(
    name: str, exported: Callable[[str], tuple[Subject, Path]]
) -> None:
    source, bundle = exported(name)
    manifest = verify(bundle)
    assert [a.name for a in manifest.artifacts] == list(ARTIFACTS)
    for artifact in manifest.artifacts:
        outputs = load_bundle(bundle, artifact.name).outputs(TEXTS)
        difference = np.abs(outputs - TASK.outputs(source.test.logits))
        assert difference.max() < WITHIN[artifact.quantization], artifact.name
        # The manifest's figures are of this very file; of few test texts the valid ones help out.
        assert artifact.parity.max_difference == pytest.approx(difference.max(), abs=1e-6)
        assert artifact.parity.mean_difference == pytest.approx(difference.mean(), abs=1e-6)
        assert (artifact.parity.texts, artifact.score.texts) == (2 * len(TEXTS), len(TEXTS))
        content = (bundle / artifact.file).read_bytes()
        assert artifact.bytes == len(content)
        assert artifact.gzip_bytes == len(gzip.compress(content, 9))


@pytest.mark.parametrize("name", [*PRESETS, "teacher"])
def test_a_litert_model_is_as_clients_want_it(
    name: str, exported: Callable[[str], tuple[Subject, Path]]
) -> None:
    _, bundle = exported(name)
    files = [artifact.file for artifact in verify(bundle).artifacts if artifact.format == "litert"]
    assert len(files) == sum(name.startswith("litert") for name in ARTIFACTS)
    for file in files:
        content = (bundle / file).read_bytes()
        interpreter = Interpreter(model_content=content)
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
        # The schema wants each buffer's data at a multiple of 16 bytes.
        model = schema.Model.GetRootAs(content)
        buffers = [model.Buffers(i)._tab for i in range(model.BuffersLength())]
        starts = [table.Vector(o) for table in buffers if (o := table.Offset(4))]
        assert len(starts) > 5 and not any(start % 16 for start in starts)


def test_the_embedding_shrinks_too() -> None:
    model = build_student("nano", vocabulary=5000, task=TASK, max_length=16)
    ids = np.arange(8 * 10, dtype=np.int32).reshape(10, 8)
    calibration = Encoded(ids, np.ones_like(ids), np.zeros_like(ids))
    float32 = {"litert": to_litert(model, TASK, 8), "onnx": to_onnx(model)}
    # 5000 * 32 embeddings and 20,258 other weights of so many bytes, and at most 75 kB of the rest.
    for name, size in {
        "litert-float32": 4, "litert-float16": 2, "litert-int8": 1, "litert-int8-weights": 1,
        "litert-int8-full": 1, "litert-int16x8": 1, "litert-int4": 0.5,
        "onnx-float32": 4, "onnx-float16": 2, "onnx-int8": 1, "onnx-int8-static": 1,
    }.items():  # fmt: skip
        runtime = name.partition("-")[0]
        content = float32[runtime]
        if way := quantization_of(name):
            kind = LiteRTQuantizer if runtime == "litert" else OnnxQuantizer
            content = kind(content, way, calibration)()
        extra = len(content) - 180_258 * size
        # Each row has a scale, of 12 bytes for LiteRT's int4.
        rows = {"litert-int4": 60_000, "onnx-int8": 20_000, "onnx-int8-static": 20_000}
        assert 0 < extra < 75_000 + rows.get(name, 0), name


@pytest.mark.parametrize("quantization", ["int8", "int8-static"])
def test_a_long_vector_does_not_ruin_the_others(quantization: str) -> None:
    model = build_student("nano", vocabulary=100, task=TASK, max_length=16)
    table = Parts(model).token_embedding.embeddings
    table.assign(tf.tensor_scatter_nd_update(table, [[99]], 1000 * table[99:]))
    ids = np.arange(8 * 10, dtype=np.int32).reshape(10, 8)
    calibration = Encoded(ids, np.ones_like(ids), np.zeros_like(ids))
    inputs = [x.astype(np.int64) for x in (ids, np.ones_like(ids), np.zeros_like(ids))]

    def logits(content: bytes) -> npt.NDArray[np.float32]:
        session = onnxruntime.InferenceSession(content)
        return session.run(None, dict(zip(INPUTS, inputs, strict=True)))[0]

    float32 = to_onnx(model)
    expected = logits(float32)
    outputs = logits(OnnxQuantizer(float32, quantization_of(f"onnx-{quantization}"), calibration)())
    # With one scale for the whole table all other vectors would be zeros, and the texts alike.
    assert np.abs(outputs - expected).max() < 0.2 * expected.std(0).max()


def test_clustered_weights_keep_their_few_values() -> None:
    model = build_student("micro", vocabulary=500, task=TASK, max_length=16)
    ids = np.zeros((8, 8), np.int32)
    calibration = Encoded(ids, ids, ids)
    grams = model.get_layer("grams_3")

    def values() -> int:
        content = LiteRTQuantizer(
            to_litert(model, TASK, 8), quantization_of("litert-int8"), calibration
        )()
        graph = parsed(content)
        (weights,) = (
            graph.buffers[t.buffer].data
            for t in graph.subgraphs[0].tensors
            if t.shape is not None and list(t.shape) == [128, 1, 3, 56]
        )
        return len(np.unique(np.asarray(weights).view(np.int8)))

    # A scale a channel spreads the values, one scale for all does not.
    assert values() > 200
    kernel = grams.kernel.numpy()
    grams.kernel.assign(np.round(kernel / kernel.std()).clip(-2, 2) * kernel.std())
    assert values() == 5


def test_old_runtimes_are_told_what_they_cannot_run() -> None:
    model = build_student("micro", vocabulary=500, task=TASK, max_length=16)
    ids = np.arange(8 * 10, dtype=np.int32).reshape(10, 8)
    float32, calibration = (
        to_litert(model, TASK, 8),
        Encoded(ids, np.ones_like(ids), np.zeros_like(ids)),
    )
    ops = schema.BuiltinOperator
    # By TensorFlow's op_version.cc: several scales for one table of weights are 12, 5 and 4.
    for quantization, expected in {
        "int8": {ops.FULLY_CONNECTED: 3, ops.CONV_2D: 5, ops.EMBEDDING_LOOKUP: 1},
        "int8-weights": {ops.FULLY_CONNECTED: 1, ops.DEQUANTIZE: 5},
        "int8-full": {ops.FULLY_CONNECTED: 12, ops.CONV_2D: 5},
        "int4": {ops.FULLY_CONNECTED: 12, ops.CONV_2D: 5, ops.EMBEDDING_LOOKUP: 4},
    }.items():
        written = parsed(
            LiteRTQuantizer(float32, quantization_of(f"litert-{quantization}"), calibration)()
        )
        versions = {code.builtinCode: code.version for code in written.operatorCodes}
        assert {op: versions[op] for op in expected} == expected, quantization


@pytest.mark.parametrize("preset", ["nano", "micro", "mini"])
def test_nothing_wide_is_left_to_slow_kernels(preset: str) -> None:
    model = build_student(preset, vocabulary=500, task=TASK, max_length=16)
    codes = {code.builtinCode for code in parsed(to_litert(model, TASK, 16)).operatorCodes}
    # XNNPACK has no SELECT_V2, which Keras makes of masks.
    assert schema.BuiltinOperator.FULLY_CONNECTED in codes
    assert schema.BuiltinOperator.SELECT_V2 not in codes


def test_ranges_are_those_of_all_calibration_texts(teacher: BertTeacher) -> None:
    source = subject("nano", teacher)
    encoded = teacher.encoder.encode(TEXTS, LENGTH)
    quantization = LiteRTQuantizer(
        to_litert(source.model, TASK, LENGTH), quantization_of("litert-int8-full"), encoded
    )
    lengths = encoded.mask.sum(1)
    (counted,) = (v for k, v in quantization.ranges.items() if k.endswith("mean_2_1/Sum"))
    assert (counted["min"].item(), counted["max"].item()) == (lengths.min(), lengths.max())


def test_the_same_model_gives_the_same_bytes(teacher: BertTeacher) -> None:
    source = subject("mini", teacher)
    encoded = teacher.encoder.encode(TEXTS, LENGTH)

    def contents() -> list[bytes]:
        tflite, onnx_ = to_litert(source.model, TASK, LENGTH), to_onnx(source.model)
        return [
            tflite,
            onnx_,
            LiteRTQuantizer(tflite, quantization_of("litert-int8-full"), encoded)(),
            OnnxQuantizer(onnx_, quantization_of("onnx-int8"), encoded)(),
            OnnxQuantizer(onnx_, quantization_of("onnx-int8-static"), encoded)(),
        ]

    assert contents() == contents()


def test_several_lengths(teacher: BertTeacher, tmp_path: Path) -> None:
    chosen = settings(artifacts=["litert-int8-lengths", "litert-int8"], lengths=[4, 16, 8])
    manifest = export_bundle(subject("nano", teacher), chosen, tmp_path / "bundle")
    assert [(a.name, a.file, a.length, a.lengths) for a in manifest.artifacts] == [
        ("litert-int8-lengths", "litert/model_int8_lengths.tflite", 16, (4, 8, 16)),
        ("litert-int8", "litert/model_int8.tflite", 16, ()),
    ]
    assert manifest.defaults == {"litert": "litert-int8-lengths"}
    several, one = (load_bundle(tmp_path / "bundle", a.name) for a in manifest.artifacts)
    assert (several.engine.lengths, one.engine.lengths) == ((4, 8, 16), (16,))
    # [CLS] good film [SEP] fits into 4; the longest text is cut to 16.
    assert [several.engine.length_for(tokens) for tokens in (4, 5, 8, 9, 99)] == [4, 8, 8, 16, 16]
    np.testing.assert_allclose(several.outputs(TEXTS), one.outputs(TEXTS), atol=1e-6)

    whole, part = (
        parsed((tmp_path / "bundle" / artifact.file).read_bytes())
        for artifact in manifest.artifacts
    )
    names = [signature.signatureKey for signature in whole.signatureDefs]
    assert names == [b"serving_default", b"length_8", b"length_4"]
    # Every weight is stored once, and none of them is new.
    weights, expected = (
        sorted(b.data.tobytes() for b in model.buffers if b.data is not None and len(b.data) > 200)
        for model in (whole, part)
    )
    assert [w for w in weights if w not in expected] == []
    assert len(weights) == len(set(weights)) > 2


def test_lengths_that_suit_the_texts(teacher: BertTeacher, tmp_path: Path) -> None:
    chosen = settings(artifacts=["litert-int8-lengths"], lengths=None)
    manifest = export_bundle(subject("nano", teacher), chosen, tmp_path / "bundle")
    # Most texts have 3 to 6 words and two special tokens, one has more than 16.
    assert manifest.artifacts[0].lengths == (8, 16)


def test_integer_output(teacher: BertTeacher, tmp_path: Path) -> None:
    chosen = settings(artifacts=["litert-int8-full", "litert-int16x8"], integer_output=True)
    source = subject("micro", teacher)
    manifest = export_bundle(source, chosen, tmp_path / "bundle")
    for artifact, dtype in zip(manifest.artifacts, (np.int8, np.int16), strict=True):
        interpreter = Interpreter(str(tmp_path / "bundle" / artifact.file))
        assert interpreter.get_output_details()[0]["dtype"] == dtype
        outputs = load_bundle(tmp_path / "bundle", artifact.name).outputs(TEXTS)
        assert (
            np.abs(outputs - TASK.outputs(source.test.logits)).max() < WITHIN[artifact.quantization]
        )


# Layers that are spared


class Harmful:
    """Its error is 1, less .5 for want of `b`, less .2 of `c`; `a` and `d` together do .25."""

    layers, spared_as = ("a", "b", "c", "d"), "float32"

    def __call__(self, spared: Collection[str] = ()) -> bytes:
        left = {*self.layers} - {*spared}
        error = 0.05 + 0.5 * ("b" in left) + 0.2 * ("c" in left) + 0.25 * ({"a", "d"} <= left)
        return f"{error:.2f}".encode()


def test_the_layers_that_do_most_harm_are_spared_first() -> None:
    for limit, expected in (
        (1.00, []),
        (0.50, [("b", 1.0, 0.5)]),
        (0.30, [("b", 1.0, 0.5), ("a", 0.5, 0.25)]),
        (0.10, [("b", 1.0, 0.5), ("a", 0.5, 0.25), ("c", 0.25, 0.05)]),
        # Sparing d too does not help, so the search ends.
        (0.01, [("b", 1.0, 0.5), ("a", 0.5, 0.25), ("c", 0.25, 0.05)]),
    ):
        content, spared = spare_layers(
            Harmful(), float, lambda content, top=limit: float(content) <= top
        )
        assert [(s.name, s.error_before, s.error_after) for s in spared] == expected
        assert float(content) == (expected[-1][2] if expected else 1.0)


def test_a_layer_that_int8_ruins_stays_in_float(
    teacher: BertTeacher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ruined_by_int8(teacher)
    manifest = export_bundle(
        source,
        settings(artifacts=["litert-int8", "onnx-int8"], max_accuracy_drop=0.5),
        tmp_path / "bundle",
    )
    told = " ".join(capsys.readouterr().err.split())
    for artifact in manifest.artifacts:
        (layer,) = artifact.spared
        assert ("sentence" if artifact.format == "litert" else "MatMul") in layer.name
        assert layer.kept_as == "float32"
        assert layer.error_before > 0.05 > 0.01 > layer.error_after
        assert artifact.score.value == 1
        assert f"{artifact.name}: {layer.name} stays float32; quantized, it" in told


def test_one_valid_text_is_too_few_to_spare_a_layer(teacher: BertTeacher, tmp_path: Path) -> None:
    source = ruined_by_int8(teacher)
    one, two = (
        Evaluation(TEXTS[:n], source.test.labels[:n], source.test.logits[:n]) for n in (1, 2)
    )
    chosen = settings(artifacts=["litert-int8"], max_accuracy_drop=0.5)
    manifest = export_bundle(replace(source, valid=one, test=two), chosen, tmp_path / "bundle")
    assert manifest.artifact("litert-int8").spared == ()


@pytest.mark.parametrize(
    ("changed", "lost", "texts", "expected"),
    [
        # Half of the allowed 0.5 points: 0.25% of the texts, or one text if they are few.
        (2, 1, 100, True),
        (4, 2, 100, False),
        (20, 5, 2000, True),
        (20, 6, 2000, False),
        # As many changed answers as may be lost are allowed, whatever they were.
        (10, 10, 2000, True),
        (11, 10, 2000, False),
        (11, -3, 2000, True),
    ],
)
def test_one_of_few_valid_texts_may_be_lost(
    changed: int, lost: int, texts: int, expected: bool
) -> None:
    right = 0.9
    assert holds(1 - (1 - changed / texts), right - (right - lost / texts), texts, 0.5) == expected


def ruined_by_int8(teacher: BertTeacher) -> Subject:
    """A feature is always 0, but its weights are so large that 8 bits make all others 0."""
    source = subject("nano", teacher)
    grams, sentence = (source.model.get_layer(name) for name in ("grams_2", "sentence"))
    grams.set_weights([grams.kernel.numpy() * (np.arange(48) > 0), grams.bias.numpy()])
    kernel = sentence.kernel.numpy()
    kernel[0] = 1e5
    sentence.set_weights([kernel, sentence.bias.numpy()])
    logits = np.asarray(source.model(teacher.encoder.encode(TEXTS).inputs, training=False))
    split = Evaluation(TEXTS, logits.argmax(1).astype(np.int32), logits)
    return replace(source, valid=split, test=split)


@pytest.mark.parametrize(
    ("quantizations", "default"),
    [
        (("float32", "int4", "int8"), "litert-int8"),
        (("int4", "float32", "int8-weights"), "litert-int8-weights"),
        (("float32", "float16", "int4"), "litert-int4"),
        (("float32",), "litert-float32"),
    ],
)
def test_the_default_follows_a_fixed_rule(
    quantizations: tuple[str, ...], default: str, teacher: BertTeacher, tmp_path: Path
) -> None:
    chosen = settings(artifacts=[f"litert-{q}" for q in quantizations])
    manifest = export_bundle(subject("nano", teacher), chosen, tmp_path / "bundle")
    assert manifest.defaults == {"litert": default}


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
    assert manifest.task.output_names == NAMES
    assert manifest.max_length == 16
    assert set(manifest.files) == {
        "config.json", "encoder.json", "labels.txt", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt", "litert/model_float32.tflite",
        "litert/model_int8.tflite", "litert/model_int8_lengths.tflite", "onnx/model.onnx",
        "onnx/model_quantized.onnx",
    }  # fmt: skip
    assert (micro / "labels.txt").read_text() == "bad\ngood\n"
    assert json.loads((micro / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}
    tokenizer = AutoTokenizer.from_pretrained(micro)
    assert tokenizer(list(TEXTS), truncation=True)["input_ids"] == teacher.encoder.token_ids(TEXTS)


def test_a_bundle_holds_no_texts_unless_asked_to(
    micro: Path, teacher: BertTeacher, tmp_path: Path
) -> None:
    assert sample_texts(micro) == list(TEXTS)
    assert micro.with_name(f"{micro.name}_sample_texts.txt").is_file()
    files = [path for path in micro.rglob("*") if path.is_file()]
    assert not any(TEXTS[0].encode() in path.read_bytes() for path in files)

    source, only = subject("nano", teacher), ["litert-float32"]
    for name, asked, chosen, expected in (
        ("theirs", source, settings(artifacts=only, sample_texts=True), list(TEXTS)),
        (
            "mine",
            replace(source, samples=("mine", "two\nlines")),
            settings(artifacts=only),
            ["mine"],
        ),
    ):
        manifest = export_bundle(asked, chosen, tmp_path / name)
        assert "sample_texts.txt" in manifest.files
        assert sample_texts(tmp_path / name) == expected
        assert not (tmp_path / f"{name}_sample_texts.txt").exists()
    shutil.move(micro, tmp_path / "moved")
    with pytest.raises(KdedgeError, match="neither sample_texts.txt in it nor moved_sample_texts"):
        sample_texts(tmp_path / "moved")
    shutil.move(tmp_path / "moved", micro)


def test_answers_are_calibrated_and_may_be_unsure(teacher: BertTeacher, tmp_path: Path) -> None:
    source = subject("micro", teacher)
    # Half of its answers are wrong, so it is much too sure.
    half = np.where(np.arange(len(TEXTS)) % 2, source.test.labels, 1 - source.test.labels)
    wrong = replace(source.test, labels=half)
    source = replace(source, valid=wrong, test=wrong, out_of_scope=("😀 😀", "e e e", "o o"))
    chosen = settings(artifacts=["litert-float32", "onnx-float32"])
    manifest = export_bundle(source, chosen, tmp_path / "bundle", Decide(coverage=0.5))
    for artifact in manifest.artifacts:
        trust = artifact.trust
        assert trust is not None
        temperature = trust.decision.temperature
        assert temperature > 2
        assert trust.answered.coverage == 0.5
        assert trust.out_of_scope is not None and trust.out_of_scope.texts == 1
        assert trust.typical.unknown == 0
        model = load_bundle(tmp_path / "bundle", artifact.name)
        np.testing.assert_allclose(model.outputs(TEXTS), TASK.outputs(wrong.logits), atol=1e-5)
        answers = model.predict(TEXTS)
        probabilities = [[*answer.probabilities.values()] for answer in answers]
        np.testing.assert_allclose(
            probabilities, TASK.outputs(wrong.logits / temperature), atol=1e-4
        )
        order = np.argsort([answer.probability for answer in answers])
        assert [answers[i].unsure for i in order] == [True] * 5 + [False] * 5
        assert [answers[i].text() for i in order][0] == "unsure"
        (unknown,) = model.predict(["😀 good 😀"])
        assert unknown.unsure and unknown.fields()["unsure"]
    with pytest.raises(
        KdedgeError, match="litert-float32: precision = 0.9 in .* can't be promised"
    ):
        export_bundle(source, chosen, tmp_path / "none", Decide(precision=0.9))


def test_figures_of_parity_and_accuracy() -> None:
    ours = np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], np.float32)
    theirs = np.array([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]], np.float32)
    # Differences .25 .25 | .25 .25 | 0 0; labels 0 0 1 against 0 1 1.
    found = parity(TASK, ours, theirs)
    assert (found.texts, found.max_difference) == (3, 0.25)
    assert found.mean_difference == pytest.approx(1 / 6)
    assert found.agreement == pytest.approx(2 / 3)
    assert score_of(TASK, ours, np.array([0, 1, 1])).value == pytest.approx(2 / 3)


# What is refused


def test_an_artifact_that_loses_accuracy_is_refused_and_the_others_written(
    teacher: BertTeacher, tmp_path: Path
) -> None:
    # Without texts to choose on, no layer is spared.
    none = Evaluation((), np.zeros(0, np.int32), np.zeros((0, 2), np.float32))
    source = replace(ruined_by_int8(teacher), valid=none)
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
    assert not [*tmp_path.glob("none*")]


def test_bad_lengths_places_and_texts(teacher: BertTeacher, tmp_path: Path) -> None:
    source = subject("nano", teacher)
    with pytest.raises(KdedgeError, match="lengths: 64; this model takes at most 16"):
        export_bundle(source, settings(lengths=[16, 64]), tmp_path / "bundle")
    with pytest.raises(KdedgeError, match=r"lengths: \[15\]; no text of the test split needs them"):
        export_bundle(source, settings(lengths=[16, 15, 8]), tmp_path / "bundle")
    none = Evaluation((), np.zeros(0, np.int32), np.zeros((0, 2), np.float32))
    with pytest.raises(KdedgeError, match="test: no texts"):
        export_bundle(replace(source, test=none), settings(), tmp_path / "bundle")
    for few in ((), ("good film",)):
        for name in ("litert-int8-full", "litert-int16x8", "onnx-int8-static"):
            with pytest.raises(KdedgeError, match=f"calibration: {len(few)} texts; at least 8"):
                export_bundle(
                    replace(source, calibration=few), settings(artifacts=[name]), tmp_path / "b"
                )
    (tmp_path / "there").mkdir()
    with pytest.raises(KdedgeError, match="there exists already"):
        export_bundle(source, settings(), tmp_path / "there")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


@pytest.mark.parametrize("lower", [True, False])
def test_metadata_for_mediapipe_are_of_lower_case(
    lower: bool, teacher: BertTeacher, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_str(teacher.encoder.tokenizer.to_str())
    tokenizer.normalizer = BertNormalizer(lowercase=lower)
    source = replace(subject("nano", teacher), encoder=TextEncoder(tokenizer, 16))
    export_bundle(source, settings(artifacts=["litert-int8"]), tmp_path / "bundle")
    assert zipfile.is_zipfile(tmp_path / "bundle/litert/model_int8.tflite") is lower


def test_a_length_that_truncates_texts(teacher: BertTeacher, tmp_path: Path) -> None:
    chosen = settings(artifacts=["litert-float32"], lengths=[4])
    with pytest.raises(KdedgeError, match=r"truncates texts of up to \d+ tokens to 4: give a larg"):
        export_bundle(subject("nano", teacher), chosen, tmp_path / "bundle")


def test_padding_that_changes_answers_is_refused(teacher: BertTeacher, tmp_path: Path) -> None:
    inputs = student_inputs()
    tokens = keras.layers.Embedding(len(teacher.encoder.vocabulary), 4)(inputs["ids"])
    logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(tokens))
    source = replace(subject("nano", teacher), model=keras.Model(inputs, 9 * logits, name="odd"))
    chosen = settings(artifacts=["litert-int8-lengths"], lengths=[16, 8])
    with pytest.raises(KdedgeError, match="litert-int8-lengths: padding changes answers"):
        export_bundle(source, chosen, tmp_path / "bundle")


def test_lengths_may_differ_by_rounding(
    teacher: BertTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, of_length = subject("nano", teacher), Prover._quantizer
    bias = source.model.layers[-1].bias
    start = np.array(bias)

    def differently_rounded(self: Prover, quantization: Any, length: int) -> Quantizer:
        bias.assign(start + [0.0, 0.2 if length == 8 else 0.0])
        self.float32[length] = to_litert(source.model, TASK, length)
        return of_length(self, quantization, length)

    monkeypatch.setattr(Prover, "_quantizer", differently_rounded)
    chosen = settings(artifacts=["litert-int8-lengths"], lengths=[16, 8])
    manifest = export_bundle(source, chosen, tmp_path / "bundle")
    assert 0.01 < manifest.artifacts[0].parity.max_difference < 0.1


@keras.saving.register_keras_serializable("kdedge-tests")
class Counts(keras.layers.Layer):
    """A layer with an op that neither runtime supports as TensorFlow does."""

    def call(self, x):
        return tf.math.bincount(tf.cast(x, tf.int32), minlength=2, maxlength=2, axis=-1)


def test_ops_that_a_runtime_lacks_are_refused(teacher: BertTeacher, tmp_path: Path) -> None:
    inputs = student_inputs()
    logits = keras.ops.cast(Counts()(inputs["ids"]), "float32")
    source = replace(subject("nano", teacher), model=keras.Model(inputs, logits, name="odd"))
    for artifact, message in (
        ("litert-float32", "odd: LiteRT's converter refuses this model"),
        # tf2onnx converts it, but wrongly.
        ("onnx-float32", "the outputs of the converted model differ from its source"),
    ):
        with pytest.raises(KdedgeError, match=message):
            export_bundle(source, settings(artifacts=[artifact]), tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()


def test_exact_gelu_converts_right(tmp_path: Path) -> None:
    inputs = student_inputs()
    x = keras.layers.Embedding(9, 4, embeddings_initializer="normal")(inputs["ids"])
    x = keras.layers.GlobalAveragePooling1D()(keras.activations.gelu(x * 30, approximate=False))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    (tmp_path / "gelu.onnx").write_bytes(to_onnx(model))
    ids = np.arange(8)[None]
    session = onnxruntime.InferenceSession(str(tmp_path / "gelu.onnx"))
    feeds = {value.name: ids for value in session.get_inputs()}
    (outputs,) = session.run(None, feeds)
    same = {name: ids.astype(np.int32) for name in inputs}
    np.testing.assert_allclose(outputs, model(same), atol=1e-6)

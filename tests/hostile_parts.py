"""Readers of every kind of file that others may have written, for tests with damaged files.

Each of `READERS` takes the bytes of a file and an empty folder, and reads them as a command would.
`SEEDS` has valid files of each kind.
"""

import gzip
import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conftest import ROOT
from onnx import TensorProto, helper
from tensorflow.lite.python import schema_py_generated as schema
from tokenizers.implementations import BertWordPieceTokenizer

from kdedge.bench.devices.device import Completed, answer_of
from kdedge.bench.measure import checked
from kdedge.bench.report.compare import compare
from kdedge.bench.report.model import BenchReport, Measurement
from kdedge.bench.scenario import TIERS
from kdedge.bundle.manifest import MANIFEST, opened, verify
from kdedge.bundle.page_size import page_sizes
from kdedge.export.litert.flatbuffer import serialized
from kdedge.export.litert.metadata import with_metadata
from kdedge.files import CHECKSUMS, sha256, write_checksums
from kdedge.labels.store import DIGITS, STORE, TOKEN_VECTORS, SoftLabels
from kdedge.recipe import load_recipe
from kdedge.students.trained import EVALUATION, MODEL, NOTES, Student
from kdedge.tasks import Classification
from kdedge.text.corpus import load_corpus
from kdedge.text.encoder import ENCODER, TextEncoder
from kdedge.text.pretrained import TOKENIZER
from kdedge.text.readers import read_texts

BUNDLE = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"
Reader = Callable[[bytes, Path], object]
TEXTS = [(f"good film {i}", "a") for i in range(5)] + [
    (f"bad plot, very {i}", "b") for i in range(5)
]


def corpus(suffix: str) -> Reader:
    """A labelled file, and the same as texts alone."""

    def read(content: bytes, folder: Path) -> None:
        path = folder / f"texts{suffix}"
        path.write_bytes(content)
        if not suffix.startswith(".txt"):
            load_corpus(path)
        read_texts(path)

    return read


def recipe(content: bytes, folder: Path) -> None:
    """A recipe."""
    (folder / "r.toml").write_bytes(content)
    load_recipe(folder / "r.toml")


def store(content: bytes, folder: Path) -> None:
    """The store.json of a store of soft labels whose checksums hold."""
    _store(folder)
    (folder / STORE).write_bytes(content)
    write_checksums(folder, [STORE])
    SoftLabels(folder)


def shard(content: bytes, folder: Path) -> None:
    """A shard whose checksum holds."""
    _store(folder)
    (folder / "shard").write_bytes(content)
    name = f"part-00000-{sha256(folder / 'shard')[:DIGITS]}.parquet"
    (folder / "shard").rename(folder / name)
    opened_store = SoftLabels(folder)
    opened_store.lookup(opened_store.texts)


def token_vectors(content: bytes, folder: Path) -> None:
    """A store's vectors, whose checksum holds."""
    opened_store = _store(folder)
    (folder / TOKEN_VECTORS).write_bytes(content)
    write_checksums(folder, [STORE, TOKEN_VECTORS])
    opened_store.token_vectors()


def checksums(content: bytes, folder: Path) -> None:
    """The list of checksums itself."""
    _store(folder)
    (folder / CHECKSUMS).write_bytes(content)
    SoftLabels(folder)


def manifest(content: bytes, folder: Path) -> None:
    """A bundle's manifest, whose checksum holds."""
    (folder / MANIFEST).write_bytes(content)
    write_checksums(folder, [MANIFEST])
    verify(folder)


def archive(content: bytes, folder: Path) -> None:
    """A bundle as a zip archive."""
    (folder / "bundle.zip").write_bytes(content)
    with opened(folder / "bundle.zip") as inside:
        verify(inside)


def native_library(content: bytes, folder: Path) -> None:
    """A library whose page size is read, by itself and in an APK."""
    (folder / "a.so").write_bytes(content)
    page_sizes(folder)
    with zipfile.ZipFile(folder / "a.apk", "w") as file:
        file.writestr("lib/arm64-v8a/a.so", content)
    page_sizes(folder / "a.apk")


def apk(content: bytes, folder: Path) -> None:
    """An APK."""
    (folder / "a.apk").write_bytes(content)
    page_sizes(folder / "a.apk")


def tokenizer(content: bytes, folder: Path) -> None:
    """A tokenizer.json."""
    (folder / TOKENIZER).write_bytes(content)
    (folder / ENCODER).write_text('{"max_length": 8}')
    TextEncoder.load(folder).encode(["good film", "\u00e9\u0e01"])


def tokenizer_config(content: bytes, folder: Path) -> None:
    """The settings beside a vocab.txt."""
    (folder / "tokenizer_config.json").write_bytes(content)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\n")
    TextEncoder.from_pretrained(folder, 8)


def encoder(content: bytes, folder: Path) -> None:
    """An encoder.json."""
    (folder / TOKENIZER).write_bytes(SEEDS["tokenizer"][0])
    (folder / ENCODER).write_bytes(content)
    TextEncoder.load(folder)


def tflite(content: bytes, folder: Path) -> None:
    """A model that gets metadata."""
    with_metadata(content, ["[PAD]", "good"], ["a", "b"])


def agent(content: bytes, folder: Path) -> None:
    """What a device's agent prints."""

    checked(answer_of(Completed(0, content.decode("utf-8", "replace"), "")), "time")


def report(content: bytes, folder: Path) -> None:
    """A benchmark's report, compared with itself."""
    (folder / "report.json").write_bytes(content)
    loaded = BenchReport.load(folder / "report.json")
    compare(loaded, loaded)


def student_notes(content: bytes, folder: Path) -> None:
    """A student's student.json, whose checksum holds."""
    _student(folder, NOTES, content)


def evaluation(content: bytes, folder: Path) -> None:
    """A student's evaluation.parquet, whose checksum holds."""
    _student(folder, EVALUATION, content)


READERS: dict[str, Reader] = {
    **{
        f"corpus{suffix}": corpus(suffix)
        for suffix in (".csv", ".tsv", ".jsonl", ".txt", ".parquet", ".csv.gz")
    },
    "recipe": recipe,
    "store": store,
    "shard": shard,
    "token vectors": token_vectors,
    "checksums": checksums,
    "manifest": manifest,
    "zip": archive,
    "native library": native_library,
    "apk": apk,
    "tokenizer": tokenizer,
    "tokenizer config": tokenizer_config,
    "encoder": encoder,
    "tflite": tflite,
    "agent": agent,
    "report": report,
    "student": student_notes,
    "evaluation": evaluation,
}


# Other people's parsers in C++: a damaged model may crash the process.


def _store(folder: Path) -> SoftLabels:
    shutil.rmtree(folder)
    return SoftLabels.create(
        folder, "t", Classification(label_names=["a", "b"]), has_features=False
    )


def _student(folder: Path, name: str, content: bytes) -> None:
    parts = {
        NOTES: SEEDS["student"][0],
        EVALUATION: SEEDS["evaluation"][0],
        MODEL: b"no model",
        TOKENIZER: SEEDS["tokenizer"][0],
        ENCODER: SEEDS["encoder"][0],
    }
    for file, whole in (parts | {name: content}).items():
        (folder / file).write_bytes(whole)
    write_checksums(folder, parts)
    Student.load(folder)


def _parquet(columns: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _tflite() -> bytes:
    """No operators, but inputs and outputs as metadata need them."""
    kinds = [schema.TensorType.INT32] * 3 + [schema.TensorType.FLOAT32]
    model, graph = schema.ModelT(), schema.SubGraphT()
    for kind in kinds:
        tensor = schema.TensorT()
        tensor.type, tensor.shape, tensor.buffer = kind, [1, 2], 0
        graph.tensors = [*(graph.tensors or []), tensor]
    graph.inputs, graph.outputs, graph.operators = [0, 1, 2], [3], []
    model.operatorCodes = []
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    return serialized(model)


def _onnx() -> bytes:
    values = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "logits")
    ]
    node = helper.make_node("Mul", ["input_ids", "attention_mask"], ["logits"])
    graph = helper.make_graph([node], "tiny", values[:2], values[2:])
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def _report(repeat: dict[str, object]) -> bytes:
    measurement = {
        "name": "m", "device": "local", "bundle": "b", "artifact": "litert-int8", "source": "micro",
        "format": "litert", "quantization": "int8", "bytes": 9, "length": 8, "metric": "accuracy",
        "score": 0.5, "score_texts": 4, "score_interval": [0.1, 0.9], "agreement": 1,
        "sha256": "0" * 64, "repeats": [repeat, repeat],
    }  # fmt: skip
    whole = BenchReport(
        kdedge="0.1.0",
        scenario=TIERS["quick"],
        environments={"local": {"cores": 2}},
        valid=True,
        reasons=(),
        failures={},
        measurements=(Measurement.model_validate(measurement),),
    )
    return whole.model_dump_json().encode()


def _seeds() -> dict[str, list[bytes]]:
    lines = {
        ",": "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in TEXTS),
        "\t": "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in TEXTS),
    }
    objects = "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in TEXTS)
    texts, labels = zip(*TEXTS, strict=True)
    logits = pa.FixedSizeListArray.from_arrays(pa.array([0.5, -0.5, 1, 2], pa.float32()), 2)
    lists = pa.array([[0.5, -0.5], [1, 2]], pa.list_(pa.float32()))
    vectors, zipped = io.BytesIO(), io.BytesIO()
    np.save(vectors, np.ones((3, 2), np.float16))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(BUNDLE / MANIFEST, MANIFEST)
        file.write(BUNDLE / CHECKSUMS, CHECKSUMS)
    # An ELF header with one program header, which is a LOAD segment.
    library = b"\x7fELF\2\1\1".ljust(16, b"\0")
    library += struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    library += struct.pack("<2I6Q", 1, 5, 0, 0, 0, 120, 120, 0x4000)
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as file:
        file.writestr("lib/arm64-v8a/a.so", library)
    wordpiece = BertWordPieceTokenizer(
        {p: i for i, p in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"))}
    )
    summary = {"load_ns": 5, "first_inference_ns": 4, "samples_ns": [3, 3], "peak_rss_bytes": 9}
    spoken = json.dumps(summary | {"runtime": {"name": "LiteRT", "version": "2.1"}})
    table = {"text": texts, "label": labels}
    return {
        "corpus.csv": [lines[","].encode()],
        "corpus.tsv": [lines["\t"].encode()],
        "corpus.jsonl": [objects.encode()],
        "corpus.txt": [b"good film\nbad plot\n"],
        "corpus.parquet": [_parquet(table)],
        "corpus.csv.gz": [gzip.compress(lines[","].encode())],
        "recipe": [path.read_bytes() for path in sorted((ROOT / "recipes").glob("*.toml"))],
        "store": [
            json.dumps(
                {
                    "format_version": 2,
                    "teacher": "t",
                    "label_names": ["a", "b"],
                    "has_features": False,
                }
            ).encode()
        ],
        "shard": [_parquet({"text": ["x", "y"], "logits": logits})],
        "token vectors": [vectors.getvalue()],
        "checksums": [b"0" * 64 + b"  store.json\n"],
        "manifest": [(BUNDLE / MANIFEST).read_bytes()],
        "zip": [zipped.getvalue()],
        "native library": [library],
        "apk": [package.getvalue()],
        "tokenizer": [wordpiece.to_str().encode()],
        "tokenizer config": [b'{"do_lower_case": true}'],
        "encoder": [b'{"max_length": 8}'],
        "tflite": [_tflite()],
        "LiteRT": [_tflite()],
        "ONNX Runtime": [_onnx()],
        "agent": [spoken.encode()],
        "report": [_report(summary)],
        "student": [b'{"format_version": 2, "label_names": ["a", "b"], "history": []}'],
        "evaluation": [
            _parquet(
                {
                    "split": ["valid", "test"],
                    "text": ["x", "y"],
                    "label": pa.array([0, 1], pa.int32()),
                    "logits": lists,
                    "teacher_logits": lists,
                }
            )
        ],
    }


SEEDS = _seeds()

"""Fixtures that tests share: the example data, a tiny real BERT, and a quick run of a recipe."""

import csv
import fcntl
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from kdedge.tasks import Classification
from kdedge.text.corpus import Corpus
from kdedge.text.encoder import Encoded
from kdedge.text.splits import Split

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data" / "movie_reviews.tsv.gz"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest -m clients --bundle DIR` tries other people's clients on any bundle."""
    parser.addoption("--bundle", type=Path, help="default: the one of recipes/quick.toml")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that are marked as taking minutes a limit of half an hour."""
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("clients"):
            item.add_marker(pytest.mark.timeout(1800))


WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d e f g h i l m n o r s t u v w y "
    "##a ##b ##c ##d ##e ##f ##g ##i ##l ##m ##n ##o ##r ##s ##t ##u ##v ##w ##y "
    "good bad film great awful plot actor the is and not very"
).split()


def classes(count: int) -> Classification:
    """A classification with this many classes."""
    return Classification(label_names=[f"class {i}" for i in range(count)])


def few_texts(*texts: str) -> Corpus:
    """A corpus with these texts in every split; their labels alternate between two classes."""
    split = Split(texts, np.arange(len(texts), dtype=np.int32) % 2)
    return Corpus(classes(2), split, split, split)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "bert"
    make_tiny_bert(folder)
    return folder


TINY = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "hidden_act": "gelu",
}


def make_tiny_bert(folder: Path, scale: float = 0.02, **settings: Any) -> dict[str, np.ndarray]:
    """A BERT of 2 layers and 32 units with random weights and a vocabulary of its own.

    Returns its tensors.
    """
    config = TINY | settings
    rng = np.random.default_rng(3)
    width, inner = config["hidden_size"], config["intermediate_size"]
    tensors = {
        f"bert.embeddings.{kind}_embeddings.weight": rng.normal(0, scale, (rows, width))
        for kind, rows in (
            ("word", config["vocab_size"]),
            ("position", config["max_position_embeddings"]),
            ("token_type", 2),
        )
    }
    sizes = {"bert.pooler.dense": (width, width)}
    norms = ["bert.embeddings.LayerNorm"]
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            sizes[f"{layer}.attention.{part}"] = width, width
        sizes[f"{layer}.intermediate.dense"] = inner, width
        sizes[f"{layer}.output.dense"] = width, inner
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, size in sizes.items():
        tensors |= {f"{name}.weight": rng.normal(0, scale, size), f"{name}.bias": np.zeros(size[0])}
    for name in norms:
        tensors |= {f"{name}.weight": np.ones(width), f"{name}.bias": np.zeros(width)}
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    write_checkpoint(folder, config, tensors)
    return tensors


def write_checkpoint(
    folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray], vocabulary: bool = True
) -> None:
    """Write a checkpoint folder as transformers saves it."""
    import safetensors.numpy

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if vocabulary:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")


def write_reviews(path: Path) -> None:
    """The first 400 of the example data as a CSV file of texts and labels."""
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[:400]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium, or the test is skipped with the reason."""
    from browser_parts import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def quick_run(testrun_uid: str) -> Path:
    """The folder of a run of recipes/quick.toml, made once by the command a user would give.

    Stays in runs/tests, where .ci/check-wheel takes its bundle from.
    """
    from typer.testing import CliRunner

    from kdedge.cli import app

    out = ROOT / "runs" / "tests"
    out.parent.mkdir(exist_ok=True)
    done = out.with_suffix(".done")
    with out.with_suffix(".lock").open("w") as lock:
        # pytest-xdist's workers share the run: the first one makes it, the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_file() or done.read_text() != testrun_uid:
            shutil.rmtree(out, ignore_errors=True)
            command = ["run", str(ROOT / "recipes/quick.toml"), "--out", str(out)]
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 0, result.output
            done.write_text(testrun_uid)
    return out


@pytest.fixture(scope="session")
def client_bundle(request: pytest.FixtureRequest) -> Path:
    """The bundle that other people's clients are tried on."""
    given: Path | None = request.config.getoption("--bundle")
    return given.resolve() if given else request.getfixturevalue("quick_run") / "bundle"


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """A model that fails if ids and segment ids are swapped: their tables have 10 and 2 rows."""
    import keras

    ids, mask, segment_ids = (
        keras.Input((8,), 1, "int32", name=name) for name in ("ids", "mask", "segment_ids")
    )
    pieces = keras.layers.Embedding(10, 4)(ids) + keras.layers.Embedding(2, 4)(segment_ids)
    weights = keras.layers.Reshape((8, 1))(keras.layers.Rescaling(1.0)(mask))
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(pieces * weights))
    return keras.Model({"ids": ids, "mask": mask, "segment_ids": segment_ids}, logits)


@pytest.fixture(scope="session")
def tflite(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as Keras converts it."""
    path = tmp_path_factory.mktemp("models") / "tiny.tflite"
    tiny_model.export(path, format="litert", verbose=False)
    return path


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX model without token_type_ids, which the agent must then not feed."""
    from onnx import TensorProto, checker, helper, save

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.INT64, ["batch", "length"])
    node = helper.make_node("Mul", ["input_ids", "attention_mask"], ["logits"])
    graph = helper.make_graph([node], "tiny", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    save(model, path)
    return path


@pytest.fixture
def encoded() -> Encoded:
    ids = np.array([[2, 5, 6, 7, 8, 9, 9, 3], [2, 5, 3, 0, 0, 0, 0, 0]], np.int32)
    return Encoded(ids, (ids > 0).astype(np.int32), np.zeros_like(ids))

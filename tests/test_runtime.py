"""Loading bundles: valid, changed, newer, or made elsewhere."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from kdedge import KdedgeError, load_bundle
from kdedge.bundle.manifest import read_manifest, trusts_of, verify
from kdedge.runtime import load_engine
from kdedge.text.pairs import Pair

TEXTS = ["a moving, funny film", "a waste of two hours"]
Change = Callable[[Path], object]


@pytest.fixture
def bundle(quick_run: Path, tmp_path: Path) -> Path:
    copytree(quick_run / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


def test_every_artifact_answers(bundle: Path) -> None:
    by_artifact = {}
    for artifact in read_manifest(bundle).artifacts:
        classifier = load_bundle(bundle, artifact.name)
        answers = classifier.predict(TEXTS)
        by_artifact[artifact.name] = classifier.outputs(TEXTS)
        for one, row in zip(answers, by_artifact[artifact.name], strict=True):
            assert list(one.probabilities) == ["negative", "positive"]
            assert one.label == ("negative", "positive")[row.argmax()]
            assert one.probability == max(one.probabilities.values())
            assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert len(by_artifact) == 5
    one, several = by_artifact["litert-int8"], by_artifact["litert-int8-lengths"]
    np.testing.assert_allclose(several, one, atol=1e-6)
    for outputs in by_artifact.values():
        np.testing.assert_allclose(outputs, by_artifact["litert-float32"], atol=0.02)
    assert load_bundle(bundle).predict([]) == []
    default = read_manifest(bundle).defaults["litert"]
    assert load_bundle(bundle).predict(TEXTS) == load_bundle(bundle, default).predict(TEXTS)


def test_a_list_is_answered_as_each_text_by_itself(bundle: Path) -> None:
    words = "a slow, moving and funny film about two old friends who never meet again".split()
    texts = [" ".join(words[i % 3 : i % 3 + 1 + i % 11]) for i in range(100)] + ["film " * 100]
    for artifact in read_manifest(bundle).artifacts:
        one = load_bundle(bundle, artifact.name)
        outputs = np.concatenate([one.outputs([text]) for text in texts])
        alone = [answer for text in texts for answer in one.predict([text])]
        for model in (one, load_bundle(bundle, artifact.name, threads=2)):
            np.testing.assert_allclose(model.outputs(texts), outputs, atol=1e-6)
            for answer, expected in zip(model.predict(texts), alone, strict=True):
                assert (answer.label, answer.unsure) == (expected.label, expected.unsure)
                assert answer.probability == pytest.approx(expected.probability, abs=1e-6)
    with pytest.raises(KdedgeError, match="threads: 0; at least 1"):
        load_bundle(bundle, threads=0)


def test_no_tensorflow_is_loaded(bundle: Path) -> None:
    program = (
        "import sys; from kdedge import load_bundle; "
        f"print(load_bundle({str(bundle)!r}, sys.argv[1]).predict(['good'])[0].label); "
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'transformers')))"
    )
    for artifact in ("litert-int8", "onnx-int8"):
        subprocess.run([sys.executable, "-c", program, artifact], check=True)


# What is refused


def test_trust_of_two_bundles_of_one_model(bundle: Path) -> None:
    other = Path(copytree(bundle, bundle.with_name("other")))
    alone, both = trusts_of([bundle]), trusts_of([bundle, other])
    assert [*both] == [f"{name}/{one}" for name in ("bundle", "other") for one in alone]


def test_an_archive_may_have_the_folder_itself(bundle: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "b"), "zip", bundle.parent, bundle.name))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("__MACOSX/._bundle", "")
    texts = ["good film"]
    assert load_bundle(archive).predict(texts) == load_bundle(bundle).predict(texts)
    (bundle / "config.json").write_text("{}")
    archive = Path(shutil.make_archive(str(tmp_path / "b"), "zip", bundle))
    with pytest.raises(KdedgeError, match=f"^{archive}/config.json"):
        load_bundle(archive)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ("f", "str"), ("film", "str"), (Pair("a", "b"), "Pair"), (None, "NoneType"),
        (np.array([["a film", "film"]]), "ndarray"),
        ({"text": "a film"}, "dict"), ({"a film"}, "set"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_texts(bundle: Path, texts: Any, kind: str) -> None:
    model = load_bundle(bundle)
    for method in (model.predict, model.outputs, model.calibrated_outputs):
        with pytest.raises(KdedgeError, match=f"texts: a {kind}; a list of texts is needed"):
            method(texts)


def test_texts_in_other_containers(bundle: Path) -> None:
    model, texts = load_bundle(bundle), ["a good film", "a bad film"]
    expected = model.predict(texts)
    for given in (tuple(texts), iter(texts), dict.fromkeys(texts), np.array(texts)):
        assert model.predict(given) == expected
    assert model.predict(iter(texts[:1])) == model.predict(texts[:1])


@pytest.mark.parametrize("text", ["", " \n", "x" * 100_001, "half \ud83d"])
def test_texts_that_are_none(bundle: Path, text: str) -> None:
    with pytest.raises(KdedgeError, match="text 2: the text"):
        load_bundle(bundle).predict(["good", text])


@pytest.mark.parametrize(
    "text", ["😀🎬", "ما هذا الفيلم", "nul \x00 inside", "x" * 100_000, "\u200b", "[SEP] [CLS]"]
)
def test_odd_texts_get_an_answer(bundle: Path, text: str) -> None:
    answers = [
        load_bundle(bundle, name).predict([text])[0] for name in ("litert-int8", "onnx-int8")
    ]
    assert all(np.isfinite(one.probability) for one in answers)


def test_any_changed_byte_is_noticed(bundle: Path) -> None:
    rng = np.random.default_rng(0)
    for name in read_manifest(bundle).files:
        path = bundle / name
        content = bytearray(path.read_bytes())
        place = int(rng.integers(len(content)))
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(KdedgeError, match=f"{path.name} is not the file that was exported"):
            load_bundle(bundle)
        content[place] ^= 1
        path.write_bytes(content)
    verify(bundle)


def edit(**changes: object) -> Change:
    def change(bundle: Path) -> None:
        path = bundle / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def add_file(name: str) -> Change:
    def change(bundle: Path) -> None:
        files = json.loads((bundle / "manifest.json").read_text())["files"]
        edit(files=files | {name: "0" * 64})(bundle)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: (b / "manifest.json").unlink(), "is not a bundle: it has no manifest.json"),
        (lambda b: (b / "manifest.json").write_text("{"), "manifest.json: the file: "),
        (lambda b: (b / "manifest.json").write_bytes(b"\xff\xfe"), "manifest.json: "),
        (edit(format_version=4), "format_version is 4 and this kdedge reads 1 to 3"),
        (edit(format_version="new"), "manifest.json: format_version: "),
        (edit(colour="red"), "manifest.json: colour: "),
        (edit(artifacts=[]), "manifest.json: artifacts: "),
        (edit(defaults={}), "manifest.json: a default is not an artifact"),
        (edit(defaults={"onnx": "onnx-int2"}), "manifest.json: a default is not an artifact"),
        (add_file("../outside"), "'../outside' would lie outside the bundle"),
        (add_file("/etc/passwd"), "'/etc/passwd' would lie outside the bundle"),
        (lambda b: (b / "vocab.txt").unlink(), "vocab.txt is missing"),
        (lambda b: (b / "onnx/model.onnx").write_bytes(b""), "model.onnx is not the file"),
    ],
)
def test_a_broken_bundle_is_refused(bundle: Path, change: Change, message: str) -> None:
    change(bundle)
    with pytest.raises(KdedgeError, match=message):
        load_bundle(bundle)


def test_an_artifact_outside_the_bundle_or_unlisted(bundle: Path) -> None:
    artifacts = json.loads((bundle / "manifest.json").read_text())["artifacts"]
    for file in ("../model.tflite", "litert/other.tflite"):
        changed = [artifacts[0] | {"file": file}]
        edit(artifacts=changed, defaults={"litert": "litert-float32"})(bundle)
        with pytest.raises(KdedgeError, match=f"{file} of litert-float32 has no checksum"):
            load_bundle(bundle)


def test_an_artifact_that_is_not_there(bundle: Path) -> None:
    with pytest.raises(
        KdedgeError, match="has no 'int8'. It has: litert-float32, litert-int8, litert-int8-l"
    ):
        load_bundle(bundle, "int8")


def test_a_newer_bundle_with_new_keys_says_that_it_is_newer(bundle: Path) -> None:
    edit(format_version=4, signature="new")(bundle)
    with pytest.raises(KdedgeError, match="format_version is 4 and this kdedge reads 1 to 3"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_files_that_are_no_models(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in (b"", b"rubbish", b"TFL3" * 100):
        path.write_bytes(content)
        with pytest.raises(KdedgeError, match=f"{name}: .* refuses this model"):
            load_engine(path)


def test_a_runtime_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(KdedgeError, match=r"onnxruntime is not installed: .* 'kdedge\[runtime\]'"):
        load_engine(tmp_path / "model.onnx")


def test_a_litert_model_with_other_inputs(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.export(tmp_path / "other.tflite", format="litert", verbose=False)
    with pytest.raises(KdedgeError, match="three int32"):
        load_engine(tmp_path / "other.tflite")

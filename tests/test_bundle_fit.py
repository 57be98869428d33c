"""Bundles whose checksums are right, but whose files don't belong together."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import pytest
from bench_parts import with_decision
from conftest import ROOT

from kdedge import KdedgeError, TextEncoder, load_bundle
from kdedge.bundle.manifest import read_manifest, verify
from kdedge.files import sha256, write_checksums
from kdedge.text.familiarity import FAMILIARITY, Familiarity

DEMO = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"
LITERT, ONNX = "litert/model_int8.tflite", "onnx/model_quantized.onnx"
Change = Callable[[Path], None]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copytree(DEMO, tmp_path / "bundle")


def seal(bundle: Path, **changes: Any) -> None:
    """Write the manifest with these contents and the present checksums of the files."""
    old = json.loads((bundle / "manifest.json").read_text()) | changes
    old["files"] = {name: sha256(bundle / name) for name in old["files"]}
    (bundle / "manifest.json").write_text(json.dumps(old))
    write_checksums(bundle, ["manifest.json"])


def edit_json(name: str, change: Callable[[Any], None]) -> Change:
    def edit(bundle: Path) -> None:
        content = json.loads((bundle / name).read_text(encoding="utf-8"))
        change(content)
        (bundle / name).write_text(json.dumps(content), encoding="utf-8")

    return edit


def lines(name: str, change: Callable[[list[str]], list[str]]) -> Change:
    def edit(bundle: Path) -> None:
        content = (bundle / name).read_text(encoding="utf-8").split("\n")
        (bundle / name).write_text("\n".join(change(content)), encoding="utf-8")

    return edit


def test_a_bundle_that_fits(bundle: Path) -> None:
    seal(bundle)
    texts = ["a moving, funny film", "a waste of two hours", "这部电影很好"]
    answers = load_bundle(bundle).predict([*texts, "How do I activate my card?"])
    labels = [answer.line().split("\t")[0] for answer in answers]
    assert labels == ["positive", "negative", "unsure", "unsure"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lines("labels.txt", lambda names: names[::-1][1:] + [""]),
            "labels.txt has other labels than the manifest",
        ),
        (
            lines("labels.txt", lambda names: ["neutral", *names]),
            "labels.txt has other labels than the manifest",
        ),
        (
            lines("vocab.txt", lambda pieces: [*pieces[:9], pieces[10], pieces[9], *pieces[11:]]),
            "vocab.txt has other tokens than tokenizer.json",
        ),
        (
            edit_json("config.json", lambda config: config["id2label"].update({"0": "positive"})),
            "config.json: id2label has other labels than the manifest",
        ),
        (
            edit_json(
                "config.json",
                lambda config: config.update(problem_type="multi_label_classification"),
            ),
            "config.json: problem_type is 'multi_label_classification', and the manifest's task is",
        ),
        (
            edit_json("config.json", lambda config: config.pop("id2label")),
            r"config.json: can't read id2label \(KeyError",
        ),
        (
            edit_json("encoder.json", lambda encoder: encoder.update(max_length=32)),
            "max_length is 32 in encoder.json, but 56 in the manifest",
        ),
        (
            lambda bundle: copyfile(bundle / ONNX, bundle / LITERT),
            "model_int8.tflite of litert-int8 is not a LiteRT file",
        ),
        (
            lambda bundle: copyfile(bundle / LITERT, bundle / ONNX),
            "model_quantized.onnx of onnx-int8 is a LiteRT file",
        ),
    ],
)
def test_files_of_different_bundles(bundle: Path, change: Change, message: str) -> None:
    change(bundle)
    seal(bundle)
    with pytest.raises(KdedgeError, match=message) as error:
        verify(bundle)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": ONNX}, "int8-lengths is litert, whose files end in .tflite, but its file is on"),
        ({"format": "onnx"}, "int8-lengths is onnx, whose files end in .onnx, but its file is lit"),
        ({"length": None}, "litert-int8-lengths: length is None; LiteRT files have a length"),
    ],
)
def test_an_artifact_of_another_format(bundle: Path, change: dict[str, Any], message: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    seal(bundle, artifacts=[{**manifest["artifacts"][0], **change}, *manifest["artifacts"][1:]])
    with pytest.raises(KdedgeError, match=message):
        read_manifest(bundle)


def test_a_model_with_fewer_outputs_than_labels(bundle: Path) -> None:
    names = ["angry", "glad", "negative", "positive"]
    lines("labels.txt", lambda _: [*names, ""])(bundle)
    labels = {str(i): name for i, name in enumerate(names)}
    edit_json("config.json", lambda config: config.update(id2label=labels))(bundle)
    seal(bundle, task={"name": "classification", "label_names": names})
    for artifact in ("litert-int8", "onnx-int8"):
        with pytest.raises(
            KdedgeError, match=r"shape \[2\], but the manifest's task has width 4: angry"
        ):
            load_bundle(bundle, artifact)


def test_a_token_that_the_model_has_no_row_for(bundle: Path) -> None:
    last = len((bundle / "vocab.txt").read_text(encoding="utf-8").split("\n")) - 1
    lines("vocab.txt", lambda pieces: [*pieces[:-1], "##new", ""])(bundle)
    edit_json("tokenizer.json", lambda t: t["model"]["vocab"].update({"##new": last}))(bundle)
    seal(bundle)
    for artifact in ("litert-int8", "onnx-int8"):
        with pytest.raises(KdedgeError, match=f"can't take token {last}, the last one") as error:
            load_bundle(bundle, artifact)
        assert "\n" not in str(error.value)


def test_a_model_of_another_length(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    artifacts = [{**a, "length": a["length"] and 32} for a in manifest["artifacts"]]
    seal(bundle, artifacts=artifacts)
    with pytest.raises(KdedgeError, match=r"takes \(56,\) tokens, but the manifest says \(32,\)"):
        load_bundle(bundle, "litert-int8")


def test_a_limit_of_familiarity_without_its_table(tmp_path: Path) -> None:
    known = Familiarity.fit(TextEncoder.load(DEMO), ["a moving, funny film"] * 2)
    bundle = with_decision(DEMO, tmp_path / "bundle", known)
    answers = load_bundle(bundle).predict(["a moving, funny film", "my card was declined"])
    assert [answer.unsure for answer in answers] == [False, True]
    (bundle / FAMILIARITY).unlink()
    files = read_manifest(bundle).files
    seal(bundle, files={name: files[name] for name in files if name != FAMILIARITY})
    with pytest.raises(KdedgeError, match="min_familiarity is given, but familiarity.bin is not"):
        load_bundle(bundle)

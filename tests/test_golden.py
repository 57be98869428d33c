"""Token ids of odd texts, from the files that clients in other languages are tested with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from golden import make
from typer.testing import CliRunner, Result

from kdedge import KdedgeError, TextEncoder, load_bundle
from kdedge.bundle.manifest import read_manifest
from kdedge.cli import app
from kdedge.runtime import TextModel
from kdedge.tasks import read_task

GOLDEN = ROOT / "tests" / "golden"
TOKENIZER = json.loads((GOLDEN / "tokenizer.json").read_text())
TASKS = json.loads((GOLDEN / "tasks.json").read_text())
HOSTILE = json.loads((GOLDEN / "hostile.json").read_text())


@pytest.fixture(scope="module")
def encoder(quick_run: Path) -> TextEncoder:
    encoder = TextEncoder.load(quick_run / "teacher")
    return TextEncoder(encoder.tokenizer, TOKENIZER["max_length"])


@pytest.fixture(scope="module")
def classifiers(quick_run: Path) -> list[TextModel]:
    bundle = quick_run / "bundle"
    return [load_bundle(bundle, artifact.name) for artifact in read_manifest(bundle).artifacts]


@pytest.mark.parametrize("vector", TASKS, ids=lambda vector: vector["name"])
def test_answers_of_tasks(vector: dict[str, Any]) -> None:
    task = read_task(vector["task"])
    outputs = task.outputs(np.array(vector["logits"], np.float32))
    np.testing.assert_allclose(outputs, vector["outputs"], atol=1e-6)
    fields = task.answer(outputs.tolist()).fields()
    labels = fields.get("labels", [fields["label"]] if "label" in fields else [])
    assert labels == vector["labels"]


def test_make_gives_this_file(quick_run: Path) -> None:
    """The file fits this vocabulary, and its ids are those of the slow tokenizer."""
    made = make.content(quick_run / "teacher" / "vocab.txt")
    assert made == (GOLDEN / "tokenizer.json").read_text()


@pytest.mark.parametrize("vector", TOKENIZER["vectors"], ids=lambda vector: vector["name"])
def test_ids(encoder: TextEncoder, vector: dict) -> None:
    assert encoder.token_ids([vector["text"]]) == [vector["ids"]]


def test_known_ids_are_in_the_file() -> None:
    """Ids written by hand, so that the file can't be made again with an error."""
    by_name = {vector["name"]: vector for vector in TOKENIZER["vectors"]}
    assert len(by_name) == len(TOKENIZER["vectors"]) == 205
    assert by_name["empty"]["ids"] == [101, 102]
    assert by_name["a letter"]["ids"] == [101, 1037, 102]
    assert by_name["an emoji"]["ids"] == [101, 100, 102]
    # Cut to 62 words and the two special tokens.
    assert by_name["100 words"]["ids"] == [101, *[2204] * 62, 102]
    assert sum("note" in vector for vector in TOKENIZER["vectors"]) == 6


def text_of(hostile: dict) -> str:
    return hostile["text"] if "text" in hostile else hostile["repeat"] * hostile["count"]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile["name"])
def test_hostile_texts(classifiers: list[TextModel], hostile: dict) -> None:
    text = text_of(hostile)
    for classifier in classifiers:
        if hostile["answer"]:
            (answer,) = classifier.predict([text])
            assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
            assert np.isfinite(answer.probability)
        else:
            with pytest.raises(KdedgeError, match="text 1: the text (is empty|has)"):
                classifier.predict([text])


def predict(texts: list[str], folder: Path, *options: str) -> Result:
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    bundle = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"
    arguments = ["predict", str(bundle), "--file", str(file), "--json", *options]
    return CliRunner().invoke(app, arguments)


def test_hostile_texts_by_command(tmp_path: Path) -> None:
    answered = [text_of(hostile) for hostile in HOSTILE if hostile["answer"]]
    done = predict(answered, tmp_path)
    assert done.exit_code == 0, done.output
    lines = done.stdout.split("\n")[:-1]
    assert [json.loads(line)["text"] for line in lines] == answered
    assert len(answered) == 34
    for hostile in HOSTILE:
        if not hostile["answer"]:
            done = predict([text_of(hostile)], tmp_path, "--empty-texts", "error")
            assert done.exit_code == 2, hostile["name"]
            assert "error: " in done.output and "Traceback" not in done.output
    # One empty text ends no file, unless that is asked for.
    done = predict(["good", " ", "bad"], tmp_path)
    assert done.exit_code == 0 and len(done.stdout.split("\n")[:-1]) == 2
    assert "1 empty text was left out" in done.stderr

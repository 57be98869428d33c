"""MediaPipe's TextClassifier gives a bundle's answers, from the `.tflite` file alone."""

import json
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from client_parts import Record, record_client
from conftest import DATA, ROOT

from kdedge import load_bundle, load_corpus
from kdedge.bundle.manifest import read_manifest

pytestmark = pytest.mark.clients

VERSION = "1.2.2"
REQUIREMENT = f"mediapipe=={VERSION}"
NAMES = (f"MediaPipe TextClassifier {VERSION}", "Python", "LiteRT inside MediaPipe")
CLIENT = ROOT / "tests" / "clients" / "mediapipe_client.py"

TEXTS = load_corpus(DATA, split="split").test.texts
ASCII = [text for text in TEXTS if text.isascii()]
OTHER = [text for text in TEXTS if not text.isascii()]
# Characters that are rare in the reviews.
ODD = [
    "It's!!! a #1 film ($5) -- `quoted' ^_^ ~tilde~ |pipe| <b>bold</b> 50% @me a/b\\c {x} [y] a=b",
    "UPPER Case MiXeD",
    "  lead\tand\ntrail \r\n",
    "great " * 100,
    "a" * 100,
    "a" * 101,
    "honorificabilitudinitatibus qwrtpsdfgh 12,345.67",
]


@pytest.fixture(scope="session")
def mediapipe() -> Path:
    """A Python with MediaPipe, which can't be installed beside kdedge."""
    folder = ROOT / ".clients" / "mediapipe"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", REQUIREMENT]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{REQUIREMENT} cannot be installed: {done.stderr.splitlines()[-1]}")
    return python


def scores(python: Path, bundle: Path, artifact: str, texts: Sequence[str], folder: Path):
    """MediaPipe's scores of texts, float64 [texts, classes]."""
    manifest = read_manifest(bundle)
    model, labels = bundle / manifest.artifact(artifact).file, manifest.task.output_names
    asked, output = folder / "texts.json", folder / "scores.json"
    asked.write_text(json.dumps(texts))
    subprocess.run([python, CLIENT, model, asked, output], check=True)
    return np.array([[row[label] for label in labels] for row in json.loads(output.read_text())])


@pytest.mark.parametrize("artifact", ["litert-float32", "litert-int8"])
def test_same_answers(
    mediapipe: Path,
    client_bundle: Path,
    tmp_path: Path,
    artifact: str,
    record_property: Record,
) -> None:
    bundle = client_bundle
    texts = [*ASCII, *ODD]
    ours = load_bundle(bundle, artifact).outputs(texts)
    theirs = scores(mediapipe, bundle, artifact, texts, tmp_path)
    # Equal to the last bit here: the same tokens, and the same kernels on the same processor.
    record_client(record_property, *NAMES, artifact, theirs, ours)
    np.testing.assert_allclose(theirs, ours, atol=1e-3)
    assert theirs.argmax(1).tolist() == ours.argmax(1).tolist()


@pytest.mark.parametrize("artifact", ["litert-float32", "litert-int8"])
def test_accents(
    mediapipe: Path,
    client_bundle: Path,
    tmp_path: Path,
    artifact: str,
    record_property: Record,
) -> None:
    """MediaPipe lower-cases ASCII alone and strips no accents: an app must do that before."""
    bundle = client_bundle
    classifier = load_bundle(bundle, artifact)
    ours = classifier.outputs(OTHER)
    as_they_are = scores(mediapipe, bundle, artifact, OTHER, tmp_path)
    # The main recipe's model gives 27 of these 29 texts the same label, the quick recipe's 24: for
    # MediaPipe "clichés" is an unknown word.
    assert len(OTHER) == 29
    client, *names = NAMES
    accented = f"{client}, texts with accents only"
    record_client(record_property, accented, *names, artifact, as_they_are, ours)
    assert (as_they_are.argmax(1) == ours.argmax(1)).sum() >= 20
    assert abs(as_they_are - ours).max() > 1e-3

    normalize = classifier.encoder.tokenizer.normalizer.normalize_str
    stripped = scores(mediapipe, bundle, artifact, [normalize(text) for text in OTHER], tmp_path)
    np.testing.assert_allclose(stripped, ours, atol=1e-3)

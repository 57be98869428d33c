"""Both runtimes give a bundle's answers on an emulated arm64, which says nothing about speed."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from client_parts import Record, record_client
from conftest import DATA, ROOT

from kdedge import load_bundle, load_corpus
from kdedge.bundle.manifest import read_manifest
from kdedge.tasks import Classification

TASK = Classification(label_names=("bad", "good"))

pytestmark = pytest.mark.clients

CLIENTS = ROOT / "tests" / "clients"
TEXTS = load_corpus(DATA, split="split").test.texts[:100]
# 2e-7 and 6e-3 were measured: each processor rounds 8-bit activations in its own way.
NAMES = ("litert-float32", "litert-int8", "onnx-float32", "onnx-int8")
PACKAGES = {"litert": "ai_edge_litert", "onnx": "onnxruntime"}
MAX_DIFFERENCE = {"float32": 1e-5, "int8": 0.02}


@pytest.fixture(scope="session")
def arm64() -> Path:
    """An arm64 Python with both runtimes."""
    folder = ROOT / ".clients" / "arm64"
    if not (folder / "python").exists():
        # Left over from an interrupted installation.
        shutil.rmtree(folder, ignore_errors=True)
        install = [CLIENTS / "install_arm64.sh", folder, sys.executable]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no arm64 Python can be unpacked: {done.stderr.splitlines()[0]}")
    return folder / "python"


@pytest.mark.parametrize("name", NAMES)
def test_same_answers(
    arm64: Path, client_bundle: Path, tmp_path: Path, name: str, record_property: Record
) -> None:
    artifact = read_manifest(client_bundle).artifact(name)
    tokens, outputs = tmp_path / "tokens.npz", tmp_path / "outputs.npz"
    np.savez(tokens, **load_bundle(client_bundle).encoder.encode(TEXTS).inputs)
    model = client_bundle / artifact.file
    subprocess.run([arm64, CLIENTS / "arm64_client.py", tokens, outputs, model], check=True)
    with np.load(outputs) as arrays:
        theirs = arrays[model.name]
    if artifact.format == "onnx":
        theirs = TASK.outputs(theirs)
    ours = load_bundle(client_bundle, name).outputs(TEXTS)
    package = PACKAGES[artifact.format]
    (installed,) = (arm64.parent / "site-packages").glob(f"{package}-*.dist-info")
    client = installed.stem.replace("-", " ")
    where = "the same, arm64 emulated by QEMU"
    record_client(record_property, client, "Python", where, name, theirs, ours)
    np.testing.assert_allclose(theirs, ours, atol=MAX_DIFFERENCE[artifact.quantization])
    assert theirs.argmax(1).tolist() == ours.argmax(1).tolist()

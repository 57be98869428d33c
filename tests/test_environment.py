"""Environment variables set for other programs, and unusual names of folders."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdedge.errors import KdedgeError
from kdedge.keras_environment import choose_tensorflow

SETTINGS = """
import keras, tf_keras
print(keras.backend.backend())
for config in (keras.config, tf_keras.backend):
    print(config.floatx(), config.epsilon(), config.image_data_format())
print(keras.layers.Conv1D(2, 1)(keras.Input((3, 4))).shape)
"""
# By the commands, and from Python.
BEGINNINGS = (
    "from kdedge.cli.common import load_tensorflow; load_tensorflow()",
    "from kdedge import Student",
    "from kdedge import load_teacher",
)


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_settings_for_other_programs_of_keras_do_not_matter(beginning: str, tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(
        json.dumps(
            {
                "backend": "jax",
                "floatx": "float16",
                "epsilon": 0.1,
                "image_data_format": "channels_first",
            }
        )
    )
    environment = {
        **os.environ,
        "KERAS_HOME": str(tmp_path),
        "HOME": "/proc/nowhere",
        "KERAS_BACKEND": "torch",
        "TF_USE_LEGACY_KERAS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", beginning + SETTINGS],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    as_needed = "float32 1e-07 channels_last"
    assert done.stdout.splitlines() == [
        "tensorflow", as_needed, as_needed, "(None, 3, 2)",
    ]  # fmt: skip


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_HOME": "/proc/nowhere", "HOME": "/proc/nowhere"}
    program = "import kdedge; print(kdedge.SoftLabelLoss.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "SoftLabelLoss\n"), done.stderr


def test_keras_with_another_backend_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    on_torch = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", on_torch)
    with pytest.raises(KdedgeError, match="Keras is imported already, with the backend 'torch'"):
        choose_tensorflow()

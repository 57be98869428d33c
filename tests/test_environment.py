"""What a user has set for other programs, and names that folders can have."""

import json
import os
import subprocess
import sys
from pathlib import Path

SETTINGS = """
from kdedge.cli.common import load_tensorflow
load_tensorflow()
import keras, tf_keras
print(keras.backend.backend())
for config in (keras.config, tf_keras.backend):
    print(config.floatx(), config.epsilon(), config.image_data_format())
print(keras.layers.Conv1D(2, 1)(keras.Input((3, 4))).shape)
"""


def test_settings_for_other_programs_of_keras_do_not_matter(tmp_path: Path) -> None:
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
    for home in (tmp_path, Path("/proc/nowhere")):
        environment = {
            **os.environ,
            "KERAS_HOME": str(home),
            "HOME": "/proc/nowhere",
            "KERAS_BACKEND": "torch",
            "TF_USE_LEGACY_KERAS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", SETTINGS], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        as_needed = "float32 1e-07 channels_last"
        assert done.stdout.splitlines() == [
            "tensorflow", as_needed, as_needed, "(None, 3, 2)",
        ]  # fmt: skip

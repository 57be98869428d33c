"""Where pretrained models are, and what their config.json says. Imports no TensorFlow."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from kdedge.errors import KdedgeError
from kdedge.text.encoder import VOCABULARY

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def find_pretrained(source: str | Path, *, weights: bool = True) -> Path:
    """The folder of a model; downloads it if `source` is an id on the hub, with its weights or not.

    Raises:
        KdedgeError: there is no such folder, package or model.
    """
    text = str(source)
    if text.startswith("package:"):
        package, _, inside = text.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise KdedgeError(f"{text}: the Python package {package!r} is not installed.")
        return Path(spec.submodule_search_locations[0]) / inside
    if Path(source).is_dir():
        return Path(source)
    if Path(source).is_absolute() or text.count("/") != 1 or text.startswith("."):
        raise KdedgeError(f"{source}: no such folder, and not an id of the form OWNER/NAME.")
    from huggingface_hub import snapshot_download

    patterns = ["*.json", VOCABULARY, *([WEIGHTS] if weights else [])]
    try:
        return Path(snapshot_download(text, allow_patterns=patterns))
    except Exception as error:  # a dozen kinds, from network to access rights
        raise KdedgeError(
            f"{source}: no such folder here, and the hub did not give it: {error}"
        ) from None


def read_config(folder: Path) -> dict[str, Any]:
    """What a model's config.json says.

    Raises:
        KdedgeError: there is none, or it can't be read.
    """
    path = folder / CONFIG
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise KdedgeError(f"{folder}: not a pretrained model: {CONFIG} is missing.") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise KdedgeError(f"{path}: not a readable JSON object: {error}") from None

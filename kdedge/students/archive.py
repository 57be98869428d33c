"""Writes `.keras` files that are byte for byte equal for equal models."""

import json
import re
import zipfile
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import keras

METADATA, CONFIG = "metadata.json", "config.json"


def write_keras(model: keras.Model, path: Path) -> None:
    """Save a model like `model.save`, without dates and memory addresses.

    Left out are the date in `metadata.json` and the dates of the archive's entries. The memory
    addresses by which `config.json` marks shared objects are replaced by numbers.

    Raises:
        ValueError: Keras can't write the model.
    """
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(entries[METADATA])
    del metadata["date_saved"]
    entries[METADATA] = json.dumps(metadata).encode()
    config = json.loads(entries[CONFIG])
    _number_shared_objects(config, defaultdict(count(1).__next__))
    entries[CONFIG] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            # A ZipInfo without a date has 1980-01-01.
            archive.writestr(zipfile.ZipInfo(name), content)


def reset_layer_names(model: keras.Model) -> None:
    """Rename the layers that Keras named, as if this were the first model of the process.

    Keras numbers layers through a whole process: the second `Dropout` is `dropout_1`, in any
    model. After this call, equal models have equal layer names and export equal tensor names.
    """
    layers = list(model._flatten_layers(include_self=False))
    by_keras = [layer for layer in layers if _base(layer) is not None]
    given = {layer.name for layer in layers} - {layer.name for layer in by_keras}
    numbers: defaultdict[str, Any] = defaultdict(count)
    for layer in by_keras:
        base = _base(layer)
        names = (f"{base}_{n}" if n else str(base) for n in numbers[str(base)])
        layer.name = next(name for name in names if name not in given)


def _base(layer: keras.layers.Layer) -> str | None:
    """`dropout` for a Keras `Dropout` named `dropout` or `dropout_7`; None for other names."""
    if not type(layer).__module__.startswith("keras."):
        return None
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    base = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return base if re.fullmatch(rf"{base}(_[1-9]\d*)?", layer.name) else None


def _number_shared_objects(config: Any, numbers: dict[int, int]) -> None:
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            # Layers of a loaded model have one policy each, with equal content.
            config.pop("shared_object_id", None)
        if "shared_object_id" in config:
            config["shared_object_id"] = numbers[config["shared_object_id"]]
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            _number_shared_objects(part, numbers)

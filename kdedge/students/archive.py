"""`.keras` files that depend on nothing but the model: equal students give equal bytes."""

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
    """Save a model as `model.save` does, without what differs from one time to the next.

    That is the date in `metadata.json`, the dates of the archive's entries, and the addresses in
    memory by which `config.json` says that two layers share an object.

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
            # Without a date given it is 1980-01-01.
            archive.writestr(zipfile.ZipInfo(name), content)


def number_layers(model: keras.Model) -> None:
    """Number the layers that Keras has named, as if the process had made no others.

    Keras calls a second `Dropout` of a process `dropout_1`, in whatever model it is; of equal
    models the layers are named equally afterwards, and so are the tensors of what is exported.
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
    """`dropout` of a Keras `Dropout` called `dropout` or `dropout_7`; None of a given name."""
    if not type(layer).__module__.startswith("keras."):
        return None
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    base = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return base if re.fullmatch(rf"{base}(_[1-9]\d*)?", layer.name) else None


def _number_shared_objects(config: Any, numbers: dict[int, int]) -> None:
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            # Layers that were read have one each, with equal content.
            config.pop("shared_object_id", None)
        if "shared_object_id" in config:
            config["shared_object_id"] = numbers[config["shared_object_id"]]
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            _number_shared_objects(part, numbers)

"""Loads the tensors of a checkpoint into the variables of Keras layers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdedge.errors import KdedgeError
from kdedge.files import sha256
from kdedge.teachers.checkpoints import (
    ANY_OTHER,
    Tensors,
    read_config,
    read_tensors,
    weight_files,
)
from kdedge.teachers.encoder import Encoder
from kdedge.teachers.families import FAMILIES, Family, family_of, shape_of
from kdedge.text.decoding import tell_once

# First words of the tensors of heads, which a checkpoint may have without being used.
HEADS = (
    "classifier", "cls", "discriminator_predictions", "generator_lm_head", "generator_predictions",
    "lm_head", "pooler", "pre_classifier", "predictions", "qa_outputs", "sop_classifier",
    "vocab_layer_norm", "vocab_projector", "vocab_transform",
)  # fmt: skip

Variables = dict[str, Any]


class Checkpoint:
    """A Hugging Face folder, whose tensors are loaded into the variables of layers.

    Args:
        folder: the folder.

    Attributes:
        settings: contents of its config.json.
        family: its family.
        tensors: its tensors, by their names in a model with a head.
        shape: shape of its encoder.

    Raises:
        KdedgeError: the folder is not a readable checkpoint of a supported family; its config.json
            and tensors contradict each other; or a setting is not supported.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = read_config(folder)
        self.files = weight_files(folder)
        if self.settings.get("model_type") is not None:
            # Before the weights are read.
            family_of(self.settings["model_type"], folder)
        tensors = read_tensors(folder)
        if self.settings.get("model_type") is None:
            self.settings["model_type"] = _guessed(tensors, folder)
        self.family = family_of(self.settings["model_type"], folder)
        self.tensors = _by_family(tensors, self.family, folder)
        self.shape = shape_of(self.family, self.settings, self.tensors, folder)
        self._used: set[str] = set()

    def encoder(self, dtype: str = "float32") -> Encoder:
        """Build its encoder, with the checkpoint's weights.

        Args:
            dtype: Keras dtype policy of the computation.

        Raises:
            KdedgeError: a tensor is missing or has another shape, or a setting is invalid.
        """
        try:
            encoder = Encoder(self.shape, dtype=dtype)
        except (ValueError, TypeError) as error:
            raise KdedgeError(f"{self.folder}: config.json: {error}") from None
        self.fill(encoder_variables(encoder, self.family))
        return encoder

    def fill(self, variables: Variables) -> None:
        """Set each variable to the tensor of its name.

        Raises:
            KdedgeError: a tensor is missing, or has another shape.
        """
        missing = [name for name in variables if name not in self.tensors]
        if missing:
            raise KdedgeError(
                f"{self.folder}: {len(missing)} weights are missing, among them {missing[0]}."
            )
        for name, variable in variables.items():
            tensor = self.tensors[name]
            tensor = tensor.T if variable.name == "kernel" else tensor
            if tensor.shape != tuple(variable.shape):
                raise KdedgeError(
                    f"{self.folder}: tensor {name} has shape {self.tensors[name].shape}, which "
                    "does not fit the other tensors."
                )
            if not np.isfinite(tensor).all():
                raise KdedgeError(
                    f"{self.folder}: tensor {name} has values that are not finite, so all answers "
                    "would be NaN: its training failed."
                )
            variable.assign(tensor)
        self._used |= {*variables}

    def show_unused(self) -> None:
        """Show the tensors of heads that were not loaded.

        Raises:
            KdedgeError: other tensors were not loaded, so that the model would give other answers.
        """
        base = self.family.base
        classifiers = {name.partition(".")[0] for name in self._used if "classifier" in name}
        heads, unknown = [], []
        for name in sorted({*self.tensors} - self._used):
            first = name.removeprefix(base).partition(".")[0]
            known = first == "pooler" if name.startswith(base) else first in HEADS
            if known and first not in classifiers:
                heads.append(name)
            elif not self._is_count(name):
                unknown.append(name)
        if unknown:
            raise KdedgeError(
                f"{self.folder}: a {self.family.classes} has no part for the tensors "
                f"{_some(unknown)}, and would give other answers without them. {ANY_OTHER}"
            )
        # Layers that sentence-transformers puts after the model, such as 2_Dense.
        layers = sorted(f"{path.parent.name}/" for path in self.folder.glob("[1-9]_*/*model*"))
        if unused := [*layers, *heads]:
            tell_once(f"{self.folder}: weights that are not used: {_some(unused)}.")

    def _is_count(self, name: str) -> bool:
        """Whether a tensor only counts positions, or has only the zeros of the first segment."""
        values = self.tensors[name].ravel()
        inside = name.removeprefix(self.family.base)
        return bool(
            (inside == "embeddings.position_ids" and (values == np.arange(values.size)).all())
            or (inside == "embeddings.token_type_ids" and not values.any())
        )

    def fingerprint(self, *others: str) -> str:
        """Identifies the weights and the other strings."""
        parts = [*(sha256(file) for file in self.files), *others]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _guessed(tensors: Tensors, where: object) -> str:
    """The model_type for a config.json without one, by the prefixes of the tensors."""
    for model_type, family in FAMILIES.items():
        if any(f".{name}".find(f".{family.base}") >= 0 for name in tensors):
            return model_type
    raise KdedgeError(
        f"{where}: config.json has no model_type, and the names of the tensors don't show it. Add "
        f"one of {', '.join(sorted(FAMILIES))} to it."
    )


def _by_family(tensors: Tensors, family: Family, where: object) -> Tensors:
    """Rename tensors as in a model with a head.

    The prefix of a wrapper is removed. In a model without a head, the encoder's prefix is added.

    Raises:
        KdedgeError: the tensors are not those of a model of the family.
    """
    words = family.parts["words"]
    found = [name for name in tensors if f".{name}".endswith(f".{words}")]
    if len(found) != 1:
        raise KdedgeError(
            f"{where}: {len(found)} tensors are called {words}; a {family.classes} has one."
        )
    before = found[0].removesuffix(words)
    bare = not f".{before}".endswith(f".{family.base}")
    wrapper = before if bare else before.removesuffix(family.base)
    return {
        (family.base if bare else "") + name.removeprefix(wrapper)
        if name.startswith(wrapper)
        else name: tensor
        for name, tensor in tensors.items()
    }


def encoder_variables(encoder: Encoder, family: Family) -> Variables:
    """The variables of an encoder, by the names of their tensors."""
    variables: Variables = {}
    for part, name in family.parts.items():
        if hasattr(encoder, part):
            variables |= part_variables(getattr(encoder, part), family.base + name)
        else:
            for number, block in enumerate(encoder.blocks):
                variables |= part_variables(getattr(block, part), family.base + name.format(number))
    return variables


def head_variables(head: Any) -> Variables:
    """The variables of a head, by the names of their tensors."""
    variables: Variables = {}
    for part, name in head.parts.items():
        variables |= part_variables(getattr(head, part), name)
    return variables


def part_variables(part: Any, name: str) -> Variables:
    """The variables of a dense layer, a layer norm, a single variable or None, by their names."""
    if part is None:
        return {}
    if isinstance(part, keras.layers.Dense):
        return {f"{name}.weight": part.kernel, f"{name}.bias": part.bias}
    if isinstance(part, keras.layers.LayerNormalization):
        return {f"{name}.weight": part.gamma, f"{name}.bias": part.beta}
    return {name: part}


def values(variables: Mapping[str, Any]) -> Tensors:
    """The values of variables, as tensors of a checkpoint."""
    return {
        name: np.ascontiguousarray(value.T if variable.name == "kernel" else value)
        for name, variable in variables.items()
        for value in [variable.numpy()]
    }

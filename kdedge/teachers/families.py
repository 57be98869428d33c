"""Families of encoders: the names that transformers gives to their settings, tensors and heads.

Each family that `Encoder` supports is an entry of `FAMILIES`.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdedge.errors import KdedgeError
from kdedge.teachers.checkpoints import ANY_OTHER, Tensors, need_supported
from kdedge.teachers.encoder import ACTIVATIONS, Shape


@dataclass(frozen=True)
class HeadForm:
    """The classification head of a family: two dense layers on the first token's vector.

    Attributes:
        dense: name of the first layer's tensors.
        activation: activation of the first layer, by its name in transformers.
        out: name of the second layer's tensors.
        dropout: name of the setting with the dropout rate before the second layer.
        dropout_first: whether there is the same dropout before the first layer.
    """

    dense: str
    activation: str
    out: str
    dropout: str = "classifier_dropout"
    dropout_first: bool = False


@dataclass(frozen=True)
class MaskedForm:
    """The masked-language head of a family: dense layer, layer norm, and the token embeddings.

    Attributes:
        dense: name of the dense layer's tensors.
        norm: name of the layer norm's tensors.
        bias: name of the tensor that is added to the scores of the tokens.
        activation: activation of the dense layer; None for the encoder's own.
    """

    dense: str
    norm: str
    bias: str
    activation: str | None = None


@dataclass(frozen=True)
class Family:
    """The names of a family in transformers.

    Attributes:
        classes: prefix of its class names, for instance `Bert`.
        base: prefix of the encoder's tensors in a model with a head.
        parts: for each part of `Encoder` and `Block`, the name of its tensor, or of its layer with
            the tensors `.weight` and `.bias`. `{}` stands for the number of the block; names
            without it mean that all layers share their weights.
        head: its classification head.
        masked: its masked-language head.
        settings: names of settings in its config.json, by BERT's names, where they differ.
        first_position: whether positions start after the id of the padding token.
        fixed: settings, by BERT's names, that have one value whatever config.json says.
    """

    classes: str
    base: str
    parts: dict[str, str]
    head: HeadForm
    masked: MaskedForm
    settings: dict[str, str] = field(default_factory=dict)
    first_position: bool = False
    fixed: dict[str, Any] = field(default_factory=dict)

    def setting(self, settings: Mapping[str, Any], name: str, missing: Any = None) -> Any:
        """The value of a setting in config.json, or transformers' default if it is missing.

        Args:
            settings: contents of config.json.
            name: BERT's name of the setting.
            missing: value if the family has no such setting.
        """
        if name in self.fixed:
            return self.fixed[name]
        name = self.settings.get(name, name)
        given = settings.get(name)
        return _defaults(settings["model_type"]).get(name, missing) if given is None else given


BERT = Family(
    classes="Bert",
    base="bert.",
    parts={
        "words": "embeddings.word_embeddings.weight",
        "position_vectors": "embeddings.position_embeddings.weight",
        "segment_vectors": "embeddings.token_type_embeddings.weight",
        "embedding_norm": "embeddings.LayerNorm",
        "query": "encoder.layer.{}.attention.self.query",
        "key": "encoder.layer.{}.attention.self.key",
        "value": "encoder.layer.{}.attention.self.value",
        "attention_output": "encoder.layer.{}.attention.output.dense",
        "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
        "inner": "encoder.layer.{}.intermediate.dense",
        "output_dense": "encoder.layer.{}.output.dense",
        "output_norm": "encoder.layer.{}.output.LayerNorm",
    },
    head=HeadForm("bert.pooler.dense", "tanh", "classifier"),
    masked=MaskedForm(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ),
)
ROBERTA = replace(
    BERT,
    classes="Roberta",
    base="roberta.",
    head=HeadForm("classifier.dense", "tanh", "classifier.out_proj", dropout_first=True),
    masked=MaskedForm("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "gelu"),
    first_position=True,
)
FAMILIES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": replace(ROBERTA, classes="XLMRoberta"),
    "camembert": replace(ROBERTA, classes="Camembert"),
    "distilbert": Family(
        classes="DistilBert",
        base="distilbert.",
        parts={
            "words": "embeddings.word_embeddings.weight",
            "position_vectors": "embeddings.position_embeddings.weight",
            "embedding_norm": "embeddings.LayerNorm",
            "query": "transformer.layer.{}.attention.q_lin",
            "key": "transformer.layer.{}.attention.k_lin",
            "value": "transformer.layer.{}.attention.v_lin",
            "attention_output": "transformer.layer.{}.attention.out_lin",
            "attention_norm": "transformer.layer.{}.sa_layer_norm",
            "inner": "transformer.layer.{}.ffn.lin1",
            "output_dense": "transformer.layer.{}.ffn.lin2",
            "output_norm": "transformer.layer.{}.output_layer_norm",
        },
        head=HeadForm("pre_classifier", "relu", "classifier", "seq_classif_dropout"),
        masked=MaskedForm("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
        settings={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        fixed={"layer_norm_eps": 1e-12},
    ),
    "electra": replace(
        BERT,
        classes="Electra",
        base="electra.",
        parts=BERT.parts | {"projection": "embeddings_project"},
        head=HeadForm("classifier.dense", "gelu", "classifier.out_proj", dropout_first=True),
        masked=MaskedForm(
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head.bias",
            "gelu",
        ),
    ),
    "albert": Family(
        classes="Albert",
        base="albert.",
        parts={
            **{part: name for part, name in BERT.parts.items() if "{}" not in name},
            "projection": "encoder.embedding_hidden_mapping_in",
            **{
                part: f"encoder.albert_layer_groups.0.albert_layers.0.{name}"
                for part, name in {
                    "query": "attention.query",
                    "key": "attention.key",
                    "value": "attention.value",
                    "attention_output": "attention.dense",
                    "attention_norm": "attention.LayerNorm",
                    "inner": "ffn",
                    "output_dense": "ffn_output",
                    "output_norm": "full_layer_layer_norm",
                }.items()
            },
        },
        head=HeadForm("albert.pooler", "tanh", "classifier", "classifier_dropout_prob"),
        masked=MaskedForm("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
    ),
    "mpnet": replace(
        ROBERTA,
        classes="MPNet",
        base="mpnet.",
        parts={
            **{part: name for part, name in BERT.parts.items() if part != "segment_vectors"},
            "relative_bias": "encoder.relative_attention_bias.weight",
            "query": "encoder.layer.{}.attention.attn.q",
            "key": "encoder.layer.{}.attention.attn.k",
            "value": "encoder.layer.{}.attention.attn.v",
            "attention_output": "encoder.layer.{}.attention.attn.o",
            "attention_norm": "encoder.layer.{}.attention.LayerNorm",
        },
        fixed={"pad_token_id": 1},
    ),
}


# Settings of which the encoder supports only this value.
ONLY = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "pruned_heads": {},
}


def family_of(model_type: object, where: object) -> Family:
    """The family with this `model_type` in its config.json.

    Raises:
        KdedgeError: it is not supported.
    """
    need_supported(model_type, where)
    return FAMILIES[str(model_type)]


@functools.cache
def _defaults(model_type: str) -> dict[str, Any]:
    """The defaults of transformers for settings that a config.json lacks."""
    # Keeps transformers from advising to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoConfig

    return dict(AutoConfig.for_model(model_type).to_dict())


def shape_of(family: Family, settings: Mapping[str, Any], tensors: Tensors, where: object) -> Shape:
    """The shape of a checkpoint's encoder: sizes from its tensors, the rest from config.json.

    Args:
        family: family of the checkpoint.
        settings: contents of config.json.
        tensors: tensors of the checkpoint; see `Checkpoint`.
        where: path of the checkpoint, for messages.

    Raises:
        KdedgeError: config.json and tensors contradict each other, or a setting is not supported.
    """

    def setting(name: str, missing: Any = None) -> Any:
        return family.setting(settings, name, missing)

    for name, value in ONLY.items():
        if setting(name, value) != value:
            odd = ", ".join(sorted(t for t in tensors if "distance_embedding" in t))
            raise KdedgeError(
                f"{where}: {name} {settings[name]!r} is not supported, only {value!r}"
                f"{odd and f' (tensors {odd})'}. {ANY_OTHER}"
            )

    def size(part: str, axis: int) -> int:
        name = family.base + family.parts[part].format(0)
        tensor = tensors.get(name, tensors.get(f"{name}.weight"))
        if tensor is None or tensor.ndim != 2:
            raise KdedgeError(f"{where}: the tensor {name} is missing or not two-dimensional.")
        return int(tensor.shape[axis])

    shared = "{}" not in family.parts["query"]
    sizes = {
        "vocab_size": size("words", 0),
        "max_position_embeddings": size("position_vectors", 0),
        "hidden_size": size("query", 0),
        "intermediate_size": size("inner", 0),
    }
    if "segment_vectors" in family.parts:
        sizes["type_vocab_size"] = size("segment_vectors", 0)
    if "projection" in family.parts:
        sizes["embedding_size"] = size("words", 1)
    if not shared:
        sizes["num_hidden_layers"] = _count(family.base + family.parts["query"], tensors)
    for name, found in sizes.items():
        name = family.settings.get(name, name)
        if settings.get(name) not in (None, found):
            raise KdedgeError(
                f"{where}: {name} is {settings[name]!r} in config.json, but {found} in the tensors."
            )
    # transformers reads BERT's name in a DistilBERT too, where it goes before n_heads.
    heads = settings.get("num_attention_heads") or setting("num_attention_heads")
    if not isinstance(heads, int) or heads < 1 or sizes["hidden_size"] % heads:
        raise KdedgeError(
            f"{where}: num_attention_heads is {heads!r}; it must divide the width, "
            f"{sizes['hidden_size']}."
        )
    numbers = {
        "layer_norm_eps": setting("layer_norm_eps", 1e-12),
        "hidden_dropout_prob": setting("hidden_dropout_prob"),
        "attention_probs_dropout_prob": setting("attention_probs_dropout_prob"),
    }
    for name, value in numbers.items():
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise KdedgeError(
                f"{where}: {family.settings.get(name, name)} is {value!r} in config.json; a number "
                "from 0 to below 1 is needed."
            )
    layers = setting("num_hidden_layers") if shared else sizes["num_hidden_layers"]
    padding = setting("pad_token_id") if family.first_position else None
    most = sizes["max_position_embeddings"] - 4
    whole = {"num_hidden_layers": (layers, 1, 1000), "pad_token_id": (padding, 0, most)}
    for name, (number, low, high) in whole.items():
        if number is not None and not (type(number) is int and low <= number <= high):
            raise KdedgeError(
                f"{where}: {name} is {number!r} in config.json; a whole number from {low} to "
                f"{high} is needed."
            )
    act = setting("hidden_act")
    if not isinstance(act, str) or act not in ACTIVATIONS:
        raise KdedgeError(
            f"{where}: {family.settings.get('hidden_act', 'hidden_act')} {act!r} is not supported, "
            f"only {', '.join(sorted(ACTIVATIONS))}. {ANY_OTHER}"
        )
    return Shape(
        vocabulary=sizes["vocab_size"],
        positions=sizes["max_position_embeddings"],
        segments=sizes.get("type_vocab_size", 0),
        embedding_width=sizes.get("embedding_size", sizes["hidden_size"]),
        width=sizes["hidden_size"],
        layers=layers,
        heads=heads,
        inner=sizes["intermediate_size"],
        activation=act,
        epsilon=numbers["layer_norm_eps"],
        dropout=numbers["hidden_dropout_prob"],
        attention_dropout=numbers["attention_probs_dropout_prob"],
        padding=padding,
        shared=shared,
        relative_positions=size("relative_bias", 0) if "relative_bias" in family.parts else 0,
    )


def _count(name: str, tensors: Tensors) -> int:
    """The number of blocks that have this part."""
    number = 0
    while f"{name.format(number)}.weight" in tensors:
        number += 1
    return number

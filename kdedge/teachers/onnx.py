"""A teacher of any architecture: an ONNX file, as optimum exports it."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from kdedge.engines import EngineError, load
from kdedge.errors import KdedgeError
from kdedge.files import refuse_pointer, sha256, write_text
from kdedge.tasks import CONFIG_KEY, Logits, Task, are_probabilities, task_of_config
from kdedge.teachers.checkpoints import (
    CONFIG,
    longest_text,
    onnx_file,
    read_config,
    tokenizer_folder_of,
)
from kdedge.teachers.classes import label_names, order_of
from kdedge.teachers.teacher import Inputs, TeacherOutputs
from kdedge.text.encoder import ENCODER, TextEncoder

OPTIMUM = (
    "`optimum-cli export onnx --model MODEL --task text-classification FOLDER` makes one that fits."
)
# Several texts, because some files take one text only, and because a model for several labels whose
# outputs are between 0 and 1 for all of them gives probabilities.
TRIED = ("a", "a b", "It is what it is.", "2 + 2 = 4")


class OnnxTeacher:
    """A classifier that ONNX Runtime runs; it returns logits only.

    Args:
        path: the file, with the inputs `input_ids`, `attention_mask` and optionally
            `token_type_ids`, and the output `logits`, or one output with another name.
        encoder: converts texts to its inputs.
        config: the config.json beside it; {} if there is none.

    Raises:
        KdedgeError: ONNX Runtime can't run the file on texts of the encoder's length, it has other
            inputs or outputs, or it returns probabilities.
    """

    hidden_size = None

    def __init__(self, path: Path, encoder: TextEncoder, config: Mapping[str, Any]) -> None:
        self.path, self.encoder, self.config = path, encoder, dict(config)
        refuse_pointer(path)
        try:
            self._engine = load(path, os.cpu_count() or 1)
            logits = self._engine.run(encoder.encode(TRIED).inputs)
        except EngineError as error:
            raise KdedgeError(f"{path}: {error} {OPTIMUM}") from None
        except Exception as error:  # the runtime's errors have no common base
            words = " ".join(str(error).split())
            raise KdedgeError(f"{path}: can't be run on texts: {words} {OPTIMUM}") from None
        names = label_names(config, path.parent / CONFIG)
        names = names or tuple(f"LABEL_{i}" for i in range(logits.shape[-1]))
        if logits.ndim != 2 or logits.shape[1] != len(names):
            raise KdedgeError(
                f"{path}: its output for one text is of shape {list(logits.shape[1:])}; logits of "
                f"the {len(names)} classes ({', '.join(names[:5])}) are needed. "
                f"{OPTIMUM}"
            )
        self.task: Task = task_of_config(config, names, path)
        self._refuse_probabilities(logits)
        self._try_longest()
        self.columns, self.factor, self.summand = list(range(len(names))), 1.0, 0.0
        content = [sha256(path), *map(sha256, _data(path)), encoder.tokenizer.to_str()]
        text = "\n".join([*content, str(encoder.max_length)])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def _refuse_probabilities(self, outputs: Logits) -> None:
        if are_probabilities(self.task, outputs):
            raise KdedgeError(
                f"{self.path}: its outputs look like probabilities; logits are needed. Export it "
                "without the softmax or sigmoid at its end, or import its answers with "
                "`kdedge import-labels`, which takes probabilities."
            )

    def _try_longest(self) -> None:
        length = self.encoder.max_length
        try:
            self._engine.run(self.encoder.encode(["a " * length]).inputs)
        except Exception as error:  # the runtime's errors have no common base
            words = " ".join(str(error).split())
            raise KdedgeError(
                f"{self.path}: can be run on short texts, but not on texts of {length} tokens. Set "
                "max_length (in [teach], --max-length) to the most that the model takes, or put "
                f"its {CONFIG} beside it. ONNX Runtime says: {words}"
            ) from None

    def run(self, inputs: Inputs) -> TeacherOutputs:
        """`logits`, float32 [batch, classes].

        Raises:
            KdedgeError: ONNX Runtime can't run the file on these inputs.
        """
        try:
            logits = self._engine.run(inputs)[:, self.columns]
        except Exception as error:  # the runtime's errors have no common base
            words = " ".join(str(error).split())
            hint = "Export the model without token_type_ids if it has one token type only. "
            raise KdedgeError(
                f"{self.path}: can't be run on some texts. "
                f"{hint if np.any(inputs['segment_ids']) else ''}ONNX Runtime says: {words}"
            ) from None
        return {"logits": np.asarray(self.factor * logits + self.summand, np.float32)}

    def reorder_logits(self, order: Sequence[int], task: Task) -> None:
        """Reorder and rescale the logits, so that they are those of `task`.

        Args:
            order: for each output of `task`, the index of the present logit.
            task: the new task.
        """
        factor, summand = task.from_logits_of(self.task)
        self.factor, self.summand = factor * self.factor, factor * self.summand + summand
        self.columns, self.task = [self.columns[i] for i in order], task

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that `load_onnx_teacher` reads: the same file, config.json, the tokenizer.

        `config.json` names the classes in the file's order.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # Not renamed: a large model's file refers to its weight files by name.
        for file in (self.path, *_data(self.path)):
            shutil.copy(file, folder / file.name)
        names = dict(zip(self.columns, self.task.output_names, strict=True))
        config = self.config | {"id2label": {str(i): names[i] for i in sorted(names)}}
        # They may have the former names.
        config.pop("label2id", None)
        if self.task.has_confidence:
            config.pop(CONFIG_KEY, None)
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        self.encoder.save(folder)


def load_onnx_teacher(
    source: str | Path,
    *,
    task: Task | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
    max_length: int = 128,
) -> OnnxTeacher:
    """Load an ONNX file, or the folder of one, with the tokenizer and config.json beside it.

    Args:
        source: the file or its folder. The other files are in that folder too, or in the parent of
            a folder `onnx`.
        task: the logits are put into the order of its classes, which are matched by name; None for
            the file's own task.
        names: the task's name for each class that the file calls something else.
        max_length: tokens that texts are truncated to; a folder that kdedge wrote has its own.

    Raises:
        KdedgeError: there is no such file or no tokenizer beside it, or see `OnnxTeacher`.
    """
    path = onnx_file(source)
    if path is None or not path.is_file():
        raise KdedgeError(f"{source}: no such file. {OPTIMUM}")
    folder = tokenizer_folder_of(path)
    config = read_config(folder) if (folder / CONFIG).is_file() else {}
    if (folder / ENCODER).is_file():
        encoder = TextEncoder.load(folder)
    else:
        length = min(max_length, longest_text(config) or max_length)
        encoder = TextEncoder.from_pretrained(folder, length)
    teacher = OnnxTeacher(path, encoder, config)
    if task:
        teacher.reorder_logits(order_of(teacher.task, names, task, source), task)
    return teacher


def _data(path: Path) -> list[Path]:
    """The weight files of a large model, which are beside its ONNX file."""
    return sorted(file for file in path.parent.glob(f"{path.name}?*") if file.is_file())

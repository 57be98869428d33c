"""The export stage: a Keras classifier in, a bundle of checked artifacts out."""

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdedge.bundle.manifest import (
    FORMAT_VERSION,
    Artifact,
    Manifest,
    Source,
    SparedLayer,
    write_manifest,
)
from kdedge.errors import KdedgeError
from kdedge.export.litert.convert import to_litert
from kdedge.export.litert.metadata import with_metadata
from kdedge.export.litert.quantize import LiteRTQuantization
from kdedge.export.onnx.convert import to_onnx
from kdedge.export.onnx.quantize import OnnxQuantization
from kdedge.export.parity import parity, score
from kdedge.export.selective import Quantization, spare_layers
from kdedge.files import new_folder, require_space, sha256
from kdedge.progress import progress
from kdedge.recipe import Export
from kdedge.runtime import load_engine, run
from kdedge.students.trained import Evaluation, Student, predict_logits
from kdedge.tasks import Outputs, Task
from kdedge.text.corpus import Corpus
from kdedge.text.encoder import TextEncoder
from kdedge.text.splits import Split

# transformers.js and optimum look for these names.
ONNX_FILES = {
    "float32": "model.onnx",
    "float16": "model_fp16.onnx",
    "int8": "model_quantized.onnx",
    "int8-static": "model_int8.onnx",
}
NEEDS_CALIBRATION = {"int8-full", "int16x8", "int8-static"}
MIN_CALIBRATION, MAX_CALIBRATION = 8, 256
MIN_PARITY = 500
# What an artifact may lose on the valid split, of what it may lose on the test split: chance alone
# makes the two differ by some tenths of a point.
VALID_SHARE = 0.5
ERROR_TEXTS = 128
SAMPLE_TEXTS = 256
# What an app should run on a CPU: small and fast. Not chosen by a clock, so that two exports of a
# student are equal. ONNX Runtime is slow in float16, and at integer convolutions.
PREFERRED = {
    "litert": ("int8", "int8-weights", "int8-full", "int16x8", "int4", "float16", "float32"),
    "onnx": ("int8", "float32", "int8-static", "float16"),
}
# Rounding alone gives 1e-6; a wrong op far more.
FLOAT32_MAX_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Subject:
    """A model to export, with what it is held against.

    Attributes:
        name: a student's preset, or teacher.
        model: takes a dictionary of int32 [batch, length] ids, mask and segment_ids; gives logits
            float32 [batch, classes] or a dictionary with `logits`.
        parameters: number of its weights.
        encoder: what turns texts into its inputs.
        task: what the logits are of.
        valid: what the model says of the texts on which choices are made.
        test: what it says of the texts for the figures.
        calibration: real texts, for the ranges of activations; None for those of `valid`.
        samples: texts that the bundle holds, for `kdedge bench`; None for those of `test`.
        variables: what holds the model's variables, where Keras does not know them.
    """

    name: str
    model: keras.Model
    parameters: int
    encoder: TextEncoder
    task: Task
    valid: Evaluation
    test: Evaluation
    calibration: tuple[str, ...] | None = None
    samples: tuple[str, ...] | None = None
    variables: Any = None


def subject_of(student: Student) -> Subject:
    """A student as something to export."""
    return Subject(
        name=student.notes["preset"],
        model=student.model,
        parameters=student.model.count_params(),
        encoder=student.encoder,
        task=student.task,
        valid=student.valid,
        test=student.test,
    )


def subject_of_classifier(
    name: str,
    model: keras.Model,
    encoder: TextEncoder,
    corpus: Corpus,
    variables: Any = None,
) -> Subject:
    """Any classifier as something to export; it is run on the corpus's valid and test splits.

    Args:
        name: for manifest and reports.
        model: takes a dictionary of int32 [batch, length] ids, mask and segment_ids; gives logits
            float32 [batch, classes], in the order of the corpus's label names, or a dictionary
            with `logits`.
        encoder: what turns texts into its inputs.
        corpus: real texts with labels; its training split is not looked at.
        variables: what holds the model's variables, where Keras does not know them.

    Raises:
        KdedgeError: the model takes other inputs or has another number of classes.
    """

    def said_of(split: Split) -> Evaluation:
        return Evaluation(split.texts, split.labels, predict_logits(model, encoder, split.texts))

    try:
        valid, test = said_of(corpus.valid), said_of(corpus.test)
    except (ValueError, KeyError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise KdedgeError(
            f"{name}: it can't be run on int32 [batch, length] ids, mask and segment_ids: {error}"
        ) from None
    if test.logits.ndim != 2 or test.logits.shape[1] != corpus.task.width:
        raise KdedgeError(
            f"{name}: its output for one text is of shape {list(test.logits.shape[1:])}; the data "
            f"has {corpus.task.width}: {corpus.task}."
        )
    return Subject(
        name=name,
        model=model,
        parameters=(variables or model).count_params(),
        encoder=encoder,
        task=corpus.task,
        valid=valid,
        test=test,
        variables=variables,
    )


def export_bundle(subject: Subject, settings: Export, out: Path) -> Manifest:
    """Convert, load each artifact in its runtime, compare it with its source, write the bundle.

    Where a quantization loses more accuracy on the valid split than allowed, the layers that cause
    it are spared (`kdedge.export.selective`).

    Raises:
        KdedgeError: a length does not fit, too few texts, `out` exists, a conversion fails; or an
            artifact loses more accuracy on the test split than allowed: the bundle is then written
            without it.
    """
    jobs = _jobs(settings)
    _check(subject, settings, [job.quantization for job in jobs], out)
    task = subject.task
    source_score = score(task, task.outputs(subject.test.logits), subject.test.labels)
    converter = _Converter(subject, settings)
    artifacts, refused = [], []
    with new_folder(out) as folder:
        _write_texts(subject, folder)
        with progress(f"exporting {subject.name}", len(jobs), "artifacts") as advance:
            for job in jobs:
                artifact = converter.convert(job, folder)
                drop = 100 * (source_score.value - artifact.score.value)
                if drop > settings.max_accuracy_drop:
                    refused.append(f"{job.name} loses {drop:.2f} points")
                    (folder / artifact.file).unlink()
                else:
                    artifacts.append(artifact)
                advance(1, job.name)
        lost = (
            f"{out}: refused: {'; '.join(refused)} of {task.metric}, more than max_accuracy_drop = "
            f"{settings.max_accuracy_drop}."
        )
        if not artifacts:
            raise KdedgeError(f"{lost} No artifact is left, so no bundle was written.")
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            kdedge=version("kdedge"),
            task=task,
            max_length=subject.encoder.max_length,
            source=Source(name=subject.name, parameters=subject.parameters, score=source_score),
            artifacts=tuple(artifacts),
            defaults=_defaults(artifacts, settings.lengths[0]),
            files={
                str(path.relative_to(folder)): sha256(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        )
        write_manifest(folder, manifest)
    if refused:
        raise KdedgeError(f"{lost} The other artifacts were written.")
    return manifest


@dataclass(frozen=True)
class _Job:
    """One artifact to make; `length` is None for ONNX, which takes any."""

    name: str
    file: str
    quantization: str
    length: int | None


def _jobs(settings: Export) -> list[_Job]:
    jobs = []
    for name in settings.artifacts:
        runtime, _, quantization = name.partition("-")
        if runtime == "onnx":
            jobs.append(_Job(name, f"onnx/{ONNX_FILES[quantization]}", quantization, None))
            continue
        stem = f"litert/model_{quantization.replace('-', '_')}"
        for length in settings.lengths:
            plain = length == settings.lengths[0]
            jobs.append(
                _Job(
                    name if plain else f"{name}-{length}",
                    f"{stem}.tflite" if plain else f"{stem}_{length}.tflite",
                    quantization,
                    length,
                )
            )
    return jobs


def _check(subject: Subject, settings: Export, quantizations: list[str], out: Path) -> None:
    if max(settings.lengths) > subject.encoder.max_length:
        raise KdedgeError(
            f"lengths: {max(settings.lengths)}; this model takes at most "
            f"{subject.encoder.max_length}."
        )
    if not subject.test.texts:
        raise KdedgeError("test: no texts; an artifact must be proven on real texts.")
    calibration = len(_calibration(subject))
    if calibration < MIN_CALIBRATION and NEEDS_CALIBRATION & {*quantizations}:
        raise KdedgeError(
            f"calibration: {calibration} texts; at least {MIN_CALIBRATION}, as varied as what the "
            "app will meet, are needed to find the ranges of activations. Name a file with more: "
            "--calibration FILE."
        )
    require_space(out.parent, 5 * len(quantizations) * subject.parameters)


def _calibration(subject: Subject) -> tuple[str, ...]:
    texts = subject.valid.texts if subject.calibration is None else subject.calibration
    return texts[:MAX_CALIBRATION]


class _Converter:
    """Makes artifacts; converts to float32 once a length."""

    def __init__(self, subject: Subject, settings: Export) -> None:
        self.subject, self.settings = subject, settings
        self.float32: dict[int | None, bytes] = {}
        self.vocabulary = subject.encoder.vocabulary
        self.calibration = _calibration(subject)
        self.threads = os.cpu_count() or 1
        self.proof_texts, logits = subject.test.texts, subject.test.logits
        if len(self.proof_texts) < MIN_PARITY:
            # The valid split's are real texts too.
            self.proof_texts += subject.valid.texts
            logits = np.concatenate([logits, subject.valid.logits])
        self.reference = subject.task.outputs(logits)

    def convert(self, job: _Job, folder: Path) -> Artifact:
        path = folder / job.file
        path.parent.mkdir(exist_ok=True)
        content = self._float32(job.length)
        spared: tuple[SparedLayer, ...] = ()
        if job.quantization != "float32":
            content, spared = spare_layers(
                self._quantization(job),
                lambda trial: self._error(trial, path),
                lambda trial: self._holds(trial, path),
            )
        self._write(content, path)
        said = self._run(path, self.proof_texts)
        if not np.isfinite(said).all():
            raise KdedgeError(f"{job.name}: the converted model gives numbers that are not finite.")
        task = self.subject.task
        difference = parity(task, said, self.reference)
        if job.quantization == "float32" and difference.max_difference > FLOAT32_MAX_DIFFERENCE:
            raise KdedgeError(
                f"{job.name}: the converted model says something else than its source: "
                f"{task.output} differ by up to {difference.max_difference:.2g}, and "
                f"{FLOAT32_MAX_DIFFERENCE:g} is the most. One of its ops was converted wrong."
            )
        labels = self.subject.test.labels
        return Artifact(
            name=job.name,
            file=job.file,
            format="onnx" if job.length is None else "litert",
            quantization=job.quantization,
            length=job.length,
            bytes=path.stat().st_size,
            gzip_bytes=len(gzip.compress(path.read_bytes(), 9)),
            spared=spared,
            parity=difference,
            score=score(task, said[: len(labels)], labels),
        )

    def _float32(self, length: int | None) -> bytes:
        if length not in self.float32:
            s = self.subject
            self.float32[length] = (
                to_onnx(s.model)
                if length is None
                else to_litert(s.model, s.task, length, s.variables)
            )
        return self.float32[length]

    def _quantization(self, job: _Job) -> Quantization:
        content = self._float32(job.length)
        encoded = self.subject.encoder.encode(self.calibration, job.length)
        if job.length is None:
            return OnnxQuantization(content, job.quantization, encoded)
        return LiteRTQuantization(content, job.quantization, encoded, self.settings.integer_output)

    def _write(self, content: bytes, path: Path) -> None:
        # MediaPipe reads float probabilities only.
        if path.suffix == ".tflite" and not self.settings.integer_output:
            content = with_metadata(content, self.vocabulary, self.subject.task.output_names)
        path.write_bytes(content)

    def _run(self, path: Path, texts: Sequence[str]) -> Outputs:
        s = self.subject
        return run(load_engine(path, self.threads), s.task, s.encoder, texts)

    def _error(self, content: bytes, path: Path) -> float:
        """Mean |difference| of outputs from those of the float32 model."""
        valid = self.subject.valid
        path.write_bytes(content)
        source = self.subject.task.outputs(valid.logits[:ERROR_TEXTS])
        difference = self._run(path, valid.texts[:ERROR_TEXTS]) - source
        return float(np.abs(difference).mean())

    def _holds(self, content: bytes, path: Path) -> bool:
        task, valid = self.subject.task, self.subject.valid
        if not valid.texts:
            return True
        path.write_bytes(content)
        said = self._run(path, valid.texts)
        source = task.outputs(valid.logits)
        drop = task.score(source, valid.labels) - task.score(said, valid.labels)
        # Answers that are the same lose nothing, on whatever texts.
        changed = 1 - task.agreement(said, source)
        return 100 * min(changed, drop / VALID_SHARE) <= self.settings.max_accuracy_drop


def _defaults(artifacts: list[Artifact], length: int) -> dict[str, str]:
    """For each format the artifact that comes first in `PREFERRED`."""
    chosen = {}
    for name, order in PREFERRED.items():
        own = [a for a in artifacts if a.format == name and a.length in (None, length)]
        if own:
            chosen[name] = min(own, key=lambda a: order.index(a.quantization)).name
    return chosen


def _write_texts(subject: Subject, folder: Path) -> None:
    subject.encoder.save(folder)
    names = subject.task.output_names
    (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    # A text of several lines would be several texts in this file.
    texts = subject.test.texts if subject.samples is None else subject.samples
    samples = [text for text in texts if len(text.splitlines()) == 1][:SAMPLE_TEXTS]
    (folder / "sample_texts.txt").write_text("\n".join(samples) + "\n", encoding="utf-8")
    # What Hugging Face's clients read: AutoTokenizer, optimum, transformers.js.
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
    normalizer = json.loads(subject.encoder.tokenizer.to_str())["normalizer"] or {}
    tokenizer_config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": normalizer.get("lowercase", True),
        "model_max_length": subject.encoder.max_length,
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(tokenizer_config, indent=2) + "\n", encoding="utf-8"
    )

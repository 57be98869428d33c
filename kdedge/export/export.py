"""The export stage: a Keras classifier in, a bundle of checked artifacts out."""

import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kdedge.bundle import FORMAT_VERSION, MANIFEST, Artifact, Manifest, Source
from kdedge.errors import KdedgeError
from kdedge.export.litert import to_litert
from kdedge.export.onnx import to_onnx
from kdedge.export.parity import accuracy, parity
from kdedge.files import new_folder, require_space, sha256
from kdedge.progress import progress
from kdedge.recipe import Export
from kdedge.runtime import classify, load_engine, softmax
from kdedge.students.student import Student
from kdedge.text.encoder import TextEncoder

# transformers.js and optimum look for these names.
FILES = {
    "litert-float32": "litert/model_float32.tflite",
    "litert-int8": "litert/model_int8.tflite",
    "onnx-float32": "onnx/model.onnx",
    "onnx-int8": "onnx/model_quantized.onnx",
}
SAMPLE_TEXTS = 256
# Rounding alone gives 1e-6; a wrong op far more.
FLOAT32_MAX_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Subject:
    """A classifier to export, with what it is held against.

    Attributes:
        name: a student's preset, or teacher.
        model: takes a dictionary of int32 [batch, length] ids, mask and segment_ids; gives logits
            float32 [batch, classes] or a dictionary with `logits`.
        parameters: number of its weights.
        encoder: what turns texts into its inputs.
        label_names: the classes, in the order of the logits.
        texts: real texts, for parity and accuracy.
        labels: int32 [texts], the true ones.
        logits: float32 [texts, classes], what the model says of them.
        variables: what holds the model's variables, where Keras does not know them.
    """

    name: str
    model: keras.Model
    parameters: int
    encoder: TextEncoder
    label_names: tuple[str, ...]
    texts: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    variables: Any = None


def subject_of(student: Student) -> Subject:
    """A student as something to export."""
    e = student.test
    return Subject(
        name=student.notes["preset"],
        model=student.model,
        parameters=student.model.count_params(),
        encoder=student.encoder,
        label_names=student.label_names,
        texts=e.texts,
        labels=e.labels,
        logits=e.logits,
    )


def export_bundle(subject: Subject, settings: Export, out: Path) -> Manifest:
    """Convert, load each artifact in its runtime, compare it with its source, write the bundle.

    Raises:
        KdedgeError: the length does not fit, `out` exists, a conversion fails; or an artifact loses
            more accuracy than allowed: the bundle is then written without it.
    """
    if settings.length > subject.encoder.max_length:
        raise KdedgeError(
            f"length: {settings.length}; this model takes at most {subject.encoder.max_length}."
        )
    if not subject.texts:
        raise KdedgeError("texts: none; an artifact must be proven on real texts.")
    require_space(out.parent, 5 * len(settings.artifacts) * subject.parameters)
    reference = softmax(subject.logits)
    source_accuracy = accuracy(reference, subject.labels)
    artifacts, refused = [], []
    with new_folder(out) as folder:
        _write_texts(subject, folder)
        with progress(f"exporting {subject.name}", len(settings.artifacts), "artifacts") as advance:
            for name in settings.artifacts:
                artifact = _convert(subject, settings, name, folder, reference)
                drop = 100 * (source_accuracy.value - artifact.accuracy.value)
                if drop > settings.max_accuracy_drop:
                    refused.append(f"{name} loses {drop:.2f} points")
                    (folder / artifact.file).unlink()
                else:
                    artifacts.append(artifact)
                advance(1, name)
        lost = (
            f"{out}: refused: {'; '.join(refused)} of accuracy, more than max_accuracy_drop = "
            f"{settings.max_accuracy_drop}."
        )
        if not artifacts:
            raise KdedgeError(f"{lost} No artifact is left, so no bundle was written.")
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            kdedge=version("kdedge"),
            labels=subject.label_names,
            max_length=subject.encoder.max_length,
            source=Source(
                name=subject.name, parameters=subject.parameters, accuracy=source_accuracy
            ),
            artifacts=tuple(artifacts),
            files={
                str(path.relative_to(folder)): sha256(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    if refused:
        raise KdedgeError(f"{lost} The other artifacts were written.")
    return manifest


def _convert(
    subject: Subject,
    settings: Export,
    name: str,
    folder: Path,
    reference: npt.NDArray[np.float32],
) -> Artifact:
    runtime, quantization = name.split("-")
    path = folder / FILES[name]
    path.parent.mkdir(exist_ok=True)
    if runtime == "litert":
        to_litert(subject.model, path, settings.length, quantization, subject.variables)
    else:
        to_onnx(subject.model, path, quantization)
    engine = load_engine(path, threads=os.cpu_count() or 1)
    said = classify(engine, subject.encoder, subject.texts)
    if not np.isfinite(said).all():
        raise KdedgeError(f"{name}: the converted model gives numbers that are not finite.")
    difference = parity(said, reference)
    if quantization == "float32" and difference.max_difference > FLOAT32_MAX_DIFFERENCE:
        raise KdedgeError(
            f"{name}: the converted model says something else than its source: probabilities "
            f"differ by up to {difference.max_difference:.2g}, and {FLOAT32_MAX_DIFFERENCE:g} is "
            "the most. One of its ops was converted wrong."
        )
    return Artifact(
        name=name,
        file=FILES[name],
        format="litert" if runtime == "litert" else "onnx",
        quantization=quantization,
        length=settings.length if runtime == "litert" else None,
        bytes=path.stat().st_size,
        parity=difference,
        accuracy=accuracy(said, subject.labels),
    )


def _write_texts(subject: Subject, folder: Path) -> None:
    subject.encoder.save(folder)
    names = subject.label_names
    (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    # A text of several lines would be several texts in this file.
    samples = [text for text in subject.texts if len(text.splitlines()) == 1][:SAMPLE_TEXTS]
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

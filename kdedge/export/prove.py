"""Makes one artifact after the other, and proves each in its own runtime on real text."""

import gzip
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from kdedge.bundle.manifest import (
    Artifact,
    SparedLayer,
)
from kdedge.errors import KdedgeError
from kdedge.export.litert.convert import to_litert
from kdedge.export.litert.metadata import with_metadata
from kdedge.export.litert.quantize import LiteRTQuantization, LiteRTQuantizer
from kdedge.export.onnx.convert import to_onnx
from kdedge.export.onnx.quantize import OnnxQuantization, OnnxQuantizer
from kdedge.export.parity import parity, score
from kdedge.export.selective import Quantizer, spare_layers
from kdedge.export.subject import Subject
from kdedge.files import require_space
from kdedge.recipe import ARTIFACTS, Export
from kdedge.runtime import load_engine, run
from kdedge.tasks import Outputs

MIN_CALIBRATION, MAX_CALIBRATION = 8, 256
MIN_PARITY = 500
# What an artifact may lose on the valid split, of what it may lose on the test split: chance alone
# makes the two differ by some tenths of a point.
VALID_SHARE = 0.5
ERROR_TEXTS = 128
# Rounding alone gives 1e-6; a wrong op far more.
FLOAT32_MAX_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Planned:
    """An artifact to make.

    Attributes:
        name: as the manifest has it.
        file: path inside the bundle.
        precision: what follows the format in its name: float32, int8, ...
        quantization: how; None for float32.
        length: tokens; None for ONNX, which takes any.
    """

    name: str
    file: str
    precision: str
    quantization: LiteRTQuantization | OnnxQuantization | None
    length: int | None


def quantization_of(artifact: str) -> LiteRTQuantization | OnnxQuantization | None:
    """How an artifact in `ARTIFACTS` is quantized; None for float32."""
    module = ARTIFACTS[artifact]
    return import_module(module).QUANTIZATION if module else None


def planned(settings: Export) -> list[Planned]:
    """The artifacts that the settings ask for."""
    found = []
    for name in settings.artifacts:
        runtime, _, precision = name.partition("-")
        quantization = quantization_of(name)
        if runtime == "onnx":
            file = quantization.file if isinstance(quantization, OnnxQuantization) else "model.onnx"
            found.append(Planned(name, f"onnx/{file}", precision, quantization, None))
            continue
        stem = f"litert/model_{precision.replace('-', '_')}"
        for length in settings.lengths:
            plain = length == settings.lengths[0]
            found.append(
                Planned(
                    name if plain else f"{name}-{length}",
                    f"{stem}.tflite" if plain else f"{stem}_{length}.tflite",
                    precision,
                    quantization,
                    length,
                )
            )
    return found


def check(subject: Subject, settings: Export, artifacts: Sequence[Planned], out: Path) -> None:
    """Check before any conversion that lengths, texts and disk are enough.

    Raises:
        KdedgeError: they are not.
    """
    if max(settings.lengths) > subject.encoder.max_length:
        raise KdedgeError(
            f"lengths: {max(settings.lengths)}; this model takes at most "
            f"{subject.encoder.max_length}."
        )
    if not subject.test.texts:
        raise KdedgeError("test: no texts; an artifact must be proven on real texts.")
    calibration = len(_calibration(subject))
    needed = any(a.quantization and a.quantization.needs_calibration for a in artifacts)
    if calibration < MIN_CALIBRATION and needed:
        raise KdedgeError(
            f"calibration: {calibration} texts; at least {MIN_CALIBRATION}, as varied as what the "
            "app will meet, are needed to find the ranges of activations. Name a file with more: "
            "--calibration FILE."
        )
    require_space(out.parent, 5 * len(artifacts) * subject.parameters)


def _calibration(subject: Subject) -> tuple[str, ...]:
    texts = subject.valid.texts if subject.calibration is None else subject.calibration
    return texts[:MAX_CALIBRATION]


class Prover:
    """Makes and proves the artifacts of a subject; converts to float32 once a length."""

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

    def make(self, planned: Planned, folder: Path) -> Artifact:
        """Convert, quantize, load and compare one artifact; it stays in the bundle's folder.

        Where a quantization loses more than allowed on the valid split, the layers that cause it
        are spared (`kdedge.export.selective`).

        Raises:
            KdedgeError: a conversion fails, or the file says something else than its source.
        """
        path = folder / planned.file
        path.parent.mkdir(exist_ok=True)
        content = self._float32(planned.length)
        spared: tuple[SparedLayer, ...] = ()
        if planned.quantization:
            content, spared = spare_layers(
                self._quantizer(planned.quantization, planned.length),
                lambda trial: self._error(trial, path),
                lambda trial: self._holds(trial, path),
            )
        self._write(content, path)
        said = self._run(path, self.proof_texts)
        if not np.isfinite(said).all():
            raise KdedgeError(
                f"{planned.name}: the converted model gives numbers that are not finite."
            )
        task = self.subject.task
        difference = parity(task, said, self.reference)
        if planned.quantization is None and difference.max_difference > FLOAT32_MAX_DIFFERENCE:
            raise KdedgeError(
                f"{planned.name}: the converted model says something else than its source: "
                f"{task.output} differ by up to {difference.max_difference:.2g}, and "
                f"{FLOAT32_MAX_DIFFERENCE:g} is the most. One of its ops was converted wrong."
            )
        labels = self.subject.test.labels
        return Artifact(
            name=planned.name,
            file=planned.file,
            format="onnx" if planned.length is None else "litert",
            quantization=planned.precision,
            length=planned.length,
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

    def _quantizer(
        self, quantization: LiteRTQuantization | OnnxQuantization, length: int | None
    ) -> Quantizer:
        content = self._float32(length)
        encoded = self.subject.encoder.encode(self.calibration, length)
        if isinstance(quantization, OnnxQuantization):
            return OnnxQuantizer(content, quantization, encoded)
        return LiteRTQuantizer(content, quantization, encoded, self.settings.integer_output)

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

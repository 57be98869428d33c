"""Makes the artifacts, and checks each in its own runtime on real texts."""

import gzip
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np

from kdedge.bundle.decision import Trust
from kdedge.bundle.manifest import Artifact, SparedLayer, score_of
from kdedge.defaults import several_lengths
from kdedge.errors import KdedgeError
from kdedge.export.litert.convert import to_litert
from kdedge.export.litert.merge import merged
from kdedge.export.litert.metadata import with_metadata
from kdedge.export.litert.quantize import LiteRTQuantization, LiteRTQuantizer
from kdedge.export.onnx.convert import to_onnx
from kdedge.export.onnx.quantize import OnnxQuantization, OnnxQuantizer
from kdedge.export.parity import parity
from kdedge.export.selective import Quantizer, spare_layers
from kdedge.export.subject import Subject
from kdedge.export.trust import Predictions, trust_of
from kdedge.files import require_space
from kdedge.recipe import ARTIFACTS, SEVERAL, Decide, Export
from kdedge.runtime import load_engines, max_batch_of, run_model
from kdedge.text.encoder import padded
from kdedge.text.pairs import Text

MIN_CALIBRATION, MAX_CALIBRATION = 8, 256
MIN_PARITY = 500
# Loss allowed on the valid split / loss allowed on the test split. By chance the two differ by some
# tenths of a point.
VALID_SHARE = 0.5
# The loss of this number of valid texts is always allowed: with few texts it can be chance, and a
# layer that stays in float32 can make the file three times as large.
VALID_CHANCE = 1
# Differences of shares are rounded: 0.86 - 0.85 is more than 0.01.
ROUNDING = 1e-9
ERROR_TEXTS = 128
PADDING_TEXTS = 64
# The largest difference of outputs between a float32 file and its source, and between lengths.
# Rounding gives about 1e-6; a wrongly converted op, or padding that is not masked, far more.
MAX_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Planned:
    """An artifact to make.

    Attributes:
        name: its name in the manifest.
        file: path inside the bundle.
        precision: its name without the format: float32, int8, ...
        quantization: how it is quantized; None for float32.
        lengths: tokens that inputs may have, the largest first; empty for ONNX, which takes any.
    """

    name: str
    file: str
    precision: str
    quantization: LiteRTQuantization | OnnxQuantization | None
    lengths: tuple[int, ...] = ()


def quantization_of(artifact: str) -> LiteRTQuantization | OnnxQuantization | None:
    """The quantization of an artifact in `ARTIFACTS`; None for float32."""
    module = ARTIFACTS[artifact]
    return import_module(module).QUANTIZATION if module else None


def planned(settings: Export, subject: Subject) -> list[Planned]:
    """The artifacts that the settings ask for, of this model.

    Raises:
        KdedgeError: no text needs one of the lengths.
    """
    encoder = subject.encoder
    tokens = [len(row.ids) for row in encoder.tokens(_proof_texts(subject))]
    suited = settings.lengths or several_lengths(tokens, encoder.max_length)
    lengths = largest, *smaller = tuple(sorted(suited, reverse=True))
    needed = {min((n for n in lengths if n >= count), default=largest) for count in tokens}
    unproven = sorted({*smaller} - needed)
    if unproven and any(name.endswith(SEVERAL) for name in settings.artifacts):
        raise KdedgeError(
            f"lengths: {unproven}; no text of the test split needs them, so they can't be checked. "
            "Leave these lengths out."
        )
    plans = []
    for name in settings.artifacts:
        runtime, _, precision = name.removesuffix(SEVERAL).partition("-")
        quantization = quantization_of(name)
        if runtime == "onnx":
            file = quantization.file if isinstance(quantization, OnnxQuantization) else "model.onnx"
            plans.append(Planned(name, f"onnx/{file}", precision, quantization))
        else:
            file = f"litert/model_{name.removeprefix('litert-').replace('-', '_')}.tflite"
            file_lengths = lengths if name.endswith(SEVERAL) else (largest,)
            plans.append(Planned(name, file, precision, quantization, file_lengths))
    return plans


def check(subject: Subject, settings: Export, out: Path) -> None:
    """Check lengths, texts and disk space before any conversion.

    Raises:
        KdedgeError: a length is too large, or there are too few texts or too little space.
    """
    if settings.lengths and max(settings.lengths) > subject.encoder.max_length:
        raise KdedgeError(
            f"lengths: {max(settings.lengths)}; this model takes at most "
            f"{subject.encoder.max_length}. Use no larger ones: lengths in [export], --lengths."
        )
    if not subject.test.texts:
        raise KdedgeError("test: no texts. Add some: each artifact is checked on real texts.")
    calibration = len(_calibration(subject))
    used = map(quantization_of, settings.artifacts)
    needed = any(quantization and quantization.needs_calibration for quantization in used)
    if calibration < MIN_CALIBRATION and needed:
        raise KdedgeError(
            f"calibration: {calibration} texts; at least {MIN_CALIBRATION}, as varied as what the "
            "app will meet, are needed to find the ranges of activations. Name a file with more: "
            "--calibration FILE."
        )
    require_space(out.parent, 5 * len(settings.artifacts) * subject.parameters)


def _calibration(subject: Subject) -> tuple[Text, ...]:
    texts = subject.valid.texts if subject.calibration is None else subject.calibration
    return texts[:MAX_CALIBRATION]


def _proof_texts(subject: Subject) -> tuple[Text, ...]:
    """The texts of the test split, followed by those of the valid split if it is small."""
    few = len(subject.test.texts) < MIN_PARITY
    return subject.test.texts + (subject.valid.texts if few else ())


def _joined(contents: Sequence[bytes]) -> bytes:
    """The file for several lengths; the same file for one."""
    return contents[0] if len(contents) == 1 else merged(contents)


class _QuantizerOfLengths:
    """Quantizes one model's files of several lengths in the same way, into one file."""

    def __init__(self, quantizers: Sequence[Quantizer]) -> None:
        self.quantizers = quantizers
        self.layers, self.spared_as = quantizers[0].layers, quantizers[0].spared_as

    def __call__(self, spared: Collection[str] = ()) -> bytes:
        return _joined([quantizer(spared) for quantizer in self.quantizers])


class Prover:
    """Makes and checks the artifacts of a subject; converts to float32 once for each length."""

    def __init__(self, subject: Subject, settings: Export, decide: Decide) -> None:
        self.subject, self.settings, self.decide = subject, settings, decide
        self.float32: dict[int | None, bytes] = {}
        self.vocabulary = subject.encoder.vocabulary
        self.calibration = _calibration(subject)
        self.threads, self.max_batch = os.cpu_count() or 1, 1
        # The last file that ran on the valid split, and its predictions.
        self.last: tuple[bytes, Predictions] | None = None
        self.proof_texts = _proof_texts(subject)
        logits = np.concatenate([subject.test.logits, subject.valid.logits])
        self.reference = subject.task.outputs(logits[: len(self.proof_texts)])

    def make(self, planned: Planned, folder: Path) -> Artifact:
        """Convert, quantize, load and compare one artifact, and leave it in the bundle's folder.

        If a quantization loses more on the valid split than is allowed, the layers that cause the
        loss are left unquantized (`kdedge.export.selective`).

        Raises:
            KdedgeError: a conversion fails, or the outputs of the file differ from its source's.
        """
        path = folder / planned.file
        path.parent.mkdir(exist_ok=True)
        format: Literal["litert", "onnx"] = "litert" if planned.lengths else "onnx"
        self.max_batch = max_batch_of(format, planned.precision)
        lengths = planned.lengths or (None,)
        if len(planned.lengths) > 1:
            self._check_lengths(planned, path)
        spared: tuple[SparedLayer, ...] = ()
        if planned.quantization is None:
            content = _joined([self._float32(length) for length in lengths])
        else:
            quantization = planned.quantization
            content, spared = spare_layers(
                _QuantizerOfLengths([self._quantizer(quantization, length) for length in lengths]),
                lambda trial: self._error(trial, path),
                lambda trial: self._holds(trial, path),
            )
        valid = self._on_valid(content, path) if self.subject.valid.texts else None
        self._write(content, path, planned)
        predicted = self._run(path, self.proof_texts)
        outputs = predicted.outputs
        if not np.isfinite(outputs).all():
            raise KdedgeError(f"{planned.name}: the outputs of the converted model are not finite.")
        task = self.subject.task
        difference = parity(task, outputs, self.reference)
        allowed = MAX_DIFFERENCE * task.unit
        if planned.quantization is None and difference.max_difference > allowed:
            most, tokens = max(planned.lengths, default=None), self._most_tokens()
            why = "One of its ops was converted wrongly."
            if most and tokens > most:
                why = (
                    f"It truncates texts of up to {tokens} tokens to {most}: give a larger length, "
                    f"lengths in [export], --lengths, or leave {planned.name} out of `artifacts`."
                )
            raise KdedgeError(
                f"{planned.name}: the outputs of the converted model differ from its source's: "
                f"{task.output} by up to {difference.max_difference:.2g}; at most "
                f"{allowed:g} is allowed. {why}"
            )
        labels = self.subject.test.labels
        return Artifact(
            name=planned.name,
            file=planned.file,
            format=format,
            quantization=planned.precision,
            length=max(planned.lengths, default=None),
            lengths=tuple(sorted(planned.lengths)) if len(planned.lengths) > 1 else (),
            bytes=path.stat().st_size,
            gzip_bytes=len(gzip.compress(path.read_bytes(), 9)),
            spared=spared,
            parity=difference,
            score=score_of(task, outputs[: len(labels)], labels),
            trust=self._trust(planned.name, path, valid, predicted),
        )

    def _most_tokens(self) -> int:
        return max(len(row.ids) for row in self.subject.encoder.tokens(self.proof_texts))

    def _check_lengths(self, planned: Planned, path: Path) -> None:
        """Check that texts get the same outputs at the shortest length as at the longest.

        The float32 files are compared: other padding also changes how a quantized file rounds its
        activations, which in a deep model can change a probability by some hundredths.

        Raises:
            KdedgeError: they don't.
        """
        s, lengths = self.subject, (min(planned.lengths), max(planned.lengths))
        tokens = [t for t in s.encoder.tokens(self.proof_texts) if len(t.ids) <= lengths[0]]
        outputs = []
        for length in lengths:
            path.write_bytes(self._float32(length))
            inputs = padded(tokens[:PADDING_TEXTS], length, s.encoder.pad_id).inputs
            outputs.append(load_engines(path, 1)[0].run(inputs))
        difference = np.abs(outputs[0] - outputs[1]).max()
        allowed = MAX_DIFFERENCE * s.task.unit
        if difference > allowed:
            raise KdedgeError(
                f"{planned.name}: padding changes answers: {s.task.output} of a text differ by up "
                f"to {difference:.2g} between {lengths[0]} and {lengths[1]} tokens; at most "
                f"{allowed:g} is allowed. The model must ignore tokens whose mask is 0; or leave "
                f"{planned.name} out of `artifacts` (of a teacher: `teacher_artifacts`)."
            )

    def _trust(
        self, name: str, path: Path, valid: Predictions | None, proof: Predictions
    ) -> Trust | None:
        """When to trust the file's answers; None without valid texts."""
        s, tests = self.subject, len(self.subject.test.labels)
        if valid is None:
            return None
        # The texts start with those of the test split.
        test = proof.at(slice(tests))._replace(labels=s.test.labels)
        out_of_scope = self._run(path, s.out_of_scope) if s.out_of_scope else None
        return trust_of(name, s.task, valid, test, self.decide, out_of_scope)

    def _float32(self, length: int | None) -> bytes:
        if length not in self.float32:
            s = self.subject
            if length is None:
                # The LiteRT files of a large model, one for each length, can fill the memory.
                self.float32.clear()
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

    def _write(self, content: bytes, path: Path, planned: Planned) -> None:
        # MediaPipe supports only float outputs, one length, BERT's word pieces and single texts,
        # which it turns into lower case.
        s = self.subject
        is_read = s.encoder.is_berts and s.encoder.tokenizer.normalizer.lowercase
        is_read = is_read and not s.has_pairs and not self.settings.integer_output
        if len(planned.lengths) == 1 and is_read:
            content = with_metadata(content, self.vocabulary, s.task.output_names, s.task.output)
        path.write_bytes(content)

    def _run(self, path: Path, texts: Sequence[Text]) -> Predictions:
        s, engines = self.subject, load_engines(path, self.threads)
        outputs, unknown, familiarity, lengths = run_model(
            engines, s.encoder, s.task, texts, self.max_batch, s.familiarity
        )
        return Predictions(outputs, np.empty(0), unknown, familiarity, lengths)

    def _on_valid(self, content: bytes, path: Path) -> Predictions:
        """Predictions of a file for the valid split; `path` is where to write it."""
        if self.last is None or self.last[0] is not content:
            path.write_bytes(content)
            valid = self.subject.valid
            self.last = content, self._run(path, valid.texts)._replace(labels=valid.labels)
        return self.last[1]

    def _error(self, content: bytes, path: Path) -> float:
        """Mean absolute difference of the outputs from those of the source."""
        valid = self.subject.valid
        path.write_bytes(content)
        source = self.subject.task.outputs(valid.logits[:ERROR_TEXTS])
        difference = self._run(path, valid.texts[:ERROR_TEXTS]).outputs - source
        return float(np.abs(difference).mean())

    def _holds(self, content: bytes, path: Path) -> bool:
        task, valid = self.subject.task, self.subject.valid
        if not valid.texts:
            return True
        outputs = self._on_valid(content, path).outputs
        source = task.outputs(valid.logits)
        drop = task.score(source, valid.labels) - task.score(outputs, valid.labels)
        changed = 1 - task.agreement(outputs, source)
        return holds(changed, drop, len(valid.texts), self.settings.max_accuracy_drop)


def holds(changed: float, drop: float, texts: int, max_accuracy_drop: float) -> bool:
    """Whether a quantized file keeps enough of the valid split's answers.

        >>> holds(changed=0.02, drop=0.01, texts=100, max_accuracy_drop=0.5)  # one text lost
        True

    Args:
        changed: share of the answers that differ from the source's.
        drop: loss of the task's metric, which is 0 to 1.
        texts: number of valid texts.
        max_accuracy_drop: points of the metric that may be lost on the test split.
    """
    chance = 100 * VALID_CHANCE / texts
    # If no answer changes, nothing is lost, whatever the texts are.
    few_change = 100 * changed <= max(max_accuracy_drop, chance) + ROUNDING
    return few_change or 100 * drop <= max(VALID_SHARE * max_accuracy_drop, chance) + ROUNDING

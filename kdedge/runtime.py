"""Runs the models of a bundle on texts: the reference implementation for apps.

Needs `pip install 'kdedge[runtime]'` and no TensorFlow.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import groupby
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kdedge import engines
from kdedge.bundle.decision import Decision
from kdedge.bundle.fit import check_fit
from kdedge.bundle.manifest import Artifact, Manifest, opened, verify_files
from kdedge.engines import Engine, EngineError, RuntimeMissingError
from kdedge.errors import KdedgeError
from kdedge.tasks import Outputs, Task
from kdedge.text.batches import chunks
from kdedge.text.encoder import TextEncoder, Tokens, padded
from kdedge.text.familiarity import FAMILIARITY, Familiarity
from kdedge.text.pairs import Pair, Text, check_text, parts_of

# The most texts in one inference.
MAX_BATCH = 32


class CalibratedOutputs(NamedTuple):
    """Calibrated outputs of a model for some texts, and which predictions are unsure.

    Attributes:
        outputs: float32 [texts, width], calibrated.
        predicted: bool [texts, width], the predicted labels of each text; none for scores.
        unsure: bool [texts], whether the prediction is unsure.
        unknown: float64 [texts], share of unknown tokens.
        lengths: int64 [texts], number of tokens.
    """

    outputs: Outputs
    predicted: npt.NDArray[np.bool_]
    unsure: npt.NDArray[np.bool_]
    unknown: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]


class ModelOutputs(NamedTuple):
    """Uncalibrated outputs of a model for some texts, and what their tokens are like.

    Attributes:
        outputs: float32 [texts, width], not calibrated.
        unknown: float64 [texts], share of unknown tokens.
        familiarity: float64 [texts], how like the training texts each is; infinite if the model
            has no table of it.
        lengths: int64 [texts], number of tokens.
    """

    outputs: Outputs
    unknown: npt.NDArray[np.float64]
    familiarity: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]


class TextModel:
    """One model of a bundle with the bundle's tokenizer and task.

    >>> model = load_bundle("bundle")
    >>> model.predict(["a moving, funny film"])[0].label
    'positive'

    Attributes:
        engines: the loaded model, once for each thread.
        encoder: turns texts into token ids.
        manifest: the bundle's manifest.
        decision: calibrates outputs and finds unsure answers; None if the bundle has none.
        max_batch: the most texts in one inference.
        familiarity: computes how like the training texts a text is; None if the decision does not
            need it.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        encoder: TextEncoder,
        manifest: Manifest,
        decision: Decision | None,
        max_batch: int = 1,
        familiarity: Familiarity | None = None,
    ) -> None:
        self.engines, self.encoder, self.manifest = engines, encoder, manifest
        self.decision, self.max_batch, self.familiarity = decision, max_batch, familiarity

    @property
    def engine(self) -> Engine:
        """The loaded model."""
        return self.engines[0]

    def outputs(self, texts: Sequence[Text]) -> Outputs:
        """The model's outputs, float32 [texts, width]; each is independent of the other texts.

        For classification these are probabilities that are not calibrated, in the order of
        `manifest.task.label_names`.

        Raises:
            KdedgeError: a text is empty or far too long.
        """
        return self._model_outputs(texts).outputs

    def calibrated_outputs(self, texts: Sequence[Text]) -> CalibratedOutputs:
        """Calibrated outputs of texts, and which predictions are unsure.

        Raises:
            KdedgeError: a text is empty or far too long.
        """
        task = self.manifest.task
        outputs, unknown, familiarity, lengths = self._model_outputs(texts)
        if self.decision is None:
            none_unsure = np.zeros(len(texts), bool)
            predicted = task.predicted(outputs)
            return CalibratedOutputs(outputs, predicted, none_unsure, unknown, lengths)
        decided = self.decision.decide(task, outputs, unknown, familiarity)
        return CalibratedOutputs(*decided, unknown, lengths)

    def answers(self, calibrated: CalibratedOutputs) -> list[Any]:
        """The task's answer for each text: for classification a `Prediction`."""
        outputs, unsure = calibrated.outputs.tolist(), calibrated.unsure.tolist()
        predicted = [labels.nonzero()[0].tolist() for labels in calibrated.predicted]
        return [*map(self.manifest.task.answer, outputs, unsure, predicted)]

    def predict(self, texts: Sequence[Text]) -> list[Any]:
        """Answer texts, in their order: for classification a `Prediction` for each.

            >>> load_bundle("bundle").predict(["a moving, funny film"])[0].label
            'positive'

        Args:
            texts: any iterable of texts or pairs, but no single text.

        Raises:
            KdedgeError: a text is empty or far too long, or `texts` is a single text.
        """
        texts = _as_list(texts)
        if len(texts) == 1:
            return [self._predict_one(texts[0])]
        return self.answers(self.calibrated_outputs(texts))

    def _predict_one(self, text: Text) -> Any:
        """`predict` for one text, without batches and arrays: they take longer than a small model.

        Probabilities differ from those of a list by rounding only.
        """
        self._check(text, 1)
        engine, encoder, task = self.engine, self.encoder, self.manifest.task
        (tokens,) = encoder.tokens((text,), engine.length)
        row = engine.run_text(tokens.ids, tokens.segments, encoder.pad_id)
        outputs = (row if engine.lengths else task.outputs(row)).tolist()
        if self.decision is None:
            return task.answer(outputs)
        familiarity = self.familiarity.of(tokens.ids) if self.familiarity else inf
        return self.decision.answer_one(task, outputs, encoder.unknown_share(tokens), familiarity)

    def _model_outputs(self, texts: Sequence[Text]) -> ModelOutputs:
        texts = _as_list(texts)
        for number, text in enumerate(texts, 1):
            self._check(text, number)
        task = self.manifest.task
        return run_model(self.engines, self.encoder, task, texts, self.max_batch, self.familiarity)

    def _check(self, text: Text, number: int) -> None:
        pairs = self.manifest.pairs
        if not isinstance(text, Pair if pairs else str):
            kind = "pairs of texts: Pair(text, pair)" if pairs else "single texts"
            raise KdedgeError(f"text {number}: a {type(text).__name__}; this bundle takes {kind}.")
        for part in parts_of(text):
            check_text(part, f"text {number}")


def _as_list(texts: Any) -> list[Text]:
    """A list of the texts, which may be in a column of pandas or come from a generator."""
    if isinstance(texts, list):
        return texts
    # A string has characters, a table columns, a pair two texts, a set no order. A dict's keys are
    # taken only where it has no values, as from `dict.fromkeys`.
    has_values = isinstance(texts, Mapping) and any(v is not None for v in texts.values())
    if (
        has_values
        or isinstance(texts, str | Pair | Set)
        or getattr(texts, "ndim", 1) != 1
        or not isinstance(texts, Iterable)
    ):
        raise KdedgeError(
            f"texts: a {type(texts).__name__}; a list of texts is needed: [text], or "
            "[Pair(text, pair)]."
        )
    return [*texts]


def load_bundle(
    bundle: Path | str,
    artifact: str | None = None,
    public_key: Path | str | None = None,
    threads: int = 1,
) -> TextModel:
    """Verify a bundle and load one of its models.

        >>> load_bundle("bundle", "onnx-int8").predict(["a waste of two hours"])[0].label
        'negative'

    Args:
        bundle: the folder, or a zip archive of it.
        artifact: name of the model; None for the bundle's default.
        public_key: PEM file with the public half of the key that the bundle must be signed with
            (`kdedge.bundle.signing`); None to load unsigned bundles too.
        threads: threads for lists of texts; a single text uses one.

    Raises:
        KdedgeError: the bundle is damaged, its files don't belong together, it is not signed with
            that key, or it has no such artifact; or the runtime is not installed.
    """
    with opened(Path(bundle)) as folder:
        if public_key is None:
            manifest = verify_files(folder)
        else:
            from kdedge.bundle.signing import verify_signature

            manifest = verify_signature(folder, Path(public_key))
        chosen, (encoder, highest) = manifest.artifact(artifact), check_fit(folder, manifest)
        loaded = load_engines(folder / chosen.file, threads)
        _check_fit(loaded[0], highest, manifest, chosen)
        decision = chosen.trust.decision if chosen.trust else None
        max_batch = max_batch_of(chosen.format, chosen.quantization)
        familiarity = None
        if decision and decision.min_familiarity is not None:
            if FAMILIARITY not in manifest.files:
                raise KdedgeError(
                    f"{bundle}: min_familiarity is given, but {FAMILIARITY} is not in the bundle. "
                    "Export it again."
                )
            familiarity = Familiarity.load(folder, encoder)
        return TextModel(loaded, encoder, manifest, decision, max_batch, familiarity)


def _check_fit(engine: Engine, highest: int, manifest: Manifest, artifact: Artifact) -> None:
    """Check that a model takes token ids up to `highest` and has the task's number of outputs.

    Raises:
        KdedgeError: it doesn't, or has other lengths than the manifest.
    """
    stated = artifact.lengths or ((artifact.length,) if artifact.length else ())
    if engine.lengths != stated:
        raise KdedgeError(
            f"{artifact.file}: the model takes {engine.lengths} tokens, but the manifest says "
            f"{stated}. Export the bundle again."
        )
    try:
        outputs = engine.run(padded([Tokens.of_text([highest])], engine.length).inputs)
    except Exception as error:  # the runtimes' errors have no common base
        raise KdedgeError(
            f"{artifact.file}: the model can't take token {highest}, the last one of "
            f"tokenizer.json. Export the bundle again. ({' '.join(str(error).split())[:200]})"
        ) from None
    if outputs.shape != (1, manifest.task.width):
        raise KdedgeError(
            f"{artifact.file}: the output for one text has shape {list(outputs.shape[1:])}, but "
            f"the manifest's task has width {manifest.task.width}: {manifest.task}. Export the "
            "bundle again."
        )


def load_engine(path: Path, threads: int = 1) -> Engine:
    """Load a `.tflite` or `.onnx` file in its runtime.

    Raises:
        KdedgeError: the runtime is not installed or refuses the file.
    """
    try:
        return engines.load(path, threads)
    except RuntimeMissingError as error:
        raise KdedgeError(f"{error}: pip install 'kdedge[runtime]'") from None
    except EngineError as error:
        raise KdedgeError(f"{path}: {error}") from None


def load_engines(path: Path, threads: int) -> list[Engine]:
    """Load a file once for each thread; threads of ONNX Runtime share one.

    Raises:
        KdedgeError: the runtime is not installed or refuses the file, or `threads` is below 1.
    """
    if threads < 1:
        raise KdedgeError(f"threads: {threads}; at least 1 is needed.")
    first = load_engine(path)
    others = [first if first.thread_safe else load_engine(path) for _ in range(threads - 1)]
    return [first, *others]


def max_batch_of(format: str, quantization: str) -> int:
    """The most texts in one inference.

    LiteRT files take one. So must dynamic int8 in ONNX: it has one scale for all numbers of an
    inference, so an answer would depend on the other texts.
    """
    return MAX_BATCH if format == "onnx" and quantization != "int8" else 1


def run_model(
    engines: Sequence[Engine],
    encoder: TextEncoder,
    task: Task,
    texts: Sequence[Text],
    max_batch: int = 1,
    familiarity: Familiarity | None = None,
) -> ModelOutputs:
    """Run a model on texts, with only texts of equal length in one inference.

    Args:
        engines: the loaded model, once for each thread; see `load_engines`.
        encoder: turns texts into token ids.
        task: the model's task.
        texts: texts or pairs.
        max_batch: the most texts in one inference; see `max_batch_of`.
        familiarity: computes how like the training texts each text is; None if not needed.
    """
    first = engines[0]
    rows = encoder.tokens(texts, first.length)
    outputs = np.zeros((len(rows), task.width), np.float32)
    tokens = [len(row.ids) for row in rows]
    by_length = groupby(sorted(range(len(rows)), key=tokens.__getitem__), tokens.__getitem__)
    batches = [places for _, same in by_length for places in chunks(same, max_batch)]

    def run_batch(engine: Engine, places: list[int]) -> None:
        if len(places) == 1:
            outputs[places[0]] = engine.run_text(*rows[places[0]], encoder.pad_id)
        else:
            length = first.length_for(tokens[places[0]])
            of_batch = [rows[place] for place in places]
            outputs[places] = engine.run(padded(of_batch, length, encoder.pad_id).inputs)

    if len(engines) == 1:
        for batch in batches:
            run_batch(first, batch)
    else:
        _in_threads(engines, run_batch, batches)
    return ModelOutputs(
        # ONNX models give logits.
        outputs if first.lengths else task.outputs(outputs),
        np.array([encoder.unknown_share(row) for row in rows], np.float64),
        np.array([familiarity.of(row.ids) if familiarity else inf for row in rows], np.float64),
        np.array([encoder.length_of(row) for row in rows], np.int64),
    )


def _in_threads(
    engines: Sequence[Engine],
    run_batch: Callable[[Engine, list[int]], None],
    batches: Sequence[list[int]],
) -> None:
    """Run batches with a thread for each engine."""
    from concurrent.futures import ThreadPoolExecutor

    waiting: SimpleQueue[list[int]] = SimpleQueue()
    for batch in batches:
        waiting.put(batch)

    def work(engine: Engine) -> None:
        with contextlib.suppress(Empty):
            while True:
                run_batch(engine, waiting.get_nowait())

    with ThreadPoolExecutor(len(engines)) as pool:
        # list() raises the threads' errors.
        list(pool.map(work, engines))

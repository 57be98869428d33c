"""Runs the models of a bundle on texts: the reference implementation for apps.

Needs `pip install 'kdedge[runtime]'` and no TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kdedge import engines
from kdedge.bundle.decision import Decision
from kdedge.bundle.manifest import Artifact, Manifest, opened, verify
from kdedge.engines import Engine, EngineError, RuntimeMissingError
from kdedge.errors import KdedgeError
from kdedge.tasks import Outputs, Task
from kdedge.text.encoder import Encoded, TextEncoder, Tokens, padded
from kdedge.text.pairs import Text, parts_of
from kdedge.text.readers import check_text


class Judged(NamedTuple):
    """What a model says of some texts.

    Attributes:
        outputs: float32 [texts, width], calibrated.
        unsure: bool [texts], whether the answer is unsure.
        unknown: float64 [texts], share of the tokens that is unknown.
        lengths: int64 [texts], tokens.
    """

    outputs: Outputs
    unsure: npt.NDArray[np.bool_]
    unknown: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]


class TextModel:
    """One model of a bundle with the bundle's tokenizer and task.

    >>> model = load_bundle("bundle")
    >>> model.predict(["a moving, funny film"])[0].label
    'positive'

    Attributes:
        engine: the model in its runtime.
        encoder: turns texts into its inputs.
        manifest: of the bundle.
        decision: makes answers of its outputs; None in bundles that have none.
    """

    def __init__(
        self, engine: Any, encoder: TextEncoder, manifest: Manifest, decision: Decision | None
    ) -> None:
        self.engine, self.encoder, self.manifest = engine, encoder, manifest
        self.decision = decision

    def outputs(self, texts: Sequence[Text]) -> Outputs:
        """What the model gives, float32 [texts, width]; texts are run one by one, as in an app.

        For classification these are probabilities, in the order of `manifest.task.label_names`,
        before `decision` calibrates them.

        Raises:
            KdedgeError: a text is empty or far too long.
        """
        return run(self.engine, self.manifest.task, self._encoded(texts))

    def judge(self, texts: Sequence[Text]) -> Judged:
        """Calibrated outputs, and which answers are unsure.

        Raises:
            KdedgeError: a text is empty or far too long.
        """
        task, encoded = self.manifest.task, self._encoded(texts)
        outputs = run(self.engine, task, encoded)
        unknown = np.array([self.encoder.unknown_shares(one)[0] for one in encoded])
        lengths = np.array([self.encoder.lengths(one)[0] for one in encoded], np.int64)
        if self.decision is None:
            return Judged(outputs, np.zeros(len(texts), bool), unknown, lengths)
        outputs = self.decision.calibrated(task, outputs)
        return Judged(outputs, self.decision.unsure(task, outputs, unknown), unknown, lengths)

    def answers(self, judged: Judged) -> list[Any]:
        """The task's answer for each text: for classification a `Prediction`."""
        answers: list[Any] = [*self.manifest.task.answers(judged.outputs)]
        return [
            replace(answer, unsure=unsure)
            for answer, unsure in zip(answers, judged.unsure.tolist(), strict=True)
        ]

    def predict(self, texts: Sequence[Text]) -> list[Any]:
        """`answers` for texts.

        Raises:
            KdedgeError: a text is empty or far too long.
        """
        return self.answers(self.judge(texts))

    def _encoded(self, texts: Sequence[Text]) -> list[Encoded]:
        for number, text in enumerate(texts, 1):
            if isinstance(text, str) == self.manifest.pairs:
                kind = "pairs of texts: Pair(text, pair)" if self.manifest.pairs else "single texts"
                raise KdedgeError(f"text {number}: this bundle takes {kind}.")
            for part in parts_of(text):
                check_text(part, f"text {number}")
        return encode_each(self.engine, self.encoder, texts)


def load_bundle(
    bundle: Path | str, artifact: str | None = None, public_key: Path | None = None
) -> TextModel:
    """Verify a bundle and load one of its models.

    Args:
        bundle: the folder, or a zip archive of it.
        artifact: name of the model; None for the bundle's default.
        public_key: PEM file of the key that the bundle must be signed with
            (`kdedge.bundle.signing`); None to load unsigned bundles too.

    Raises:
        KdedgeError: the bundle is damaged, its files don't fit together, it is not signed with that
            key, or has no such artifact; or the runtime is not installed.
    """
    with opened(Path(bundle)) as folder:
        if public_key is None:
            manifest = verify(folder)
        else:
            from kdedge.bundle.signing import verify_signature

            manifest = verify_signature(folder, public_key)
        chosen, encoder = manifest.artifact(artifact), TextEncoder.load(folder)
        engine = load_engine(folder / chosen.file)
        _check_fit(engine, encoder, manifest, chosen)
        decision = chosen.trust.decision if chosen.trust else None
        return TextModel(engine, encoder, manifest, decision)


def _check_fit(
    engine: Engine, encoder: TextEncoder, manifest: Manifest, artifact: Artifact
) -> None:
    """Check that a model takes the tokenizer's ids and has an output for each of the task's.

    Raises:
        KdedgeError: it doesn't.
    """
    stated = artifact.lengths or ((artifact.length,) if artifact.length else ())
    if engine.lengths != stated:
        raise KdedgeError(
            f"{artifact.file}: texts have {engine.lengths} tokens, and {stated} in the manifest. "
            "Export the bundle again."
        )
    highest = max(encoder.tokenizer.get_vocab().values())
    try:
        outputs = engine.run(padded([Tokens.of_text([highest])], engine.length).inputs)
    except Exception as error:  # the runtimes' errors have no common base
        raise KdedgeError(
            f"{artifact.file}: the model can't take token {highest}, the last one of "
            f"tokenizer.json. Export the bundle again. ({' '.join(str(error).split())[:200]})"
        ) from None
    if outputs.shape != (1, manifest.task.width):
        raise KdedgeError(
            f"{artifact.file}: outputs for one text are of shape {list(outputs.shape[1:])}, and "
            f"the manifest's task has {manifest.task.width}: {manifest.task}. Export the bundle "
            "again."
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


def encode_each(engine: Engine, encoder: TextEncoder, texts: Sequence[Text]) -> list[Encoded]:
    """The inputs of each text by itself, of the shortest length that the engine has for it."""
    rows = encoder.tokens(texts, engine.length)
    return [padded([row], engine.length_for(len(row.ids)), encoder.pad_id) for row in rows]


def run(engine: Engine, task: Task, encoded: Sequence[Encoded]) -> Outputs:
    """The task's outputs, float32 [texts, width], with one inference for each text."""
    none = np.zeros((0, task.width), np.float32)
    outputs = np.concatenate([none, *(engine.run(one.inputs) for one in encoded)])
    # ONNX models give logits.
    return outputs if engine.length is not None else task.outputs(outputs)

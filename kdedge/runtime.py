"""Runs the models of a bundle on texts: the reference implementation for apps.

Needs `pip install 'kdedge[runtime]'` and no TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdedge import engines
from kdedge.bundle.manifest import Manifest, opened, verify
from kdedge.engines import Engine, EngineError, RuntimeMissingError
from kdedge.errors import KdedgeError
from kdedge.tasks import Outputs, Task
from kdedge.text.encoder import TextEncoder
from kdedge.text.readers import check_text


class TextModel:
    """One model of a bundle with the bundle's tokenizer and task.

    >>> model = load_bundle("bundle")
    >>> model.predict(["a moving, funny film"])[0].label
    'positive'
    """

    def __init__(self, engine: Any, encoder: TextEncoder, manifest: Manifest) -> None:
        self.engine, self.encoder, self.manifest = engine, encoder, manifest

    def outputs(self, texts: Sequence[str]) -> Outputs:
        """The task's outputs, float32 [texts, width]; texts are run one by one, as in an app.

        For classification these are probabilities, in the order of `manifest.task.label_names`.

        Raises:
            KdedgeError: a text is empty or far too long.
        """
        for number, text in enumerate(texts, 1):
            check_text(text, f"text {number}")
        return run(self.engine, self.manifest.task, self.encoder, texts)

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """The task's answer for each text: for classification a `Prediction`."""
        return self.manifest.task.answers(self.outputs(texts)) if texts else []


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
        KdedgeError: the bundle is damaged, not signed with that key, or has no such artifact; or
            the runtime is not installed.
    """
    with opened(Path(bundle)) as folder:
        if public_key is None:
            manifest = verify(folder)
        else:
            from kdedge.bundle.signing import verify_signature

            manifest = verify_signature(folder, public_key)
        engine = load_engine(folder / manifest.artifact(artifact).file)
        return TextModel(engine, TextEncoder.load(folder), manifest)


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


def run(engine: Engine, task: Task, encoder: TextEncoder, texts: Sequence[str]) -> Outputs:
    """The task's outputs, float32 [texts, width], with one inference for each text."""
    if engine.length is not None:
        return engine.run(encoder.encode(texts, engine.length).inputs)
    logits = [engine.run(encoder.encode([text]).inputs) for text in texts]
    return task.outputs(np.concatenate(logits))

"""Bundle -> text -> answer: the reference that apps are held against.

Needs `pip install 'kdedge[runtime]'` and no TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdedge.bundle.manifest import Manifest, opened, verify
from kdedge.errors import KdedgeError
from kdedge.tasks import Outputs, Task
from kdedge.text.encoder import Encoded, TextEncoder
from kdedge.text.readers import check_text


class LiteRTEngine:
    """A `.tflite` file in LiteRT: int32 [1, length] ids, mask, segment_ids -> outputs.

    Args:
        path: of the file.
        threads: that an inference may use.

    Raises:
        KdedgeError: LiteRT is not installed or refuses the file.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise _missing("ai-edge-litert") from None
        try:
            self._interpreter = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise KdedgeError(f"{path}: LiteRT refuses this model: {error}") from None
        inputs = self._interpreter.get_input_details()
        shapes = [tuple(int(n) for n in detail["shape"]) for detail in inputs]
        if len(inputs) != 3 or len(set(shapes)) != 1 or len(shapes[0]) != 2 or shapes[0][0] != 1:
            raise KdedgeError(
                f"{path}: inputs of shapes {shapes}; three int32 [1, length] are needed."
            )
        self.length = shapes[0][1]
        self._inputs = [detail["index"] for detail in inputs]
        output = self._interpreter.get_output_details()[0]
        self._output = output["index"]
        # Of integer probabilities: value = scale * (integer - zero point).
        scale, zero_point = output["quantization"]
        self._scale, self._zero_point = scale or 1.0, zero_point

    def run(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """float32 [texts, width] of int32 [texts, length] inputs of the model's length."""
        rows = []
        for row in zip(encoded.ids, encoded.mask, encoded.segment_ids, strict=True):
            for index, values in zip(self._inputs, row, strict=True):
                self._interpreter.set_tensor(index, values[None])
            self._interpreter.invoke()
            rows.append(self._interpreter.get_tensor(self._output)[0])
        values = np.stack(rows).astype(np.float32)
        return np.asarray(self._scale * (values - self._zero_point), np.float32)


class OnnxEngine:
    """A `.onnx` file in ONNX Runtime: int64 [batch, length] inputs -> logits.

    Args:
        path: of the file.
        threads: that an inference may use.

    Raises:
        KdedgeError: ONNX Runtime is not installed or refuses the file.
    """

    length = None

    def __init__(self, path: Path, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise _missing("onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Without VNNI the int8 sums of x86 overflow, which those of phones and browsers don't.
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base
            raise KdedgeError(f"{path}: ONNX Runtime refuses this model: {error}") from None
        self._names = {value.name for value in self._session.get_inputs()}

    def run(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """float32 [texts, width] of int32 [texts, length] inputs of any length."""
        feeds = {
            "input_ids": encoded.ids.astype(np.int64),
            "attention_mask": encoded.mask.astype(np.int64),
            "token_type_ids": encoded.segment_ids.astype(np.int64),
        }
        (logits,) = self._session.run(
            ["logits"], {name: feed for name, feed in feeds.items() if name in self._names}
        )
        return np.asarray(logits, np.float32)


class TextModel:
    """One model of a bundle with the bundle's tokenizer and task.

    >>> model = load_bundle("bundle")                   # doctest: +SKIP
    >>> model.predict(["a moving, funny film"])[0].label  # doctest: +SKIP
    'positive'
    """

    def __init__(self, engine: Any, encoder: TextEncoder, manifest: Manifest) -> None:
        self.engine, self.encoder, self.manifest = engine, encoder, manifest

    def outputs(self, texts: Sequence[str]) -> Outputs:
        """The task's outputs, float32 [texts, width], each text by itself: as an app would ask.

        For classification they are probabilities, in the order of `manifest.task.label_names`.

        Raises:
            KdedgeError: a text is empty or far too long.
        """
        for number, text in enumerate(texts, 1):
            check_text(text, f"text {number}")
        return run(self.engine, self.manifest.task, self.encoder, texts)

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """The answer to each text, as the task has it: for classification a `Prediction`."""
        return self.manifest.task.answers(self.outputs(texts)) if texts else []


def load_bundle(
    bundle: Path | str, artifact: str | None = None, public_key: Path | None = None
) -> TextModel:
    """Verify a bundle and load one of its models.

    Args:
        bundle: the folder, or a zip archive of it.
        artifact: name of the model; None for the bundle's default.
        public_key: PEM of who must have signed the bundle (`kdedge.bundle.signing`); None for
            anybody.

    Raises:
        KdedgeError: not a whole bundle, not signed by that key, no such artifact, or its runtime is
            missing.
    """
    with opened(Path(bundle)) as folder:
        if public_key is None:
            manifest = verify(folder)
        else:
            from kdedge.bundle.signing import verify_signature

            manifest = verify_signature(folder, public_key)
        engine = load_engine(folder / manifest.artifact(artifact).file)
        return TextModel(engine, TextEncoder.load(folder), manifest)


def load_engine(path: Path, threads: int = 1) -> LiteRTEngine | OnnxEngine:
    """Load a `.tflite` or `.onnx` file in its runtime."""
    return (LiteRTEngine if path.suffix == ".tflite" else OnnxEngine)(path, threads)


def run(
    engine: LiteRTEngine | OnnxEngine, task: Task, encoder: TextEncoder, texts: Sequence[str]
) -> Outputs:
    """The task's outputs, float32 [texts, width], each text in a call of its own."""
    if engine.length is not None:
        return engine.run(encoder.encode(texts, engine.length))
    logits = [engine.run(encoder.encode([text])) for text in texts]
    return task.outputs(np.concatenate(logits))


def _missing(package: str) -> KdedgeError:
    return KdedgeError(f"{package} is not installed: pip install 'kdedge[runtime]'")

"""Opens `.tflite` and `.onnx` files in their runtimes, always with the same options.

The runtime, the exporter and the program that measures on devices all open files here, so a file is
checked and measured with the same arithmetic.

Needs Python 3.9 or later, numpy and the file's runtime, and nothing of kdedge: it is copied to
devices.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Names of the inputs, each int32 [texts, length].
NAMES = ("ids", "mask", "segment_ids")


class EngineError(Exception):
    """The runtime refuses the file."""


class RuntimeMissingError(EngineError):
    """The runtime is not installed."""


class Engine(ABC):
    """A model file in its runtime.

    `run` computes outputs. To measure latency, prepare inputs with `feed` and time only `infer`.

    Args:
        path: the model file.
        threads: threads that an inference may use.

    Attributes:
        format: `litert` or `onnx`.
        suffix: suffix of such files.
        name: name of the runtime.
        package: PyPI package of the runtime.
        module: module of that package to import.
        version: version of the runtime.
        length: tokens that a text must have; None for any length.
        inputs: the `NAMES` that the file takes, in the file's order.
        load_ns: time to load the file, without importing the runtime.

    Raises:
        RuntimeMissingError: the runtime is not installed.
        EngineError: the runtime refuses the file, or the file has other inputs.
    """

    format: str
    suffix: str
    name: str
    package: str
    module: str
    version: str
    length: int | None
    inputs: tuple[str, ...]
    load_ns: int

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        try:
            runtime = importlib.import_module(self.module)
        except ImportError:
            raise RuntimeMissingError(f"{self.package} is not installed") from None
        try:
            self._open(runtime, str(path), threads)
        except EngineError:
            raise
        except Exception as error:  # the runtimes' errors have no common base
            raise EngineError(f"{self.name} refuses this model: {error}") from None

    @property
    def runtime(self) -> dict[str, str]:
        """Name and version of the runtime, for a report."""
        return {"name": self.name, "version": self.version}

    @abstractmethod
    def _open(self, runtime: Any, path: str, threads: int) -> None:
        """Load the file and set all attributes of an instance."""

    @abstractmethod
    def feed(self, inputs: Mapping[str, Any]) -> Any:
        """Turn int32 [texts, length] arrays, by name, into the argument of `infer`."""

    @abstractmethod
    def infer(self, feed: Any) -> Any:
        """Run one inference: [texts, ...], not dequantized."""

    @abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Run int32 [texts, length] arrays, by name, and return the first output as float32."""


class LiteRTEngine(Engine):
    """A `.tflite` file in LiteRT with int32 [1, length] inputs: one text in each inference."""

    format, suffix = "litert", ".tflite"
    name, package, module = "LiteRT", "ai-edge-litert", "ai_edge_litert.interpreter"

    def _open(self, runtime: Any, path: str, threads: int) -> None:
        import ai_edge_litert

        start = time.perf_counter_ns()
        interpreter = runtime.Interpreter(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
        self.load_ns = time.perf_counter_ns() - start
        self.version = ai_edge_litert.__version__
        self._interpreter = interpreter
        shapes = [tuple(map(int, tensor["shape"])) for tensor in interpreter.get_input_details()]
        if len(shapes) != 3 or len(set(shapes)) != 1 or len(shapes[0]) != 2 or shapes[0][0] != 1:
            raise EngineError(f"inputs of shapes {shapes}; three int32 [1, length] are needed.")
        self.length = shapes[0][1]
        self._indexes = self._input_indexes()
        self.inputs = tuple(self._indexes)
        output = interpreter.get_output_details()[0]
        self._output = output["index"]
        # Dequantized: scale * (integer - zero point). For a float output the scale is 0.
        scale, self._zero_point = output["quantization"]
        self._scale = scale or 1.0

    def _input_indexes(self) -> dict[str, int]:
        """The tensor index of each input, in the file's order."""
        indexes = [tensor["index"] for tensor in self._interpreter.get_input_details()]
        # By the names in the signature, because converters don't keep the order of the inputs.
        for signature in self._interpreter.get_signature_list():
            named = self._interpreter.get_signature_runner(signature).get_input_details()
            if set(named) != set(NAMES):
                raise EngineError(f"inputs are {sorted(named)}; needed are {sorted(NAMES)}.")
            by_index = {tensor["index"]: name for name, tensor in named.items()}
            return {by_index[index]: index for index in indexes}
        return dict(zip(NAMES, indexes))  # noqa: B905, which needs Python 3.10

    def feed(self, inputs: Mapping[str, Any]) -> Any:
        """Turn int32 [1, length] arrays, by name, into the argument of `infer`."""
        return [(index, inputs[name]) for name, index in self._indexes.items()]

    def infer(self, feed: Any) -> Any:
        """Run one inference: [1, ...], not dequantized."""
        for index, array in feed:
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Run int32 [texts, length] arrays, by name, and return the first output as float32."""
        rows = [
            self.infer(self.feed({name: inputs[name][row : row + 1] for name in NAMES}))[0]
            for row in range(len(inputs["ids"]))
        ]
        values = np.stack(rows).astype(np.float32)
        return np.asarray(self._scale * (values - self._zero_point), np.float32)


class OnnxEngine(Engine):
    """A `.onnx` file in ONNX Runtime, with some of Hugging Face's int64 [texts, length] inputs."""

    format, suffix = "onnx", ".onnx"
    name, package, module = "ONNX Runtime", "onnxruntime", "onnxruntime"
    length = None

    _names = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}

    def _open(self, runtime: Any, path: str, threads: int) -> None:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        precise = "1" if int8_sums_saturate(_cpuinfo()) else "0"
        options.add_session_config_entry("session.x64quantprecision", precise)
        start = time.perf_counter_ns()
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.load_ns = time.perf_counter_ns() - start
        self.version = runtime.__version__
        self._session = session
        self._wanted = [tensor.name for tensor in session.get_inputs()]
        if not set(self._wanted) <= set(self._names):
            raise EngineError(f"inputs are {self._wanted}; allowed are {list(self._names)}.")
        self.inputs = tuple(self._names[name] for name in self._wanted)
        self._output = [session.get_outputs()[0].name]

    def feed(self, inputs: Mapping[str, Any]) -> Any:
        """Turn int32 [texts, length] arrays, by name, into the argument of `infer`."""
        return {name: inputs[self._names[name]].astype(np.int64) for name in self._wanted}

    def infer(self, feed: Any) -> Any:
        """Run one inference: [texts, ...]."""
        return self._session.run(self._output, feed)[0]

    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Run int32 [texts, length] arrays, by name, and return the first output as float32."""
        return np.asarray(self.infer(self.feed(inputs)), np.float32)


def int8_sums_saturate(cpuinfo: str) -> bool:
    """Whether ONNX Runtime, without its option, saturates sums of int8 products at 16 bits.

    It does so on x86 without VNNI, but not on phones or in browsers. The option that makes the sums
    exact costs time on x86, with VNNI for no benefit, and changes nothing on ARM.

        >>> int8_sums_saturate("flags : avx2 avx_vnni")
        False

    Args:
        cpuinfo: contents of /proc/cpuinfo; if it is empty, the answer is yes.
    """
    return not {"avx512_vnni", "avx_vnni"} & set(cpuinfo.split())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# Engines by format.
ENGINES: dict[str, type[Engine]] = {engine.format: engine for engine in (LiteRTEngine, OnnxEngine)}


def load(path: str | Path, threads: int = 1) -> Engine:
    """Open a file in the runtime that its suffix names.

    Raises:
        RuntimeMissingError: that runtime is not installed.
        EngineError: the runtime refuses the file, or the suffix is unknown.
    """
    by_suffix = {engine.suffix: engine for engine in ENGINES.values()}
    suffix = Path(path).suffix
    if suffix not in by_suffix:
        raise EngineError(f"the suffix is {suffix!r}; allowed are {', '.join(by_suffix)}.")
    return by_suffix[suffix](path, threads)

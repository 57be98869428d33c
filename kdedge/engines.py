"""Opens `.tflite` and `.onnx` files, with the options that make their arithmetic what it is.

The runtime, the exporter's gate and the program that measures on devices all open files here, so
that what is proven and what is measured is computed in the same way.

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

# int32 [texts, length] each.
NAMES = ("ids", "mask", "segment_ids")


class EngineError(Exception):
    """The runtime refuses the file."""


class RuntimeMissingError(EngineError):
    """The runtime is not installed."""


class Engine(ABC):
    """A model file in its runtime.

    `run` computes. Who times an inference prepares the inputs with `feed` and times `infer` alone.

    Args:
        path: of the file.
        threads: that an inference may use.

    Attributes:
        format: `litert` or `onnx`.
        suffix: of such files.
        name: of the runtime.
        package: that has the runtime.
        module: of that package, which is imported to open a file.
        version: of the runtime.
        length: tokens that a text must have; None for any number.
        inputs: those of `NAMES` that the file takes, in the file's order.
        load_ns: how long the runtime took to load the file, its import left out.

    Raises:
        RuntimeMissingError: the runtime is not installed.
        EngineError: the runtime refuses the file, or its inputs are others.
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
        """What `infer` takes, of int32 [texts, length] by name."""

    @abstractmethod
    def infer(self, feed: Any) -> Any:
        """One inference: [texts, ...] as the file has it, perhaps in integers."""

    @abstractmethod
    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """The file's first output, float32 [texts, ...], of int32 [texts, length] by name."""


class LiteRTEngine(Engine):
    """A `.tflite` file in LiteRT, with int32 [1, length] inputs: one text an inference."""

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
        # What integers stand for: scale * (integer - zero point). Of floats the scale is 0.
        scale, self._zero_point = output["quantization"]
        self._scale = scale or 1.0

    def _input_indexes(self) -> dict[str, int]:
        """The tensor of each of `NAMES`, in the file's order."""
        indexes = [tensor["index"] for tensor in self._interpreter.get_input_details()]
        # Converters don't keep the order of the inputs, so only a signature's names are sure.
        for signature in self._interpreter.get_signature_list():
            named = self._interpreter.get_signature_runner(signature).get_input_details()
            if set(named) != set(NAMES):
                raise EngineError(f"inputs are {sorted(named)}; needed are {sorted(NAMES)}.")
            by_index = {tensor["index"]: name for name, tensor in named.items()}
            return {by_index[index]: index for index in indexes}
        return dict(zip(NAMES, indexes))  # noqa: B905, which needs Python 3.10

    def feed(self, inputs: Mapping[str, Any]) -> Any:
        """What `infer` takes, of int32 [1, length] by name."""
        return [(index, inputs[name]) for name, index in self._indexes.items()]

    def infer(self, feed: Any) -> Any:
        """One inference: [1, ...] as the file has it, perhaps in integers."""
        for index, array in feed:
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """The file's first output, float32 [texts, ...], of int32 [texts, length] by name."""
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
        """What `infer` takes, of int32 [texts, length] by name."""
        return {name: inputs[self._names[name]].astype(np.int64) for name in self._wanted}

    def infer(self, feed: Any) -> Any:
        """One inference: [texts, ...]."""
        return self._session.run(self._output, feed)[0]

    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """The file's first output, float32 [texts, ...], of int32 [texts, length] by name."""
        return np.asarray(self.infer(self.feed(inputs)), np.float32)


def int8_sums_saturate(cpuinfo: str) -> bool:
    """Whether ONNX Runtime, left to itself, cuts sums of int8 products to 16 bits.

    So it does on x86 without VNNI, and on no phone and in no browser. The option that makes the
    sums exact changes nothing on ARM; on x86 it takes time, and with VNNI to no purpose.

    Args:
        cpuinfo: what Linux says of the processor; where it says nothing, the answer is yes.
    """
    return not {"avx512_vnni", "avx_vnni"} & set(cpuinfo.split())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# By the format of their files.
ENGINES: dict[str, type[Engine]] = {engine.format: engine for engine in (LiteRTEngine, OnnxEngine)}


def load(path: str | Path, threads: int = 1) -> Engine:
    """Open a file in the runtime that its suffix names.

    Raises:
        RuntimeMissingError: that runtime is not installed.
        EngineError: the runtime refuses the file, or its suffix is another.
    """
    by_suffix = {engine.suffix: engine for engine in ENGINES.values()}
    suffix = Path(path).suffix
    if suffix not in by_suffix:
        raise EngineError(f"the suffix is {suffix!r}; allowed are {', '.join(by_suffix)}.")
    return by_suffix[suffix](path, threads)

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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# Names of the inputs, each int32 [texts, length].
NAMES = ("ids", "mask", "segment_ids")
# Name of the output that counts, if an ONNX file has several.
LOGITS = "logits"


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
        thread_safe: whether several threads may run it at once.
        lengths: lengths in tokens that inputs may have, the shortest first; empty for any length.
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
    thread_safe: bool
    version: str
    lengths: tuple[int, ...]
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

    @property
    def length(self) -> int | None:
        """Tokens that longer texts must be cut to; None for any length."""
        return self.lengths[-1] if self.lengths else None

    def length_for(self, tokens: int) -> int | None:
        """The length that a text of this many tokens is padded to; None for no padding."""
        for length in self.lengths:
            if length >= tokens:
                return length
        return self.length

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

    @abstractmethod
    def run_text(
        self, ids: Sequence[int], segments: Sequence[int], pad_id: int = 0
    ) -> npt.NDArray[np.float32]:
        """Run one text, padded to the shortest length that holds it, as fast as possible.

        Args:
            ids: token ids of the text, at most `length`.
            segments: segment ids of the tokens.
            pad_id: id of the padding token.

        Returns:
            The first output, float32 [width].
        """


class _Graph(NamedTuple):
    """A subgraph of a `.tflite` file, which takes texts of one length.

    A quantized output means scale * (integer - zero point). The scale of a float output is 0.
    """

    number: int
    length: int
    inputs: dict[str, int]
    output: int
    scale: float
    zero_point: int


class LiteRTEngine(Engine):
    """A `.tflite` file in LiteRT with int32 [1, length] inputs: one text in each inference.

    A file may have several signatures, each for another length.
    """

    format, suffix = "litert", ".tflite"
    name, package, module = "LiteRT", "ai-edge-litert", "ai_edge_litert.interpreter"
    thread_safe = False

    def _open(self, runtime: Any, path: str, threads: int) -> None:
        import ai_edge_litert

        start = time.perf_counter_ns()
        interpreter = runtime.Interpreter(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
        # The interpreter's own methods run the first subgraph only, and a signature runner
        # allocates all tensors in each call, which takes as long as running a small model.
        self._native = interpreter._interpreter
        graphs = _graphs(interpreter)
        for graph in graphs[1:]:
            self._native.AllocateTensors(graph.number)
        self.load_ns = time.perf_counter_ns() - start
        self.version = ai_edge_litert.__version__
        self.inputs = tuple(graphs[0].inputs)
        self._graphs = {graph.length: graph for graph in graphs}
        self.lengths = tuple(sorted(self._graphs))
        # By the number of a text's tokens: the shortest graph that holds it, its mask, and zeros.
        self._prepared = []
        longest = self.lengths[-1]
        ones_and_zeros = np.repeat(np.array([[1, 0]], np.int32), longest, axis=1)
        for tokens in range(longest + 1):
            graph = self._graphs[min(length for length in self.lengths if length >= tokens)]
            mask = ones_and_zeros[:, longest - tokens :][:, : graph.length]
            zeros = ones_and_zeros[:, longest:][:, : graph.length]
            self._prepared.append((graph, mask, zeros))

    def feed(self, inputs: Mapping[str, Any]) -> Any:
        """Turn int32 [1, length] arrays, by name, into the argument of `infer`."""
        length = inputs["ids"].shape[1]
        if length not in self._graphs:
            raise EngineError(
                f"texts of {length} tokens; allowed: {', '.join(map(str, self.lengths))}."
            )
        graph = self._graphs[length]
        return graph, [(index, inputs[name]) for name, index in graph.inputs.items()]

    def infer(self, feed: Any) -> Any:
        """Run one inference: [1, ...], not dequantized."""
        graph, arrays = feed
        for index, array in arrays:
            self._native.SetTensor(index, array, graph.number)
        self._native.Invoke(graph.number)
        return self._native.GetTensor(graph.output, graph.number)

    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Run int32 [texts, length] arrays, by name, and return the first output as float32."""
        texts = len(inputs["ids"])
        if texts > 1:
            rows = ({name: inputs[name][i : i + 1] for name in NAMES} for i in range(texts))
            return np.concatenate([self.run(row) for row in rows])
        feed = self.feed(inputs)
        return _floats(self.infer(feed), feed[0])

    def run_text(
        self, ids: Sequence[int], segments: Sequence[int], pad_id: int = 0
    ) -> npt.NDArray[np.float32]:
        """Run one text; see `Engine`."""
        graph, mask, zeros = self._prepared[len(ids)]
        segment_ids = _padded(segments, graph.length) if any(segments) else zeros
        # Not with `feed` and `infer`, whose lists take a tenth of a small model's time.
        native, number, inputs = self._native, graph.number, graph.inputs
        native.SetTensor(inputs["ids"], _padded(ids, graph.length, pad_id), number)
        native.SetTensor(inputs["mask"], mask, number)
        native.SetTensor(inputs["segment_ids"], segment_ids, number)
        native.Invoke(number)
        row: npt.NDArray[np.float32] = _floats(native.GetTensor(graph.output, number), graph)[0]
        return row


def _floats(values: Any, graph: _Graph) -> npt.NDArray[np.float32]:
    """The output of a graph as float32, dequantized."""
    if graph.scale:
        values = graph.scale * (values.astype(np.float32) - graph.zero_point)
    return np.asarray(values, np.float32)


def _graphs(interpreter: Any) -> list[_Graph]:
    """The subgraphs of all signatures; the first one is what programs without signatures run."""
    first = interpreter.get_input_details()
    names = interpreter.get_signature_list()
    if not names:
        length = _length(first)
        named = dict(zip(NAMES, first))  # noqa: B905, which needs Python 3.10
        return [_graph(0, length, named, interpreter.get_output_details()[0])]
    graphs = []
    for name in names:
        # Converters don't keep the order of the inputs, but their names in the signature.
        runner = interpreter.get_signature_runner(name)
        named, (output, *_) = runner.get_input_details(), runner.get_output_details().values()
        length = _length(named.values())
        if set(named) != set(NAMES):
            raise EngineError(f"inputs are {sorted(named)}; needed are {sorted(NAMES)}.")
        number = interpreter._interpreter.GetSubgraphIndexFromSignature(name)
        graphs.append(_graph(number, length, named, output))
    graphs.sort()
    order = [tensor["index"] for tensor in first]
    inputs = sorted(graphs[0].inputs.items(), key=lambda item: order.index(item[1]))
    return [graphs[0]._replace(inputs=dict(inputs)), *graphs[1:]]


def _padded(row: Sequence[int], length: int, value: int = 0) -> npt.NDArray[np.int32]:
    padded = np.zeros((1, length), np.int32)
    if value:
        padded += value
    padded[0, : len(row)] = row
    return padded


def _length(inputs: Iterable[Any]) -> int:
    shapes = [tuple(map(int, tensor["shape"])) for tensor in inputs]
    if len(shapes) != 3 or len(set(shapes)) != 1 or len(shapes[0]) != 2 or shapes[0][0] != 1:
        raise EngineError(f"inputs of shapes {shapes}; three int32 [1, length] are needed.")
    return shapes[0][1]


def _graph(number: int, length: int, inputs: Mapping[str, Any], output: Any) -> _Graph:
    indexes = {name: tensor["index"] for name, tensor in inputs.items()}
    return _Graph(number, length, indexes, output["index"], *output["quantization"])


class OnnxEngine(Engine):
    """A `.onnx` file in ONNX Runtime, with some of Hugging Face's inputs [texts, length].

    The inputs are int64, or int32 as in files that tf2onnx makes from TensorFlow models.
    """

    format, suffix = "onnx", ".onnx"
    name, package, module = "ONNX Runtime", "onnxruntime", "onnxruntime"
    thread_safe = True
    lengths = ()

    _names = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}
    _types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}

    def _open(self, runtime: Any, path: str, threads: int) -> None:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        precise = "1" if int8_sums_saturate(cpuinfo()) else "0"
        options.add_session_config_entry("session.x64quantprecision", precise)
        start = time.perf_counter_ns()
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.load_ns = time.perf_counter_ns() - start
        self.version = runtime.__version__
        self._session = session
        types = {tensor.name: tensor.type for tensor in session.get_inputs()}
        if not set(types) <= set(self._names):
            raise EngineError(f"inputs are {[*types]}; allowed are {list(self._names)}.")
        if not set(types.values()) <= set(self._types):
            raise EngineError(f"inputs are {types}; allowed are {list(self._types)}.")
        self._wanted = {name: self._types[kind] for name, kind in types.items()}
        self.inputs = tuple(self._names[name] for name in self._wanted)
        outputs = [tensor.name for tensor in session.get_outputs()]
        if len(outputs) > 1 and LOGITS not in outputs:
            raise EngineError(f"outputs are {outputs}; one of several must be called {LOGITS}.")
        self._output = [LOGITS if LOGITS in outputs else outputs[0]]

    def feed(self, inputs: Mapping[str, Any]) -> Any:
        """Turn int32 [texts, length] arrays, by name, into the argument of `infer`."""
        return {name: inputs[self._names[name]].astype(t) for name, t in self._wanted.items()}

    def infer(self, feed: Any) -> Any:
        """Run one inference: [texts, ...]."""
        return self._session.run(self._output, feed)[0]

    def run(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Run int32 [texts, length] arrays, by name, and return the logits as float32."""
        return np.asarray(self.infer(self.feed(inputs)), np.float32)

    def run_text(
        self, ids: Sequence[int], segments: Sequence[int], pad_id: int = 0
    ) -> npt.NDArray[np.float32]:
        """Run one text; see `Engine`."""
        rows = {"ids": ids, "mask": [1] * len(ids), "segment_ids": segments}
        feed = {name: np.array([rows[self._names[name]]], t) for name, t in self._wanted.items()}
        return np.asarray(self.infer(feed)[0], np.float32)


def int8_sums_saturate(cpuinfo: str) -> bool:
    """Whether ONNX Runtime, without its option, saturates sums of int8 products at 16 bits.

    It does so on x86 without VNNI, but not on phones or in browsers. The option that makes the sums
    exact is slower on x86, so it is only used where VNNI is missing. It has no effect on ARM.

        >>> int8_sums_saturate("flags : avx2 avx_vnni")
        False

    Args:
        cpuinfo: contents of /proc/cpuinfo; an empty one counts as a CPU without VNNI.
    """
    return not {"avx512_vnni", "avx_vnni"} & set(cpuinfo.split())


def cpuinfo() -> str:
    """The contents of /proc/cpuinfo; empty where there is none."""
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

"""Compares each artifact with the peak performance of this machine, and finds what limits it.

    make demo                           # the teacher and its soft labels
    python benchmarks/roofline.py       # nano, micro and mini

Measures, with one thread, the machine's peaks (a float32 and an int8 matrix product inside each
runtime; memory bandwidth) and the p50 of every artifact with 16, 32 and max_length tokens, and
counts the multiply-accumulates and the bytes of weights of one text from the artifact's own graph.
Takes a few minutes; the machine should be quiet.

The roofline is Williams, Waterman and Patterson's (2009, doi 10.1145/1498765.1498785): no program
is faster than its arithmetic at the peak, nor than its bytes at the bandwidth.
"""

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnxruntime.quantization import quantize_dynamic
from tensorflow.lite.python import schema_py_generated as schema

from benchmarks.common import Figures, Setup, cli, make_once, read_command_line, report_figures
from kdedge.bench.report.model import three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import Grid, bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.bundle.manifest import verify
from kdedge.export.litert.flatbuffer import parsed
from kdedge.recipe import Export

FLOAT32, INT8 = "float32", "int8"
ARTIFACTS = ("litert-float32", "litert-int8-lengths", "onnx-float32", "onnx-int8")
SHORT = (16, 32)  # lengths in tokens, beside max_length
# Sizes of the matrix product that peaks are measured with. It takes less than a time slice, so that
# some products are not interrupted by other programs.
ROWS, INNER, COLUMNS = 128, 512, 512
SECONDS = 4.0  # for each peak
COPIED = 512 * 1024 * 1024  # bytes; larger than any cache
# With less than this share of p50 explained by arithmetic and memory, something else is the limit.
EXPLAINED = 0.5


class Work(NamedTuple):
    """The work of a graph for one text.

    Attributes:
        macs: multiply-accumulates of its matrix products, by arithmetic.
        bytes: bytes of the matrices in these products, as stored in the file, and of the rows that
            embeddings look up. Biases are left out, because not every converter stores them there.
    """

    macs: dict[str, int]
    bytes: int


def litert_work(content: bytes, length: int) -> Work:
    """Count the work of a `.tflite` file for one text; the file must have the length `length`."""
    model = parsed(content)
    lengths = [graph.tensors[graph.inputs[0]].shape[1] for graph in model.subgraphs]
    graph = model.subgraphs[lengths.index(length)]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    made_by = {output: op for op in graph.operators for output in op.outputs}

    def weights(index: int) -> Any:
        """The constant tensor behind an input, even if it is stored in fewer bits; else None."""
        op = made_by.get(index)
        if op is not None and codes[op.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE:
            index = op.inputs[0]
        return graph.tensors[index] if stored(graph.tensors[index]) else None

    def stored(tensor: Any) -> int:
        data = model.buffers[tensor.buffer].data
        return 0 if data is None else len(data)

    def shape(index: int) -> list[int]:
        # Python integers, because products of numpy's int32 could overflow.
        return [int(size) for size in graph.tensors[index].shape]

    ops = schema.BuiltinOperator
    macs: Counter[str] = Counter()
    read = 0
    for op in graph.operators:
        code = codes[op.opcodeIndex]
        out = math.prod(shape(op.outputs[0]))
        if code in (ops.GATHER, ops.EMBEDDING_LOOKUP):
            table = weights(op.inputs[0 if code == ops.GATHER else 1])
            if table is not None:
                read += out * stored(table) // math.prod(table.shape.tolist())
            continue
        if code not in (ops.FULLY_CONNECTED, ops.CONV_2D, ops.DEPTHWISE_CONV_2D, ops.BATCH_MATMUL):
            continue
        second = shape(op.inputs[1])
        if code == ops.FULLY_CONNECTED:
            each = second[-1]
        elif code == ops.BATCH_MATMUL:
            each = second[-1 if op.builtinOptions.adjY else -2]
        elif code == ops.CONV_2D:  # [out, height, width, in]
            each = math.prod(second[1:])
        else:  # [1, height, width, out]
            each = math.prod(second[1:3])
        kind = graph.tensors[op.inputs[1]].type
        whole = kind in (schema.TensorType.INT8, schema.TensorType.INT4)
        macs[INT8 if whole else FLOAT32] += out * each
        matrix = weights(op.inputs[1])
        read += stored(matrix) if matrix is not None else 0
    return Work(dict(macs), read)


def onnx_work(content: bytes, length: int) -> Work:
    """Count the work of an `.onnx` file for one text of `length` tokens.

    Its shapes are not fixed, so it is run once to see them.
    """
    model = onnx.load_from_string(content)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    shapes = _shapes(model, length)

    def weights(name: str) -> Any:
        """The initializer behind an input, even if it is stored in fewer bits; else None."""
        through = ("DequantizeLinear", "Cast", "Transpose")
        while name in made_by and made_by[name].op_type in through:
            name = made_by[name].input[0]
        return constants.get(name)

    def whole(name: str) -> bool:
        return name in made_by and made_by[name].op_type == "DequantizeLinear"

    macs: Counter[str] = Counter()
    read = 0
    for node in model.graph.node:
        if node.op_type == "Gather":
            table = weights(node.input[0])
            if table is not None and len(table.dims) > 1:
                each = onnx.numpy_helper.to_array(table).itemsize
                read += math.prod(shapes[node.output[0]]) * each
            continue
        if node.op_type not in ("MatMul", "MatMulInteger", "Gemm", "Conv"):
            continue
        first, second = node.input[:2]
        if node.op_type == "Conv":
            each = math.prod(shapes[second][1:])
        else:
            is_transposed = any(a.name == "transA" and a.i for a in node.attribute)
            each = shapes[first][0 if is_transposed else -1]
        integers = node.op_type == "MatMulInteger" or (whole(first) and whole(second))
        macs[INT8 if integers else FLOAT32] += math.prod(shapes[node.output[0]]) * each
        matrix = weights(second)
        if matrix is not None:
            read += onnx.numpy_helper.to_array(matrix).nbytes
    return Work(dict(macs), read)


def _shapes(model: onnx.ModelProto, length: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors for one text."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    already_output = {output.name for output in probe.graph.output}
    made = [output for node in probe.graph.node for output in node.output if output]
    probe.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in made if name not in already_output
    )
    options = onnxruntime.SessionOptions()
    # Otherwise tensors that are optimized away would be missing.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    ones = {tensor.name: np.ones((1, length), np.int64) for tensor in session.get_inputs()}
    ran = zip(names, session.run(names, ones), strict=True)
    shapes = {name: tuple(value.shape) for name, value in ran}
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def measure_peaks() -> dict[str, dict[str, float]]:
    """Measure multiply-accumulates per second, the most of many runs, by runtime and arithmetic."""
    rng = np.random.default_rng(0)
    layer = keras.layers.Dense(COLUMNS, use_bias=False)
    model = keras.Sequential([keras.Input((ROWS, INNER), 1), layer])
    rows = rng.standard_normal((1, ROWS, INNER), np.float32)
    peaks: dict[str, dict[str, float]] = {"litert": {}, "onnx": {}}
    with tempfile.TemporaryDirectory() as folder:
        for arithmetic, how in ((FLOAT32, []), (INT8, [tf.lite.Optimize.DEFAULT])):
            path = Path(folder) / f"{arithmetic}.tflite"
            model.export(path, format="litert", verbose=False, optimizations=how)
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rows)
            peaks["litert"][arithmetic] = ROWS * INNER * COLUMNS / _fastest(interpreter.invoke)

        kernel = onnx.numpy_helper.from_array(np.asarray(layer.kernel), "kernel")
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["rows", "kernel"], ["product"])],
            "product",
            [onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, None)],
            [onnx.helper.make_tensor_value_info("product", onnx.TensorProto.FLOAT, None)],
            [kernel],
        )  # fmt: skip
        opset = [onnx.helper.make_opsetid("", 17)]
        paths = {name: Path(folder) / f"{name}.onnx" for name in (FLOAT32, INT8)}
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), paths[FLOAT32])
        quantize_dynamic(paths[FLOAT32], paths[INT8])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        for arithmetic, path in paths.items():
            session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            seconds = _fastest(partial(session.run, None, {"rows": rows[0]}))
            peaks["onnx"][arithmetic] = ROWS * INNER * COLUMNS / seconds
    return peaks


def measure_bandwidth() -> float:
    """Measure bytes per second that numpy copies; each counts twice, as read and as written."""
    source = np.ones(COPIED, np.uint8)
    target = np.zeros_like(source)
    return 2 * COPIED / _fastest(lambda: np.copyto(target, source))


def _fastest(run: Callable[[], Any]) -> float:
    """The seconds of the fastest run: other programs can only make a run slower."""
    run()
    fastest, end = math.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def compare_with_roofline(
    work: Work, p50_ms: float, peaks: dict[str, float], bandwidth: float
) -> Figures:
    """Compare an artifact with the roofline.

    Args:
        work: work of one text.
        p50_ms: measured median latency.
        peaks: multiply-accumulates per second of the runtime, by arithmetic.
        bandwidth: bytes per second.
    """
    arithmetic_ms = 1e3 * sum(macs / peaks[name] for name, macs in work.macs.items())
    memory_ms = 1e3 * work.bytes / bandwidth
    roof_ms = max(arithmetic_ms, memory_ms)
    if roof_ms < EXPLAINED * p50_ms:
        bound = "overhead"
    else:
        bound = "arithmetic" if arithmetic_ms >= memory_ms else "memory"
    return {
        "macs": work.macs,
        "bytes": work.bytes,
        "p50_ms": p50_ms,
        "gmacs_a_second": sum(work.macs.values()) / p50_ms / 1e6,
        "arithmetic_ms": arithmetic_ms,
        "memory_ms": memory_ms,
        "share_of_peak": arithmetic_ms / p50_ms,
        "bound": bound,
        "could_be_times_faster": p50_ms / roof_ms,
    }


def export(setup: Setup, preset: str, out: Path) -> None:
    """Export a preset's student in float32 and int8, for several lengths."""
    from kdedge import Student, export_bundle
    from kdedge.export.subject import subject_of

    subject = subject_of(Student.load(setup.student(preset)))
    lengths = (*SHORT, subject.encoder.max_length)
    # A loss of accuracy is no reason to stop: only times are compared.
    export_bundle(subject, Export(artifacts=ARTIFACTS, lengths=lengths, max_accuracy_drop=100), out)


def main() -> None:
    """Export, measure and count, and write the results."""
    setup, options = read_command_line("roofline", __doc__, "models", tier="quick")
    bundles = []
    for name in options.models or ("nano", "micro", "mini"):
        made = setup.work / "bundles" / name
        bundles.append(make_once(made, export, setup, name, made))
    lengths = (*SHORT, verify(bundles[0]).max_length)
    files = {
        f"{bundle.resolve().name}/{artifact.name}": bundle / artifact.file
        for bundle in bundles
        for artifact in verify(bundle).artifacts
    }
    peaks, bandwidth = measure_peaks(), measure_bandwidth()
    with tempfile.TemporaryDirectory() as folder:
        grid = Grid(lengths=lengths)
        report = bench_bundles(
            bundles, Path(folder), scenario(options.tier), setup.texts(), grid=grid
        )
    artifacts = {}
    for m in report.measurements:
        content = files[f"{m.bundle}/{m.artifact}"].read_bytes()
        work = (litert_work if m.format == "litert" else onnx_work)(content, m.length)
        artifacts[f"{m.bundle}/{m.artifact}, {m.length} tokens"] = compare_with_roofline(
            work, m.p50_ms, peaks[m.format], bandwidth
        )
    beyond = [
        f"{name} is faster than its peak allows: the peak was disturbed."
        for name, found in artifacts.items()
        if found["share_of_peak"] > 1
    ]
    figures = {
        "peaks, GMAC/s": {
            runtime: {name: peak / 1e9 for name, peak in of.items()}
            for runtime, of in peaks.items()
        },
        "bandwidth, GB/s": bandwidth / 1e9,
        "artifacts": artifacts,
    }
    valid = {"valid": report.valid and not beyond, "reasons": [*report.reasons, *beyond]}
    setup.keep(setup.about() | figures | report_figures(report) | valid, page)


def page(result: Figures) -> str:
    """One row for each artifact, after the machine's peaks."""
    peaks = result["peaks, GMAC/s"]
    rows = [
        (
            name, three_digits(sum(a["macs"].values()) / 1e6), three_digits(a["bytes"] / 1e6),
            three_digits(a["p50_ms"]), three_digits(a["gmacs_a_second"]),
            f"{a['share_of_peak']:.0%}", a["bound"], three_digits(a["could_be_times_faster"]),
        )
        for name, a in result["artifacts"].items()
    ]  # fmt: skip
    head = (
        "artifact", "MMAC a text", "MB a text", "p50, ms", "GMAC/s", "share of peak", "bound",
        "could be × faster",
    )  # fmt: skip
    return (
        "# What limits an inference\n\nOne thread, one text at a time.\n\n"
        f"Peaks of this machine ({result['environment']['CPU']}), GMAC/s: "
        f"LiteRT {peaks['litert'][FLOAT32]:.0f} float32, {peaks['litert'][INT8]:.0f} int8; "
        f"ONNX Runtime {peaks['onnx'][FLOAT32]:.0f} float32, {peaks['onnx'][INT8]:.0f} int8. "
        f"Memory: {result['bandwidth, GB/s']:.1f} GB/s.\n\n"
        "The share is the time that an artifact's multiply-accumulates take at its runtime's "
        "peaks of their arithmetic, over p50. The bound is arithmetic or memory, whichever takes "
        "longer at its peak, or overhead (calls, ops that are no matrix products, kernels slower "
        f"than those of the peaks) where both explain less than {EXPLAINED:.0%} of p50. A last "
        "column below 1 means that the weights were still in a cache.\n\n" + markdown(head, rows)
    )


if __name__ == "__main__":
    cli(main)

"""How much of what this machine can do each artifact reaches, and what more could be had.

    python benchmarks/conversions.py   # makes the bundles
    python benchmarks/roofline.py

Measures the machine's peaks on one thread (products of float32 and of int8 matrices in ONNX
Runtime, copying memory), counts each model's multiplications and the bytes of its weights, measures
all artifacts of nano, micro and mini with the tier `quick`, and writes
benchmarks/results/roofline.json and roofline.md (Williams, Waterman, Patterson 2009). Takes a few
minutes; the machine should be quiet.
"""

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from kdedge.bench.report import Measurement, three_digits
from kdedge.bench.run import SAMPLE_TEXTS, bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.text.encoder import TextEncoder

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUNDLES = ROOT / "runs" / "conversions" / "bundles"
NAMES = ("nano", "micro", "mini")
# Of the matrices whose product gives the peak: done in less than a time slice, so that of many
# repeats some are not interrupted.
SIDE = 256
COPIED_BYTES = 2**26  # more than most caches hold
PEAK_REPEATS = 500
# Of a weight when it is computed with; LiteRT expands 16-bit floats to 32 bits when it loads them.
WEIGHT_BYTES = {
    "float32": 4.0, "float16": 4.0, "int8": 1.0, "int8-static": 1.0, "int8-weights": 1.0,
    "int8-full": 1.0, "int16x8": 1.0, "int4": 0.5,
}  # fmt: skip
INPUTS = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}


def main() -> None:
    """Measure, count, keep."""
    bundles = [BUNDLES / name for name in NAMES]
    missing = [str(bundle) for bundle in bundles if not bundle.is_dir()]
    if missing:
        sys.exit(f"{', '.join(missing)}: missing. `python benchmarks/conversions.py` makes them.")
    peaks = measure_peaks()
    with tempfile.TemporaryDirectory() as folder:
        report = bench_bundles(bundles, Path(folder), scenario("quick"))
    rows = []
    for m in report.measurements:
        macs, weights = count(BUNDLES / m.bundle, m.length)
        rows.append(row(m, macs, weights, peaks))
    beyond = [
        f"{r['name']} is faster than the peak allows: the peak was disturbed."
        for r in rows
        if r["bound"] == "compute" and r["share_of_peak"] > 1
    ]
    result = {
        "environment": report.environments["local"],
        "valid": report.valid and not beyond,
        "reasons": [*report.reasons, *beyond],
        "peaks": peaks,
        "artifacts": rows,
    }
    (RESULTS / "roofline.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "roofline.md").write_text(markdown(result), encoding="utf-8")


def measure_peaks() -> dict[str, float]:
    """Multiplications a second of each kind, and bytes a second: the best of several, one thread.

    A copy reads and writes, so its bytes count twice.
    """
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((SIDE, SIDE), np.float32)
    codes = rng.integers(-100, 100, (SIDE, SIDE), np.int8)
    source = np.ones(COPIED_BYTES // 8)
    target = np.empty_like(source)
    seconds = {
        "float32": _best(_product("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, floats, floats)),
        "int8": _best(
            _product(
                "MatMulInteger", TensorProto.UINT8, TensorProto.INT32, codes.astype(np.uint8), codes
            )
        ),
        "copy": _best(lambda: np.copyto(target, source)),
    }
    return {
        "float32_macs_per_second": SIDE**3 / seconds["float32"],
        "int8_macs_per_second": SIDE**3 / seconds["int8"],
        "memory_bytes_per_second": 2 * COPIED_BYTES / seconds["copy"],
    }


def _product(
    operator: str, left: int, out: int, array: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]
) -> Callable[[], object]:
    """A model of one product with constant weights, as a dense layer has them."""
    shape = (SIDE, SIDE)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", left, shape)],
        [helper.make_tensor_value_info("y", out, shape)],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    session = _session(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    return lambda: session.run(None, {"x": array})


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _best(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(PEAK_REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def count(bundle: Path, length: int) -> tuple[int, int]:
    """Multiplications of one text of `length` tokens, and the weights that they take.

    Counted in the bundle's float32 ONNX model, whose shapes are known by running it once. Looking
    up embeddings multiplies nothing and reads a few rows only, so it is left out.
    """
    encoder = TextEncoder.load(bundle)
    text = (bundle / SAMPLE_TEXTS).read_text(encoding="utf-8").split("\n")[0]
    arrays = encoder.encode([text], length).inputs
    return count_model(
        onnx.load(bundle / "onnx" / "model.onnx"),
        {name: arrays[of].astype(np.int64) for name, of in INPUTS.items()},
    )


def count_model(model: onnx.ModelProto, feed: dict[str, np.ndarray[Any, Any]]) -> tuple[int, int]:
    """Multiplications and weights of the MatMul, Gemm and Conv nodes, with these inputs."""
    weights = {w.name: tuple(w.dims) for w in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    shapes = weights | _shapes(model, nodes, feed)
    macs = 0
    for node in nodes:
        outputs = math.prod(shapes[node.output[0]])
        second = shapes[node.input[1]]
        # Each output is a sum over the second input's other dimensions.
        if node.op_type == "Conv":
            terms = math.prod(second[1:])
        else:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            terms = second[-1] if transposed else second[-2]
        macs += outputs * terms
    used = {node.input[1] for node in nodes} & set(weights)
    return macs, sum(math.prod(weights[name]) for name in used)


def _shapes(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], feed: dict[str, np.ndarray[Any, Any]]
) -> dict[str, tuple[int, ...]]:
    """Of what the nodes take as their second input and give."""
    named = {w.name for w in model.graph.initializer} | set(feed)
    wanted = [name for node in nodes for name in (node.input[1], node.output[0])]
    wanted = [name for name in dict.fromkeys(wanted) if name not in named]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    session = _session(shown)
    taken = {i.name: feed[i.name] for i in session.get_inputs()}
    return {
        name: np.shape(array)
        for name, array in zip(wanted, session.run(wanted, taken), strict=True)
    }


def row(m: Measurement, macs: int, weights: int, peaks: dict[str, float]) -> dict[str, Any]:
    """How near an artifact is to the least time that its work can take on this machine."""
    # Only where both factors are of 8 bits; else floats or wider integers are multiplied.
    whole = m.quantization in ("int8", "int8-static", "int8-full", "int4")
    kind = "int8" if whole else "float32"
    read = weights * WEIGHT_BYTES[m.quantization]
    compute_ms = 1e3 * macs / peaks[f"{kind}_macs_per_second"]
    memory_ms = 1e3 * read / peaks["memory_bytes_per_second"]
    return {
        "name": m.name,
        "quantization": m.quantization,
        "length": m.length,
        "p50_ms": m.p50_ms,
        "macs": macs,
        "weight_bytes": read,
        "peak": kind,
        "compute_ms": compute_ms,
        "memory_ms": memory_ms,
        "bound": "compute" if compute_ms >= memory_ms else "memory",
        "share_of_peak": max(compute_ms, memory_ms) / m.p50_ms,
    }


def markdown(result: dict[str, Any]) -> str:
    """The rows as a table."""
    peaks = result["peaks"]
    lines = [
        "# The share of this machine's peak that each artifact reaches",
        "",
        f"On {result['environment']['CPU']}, one thread, with `python benchmarks/roofline.py`. "
        f"Peaks: {peaks['float32_macs_per_second'] / 1e9:.1f} thousand million float32 and "
        f"{peaks['int8_macs_per_second'] / 1e9:.1f} thousand million int8 multiplications a "
        f"second, {peaks['memory_bytes_per_second'] / 1e9:.1f} GB of memory a second.",
        "",
        *(["NOT VALID: " + " ".join(result["reasons"]), ""] if not result["valid"] else []),
        "The least time is the greater of two: all multiplications at the peak of their kind, and "
        "all weights read once from memory. What the artifact takes beyond it goes to lookups, "
        "other operations, small matrices and the runtime. ONNX's int8 computes convolutions in "
        "float32, so that micro's share, which is of the int8 peak, is too small there.",
        "",
        "| artifact | million MACs | weights, MB | least, ms | set by | p50, ms | share of peak |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
        *(
            f"| {r['name']} | {three_digits(r['macs'] / 1e6)} "
            f"| {three_digits(r['weight_bytes'] / 1e6)} "
            f"| {three_digits(max(r['compute_ms'], r['memory_ms']))} "
            f"| {r['peak'] if r['bound'] == 'compute' else 'memory'} "
            f"| {three_digits(r['p50_ms'])} | {r['share_of_peak']:.0%} |"
            for r in result["artifacts"]
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

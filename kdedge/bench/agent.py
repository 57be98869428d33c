"""What runs on the device: measures one model in this process, one text at a time.

    python agent.py < job.json

Reads one JSON object from stdin:

    model                           path
    format                          "litert" or "onnx"
    inputs                          path of an .npz: ids, mask, segment_ids, int32 [texts, length]
    threads                         int
    warmup_count, warmup_seconds    not measured; both must be reached
    min_count, min_seconds          measured; both must be reached

Prints one JSON object: load_ns, first_inference_ns, samples_ns, peak_rss_bytes (of the whole
process, Python included) and runtime {name, version}; or {"error": ...} with exit status 1.

Needs Python 3.9 or later, numpy and the model's runtime, and nothing of kdedge: it is copied to
devices on its own.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NAMES = ("ids", "mask", "segment_ids")
ONNX_NAMES = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}


class Loaded(NamedTuple):
    """A model in its runtime."""

    infer: Callable[[int], Any]  # takes the number of a text
    load_ns: int
    runtime: dict[str, str]


def load_litert(path: str, threads: int, texts: dict[str, Any]) -> Loaded:
    """Load a .tflite model with int32 [1, length] inputs ids, mask and segment_ids."""
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    start = time.perf_counter_ns()
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    load_ns = time.perf_counter_ns() - start

    indexes = litert_inputs(interpreter)
    output = interpreter.get_output_details()[0]["index"]
    rows = [
        [(indexes[name], texts[name][i : i + 1]) for name in NAMES]
        for i in range(len(texts["ids"]))
    ]

    def infer(text: int) -> Any:
        for index, array in rows[text]:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return Loaded(infer, load_ns, {"name": "LiteRT", "version": ai_edge_litert.__version__})


def litert_inputs(interpreter: Any) -> dict[str, int]:
    """The tensors of ids, mask and segment_ids: by the signature's names, else in that order.

    Raises:
        ValueError: the model's inputs are others.
    """
    # Converters don't keep the order of the inputs, so only the signature is sure.
    for signature in interpreter.get_signature_list():
        details = interpreter.get_signature_runner(signature).get_input_details()
        if set(details) != set(NAMES):
            raise ValueError(f"inputs are {sorted(details)}; needed are {sorted(NAMES)}")
        return {name: details[name]["index"] for name in NAMES}
    details = interpreter.get_input_details()
    if len(details) != len(NAMES):
        raise ValueError(f"{len(details)} inputs; needed are {', '.join(NAMES)}")
    return {name: details[i]["index"] for i, name in enumerate(NAMES)}


def load_onnx(path: str, threads: int, texts: dict[str, Any]) -> Loaded:
    """Load an .onnx model with int64 [batch, length] inputs, all or some of `ONNX_NAMES`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    start = time.perf_counter_ns()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    load_ns = time.perf_counter_ns() - start

    wanted = {tensor.name for tensor in session.get_inputs()}
    arrays = {
        onnx_name: texts[name].astype(np.int64)
        for onnx_name, name in ONNX_NAMES.items()
        if onnx_name in wanted
    }
    rows = [{name: a[i : i + 1] for name, a in arrays.items()} for i in range(len(texts["ids"]))]

    def infer(text: int) -> Any:
        return session.run(None, rows[text])

    return Loaded(infer, load_ns, {"name": "ONNX Runtime", "version": onnxruntime.__version__})


LOADERS = {"litert": load_litert, "onnx": load_onnx}


def time_inferences(
    infer: Callable[[int], Any], texts: int, min_count: int, min_seconds: float
) -> list[int]:
    """Nanoseconds of each inference, going round the texts until count and duration are reached."""
    samples: list[int] = []
    end = time.perf_counter_ns() + int(min_seconds * 1e9)
    while len(samples) < min_count or time.perf_counter_ns() < end:
        text = len(samples) % texts
        start = time.perf_counter_ns()
        infer(text)
        samples.append(time.perf_counter_ns() - start)
    return samples


def peak_rss_bytes() -> int:
    """The most memory this process ever held."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job and give the answer, both as the module's docstring says."""
    with np.load(job["inputs"]) as file:
        texts = {name: file[name] for name in NAMES}
    count = len(texts["ids"])
    loaded = LOADERS[job["format"]](job["model"], job["threads"], texts)
    first = time_inferences(loaded.infer, count, 1, 0)
    time_inferences(loaded.infer, count, job["warmup_count"], job["warmup_seconds"])
    samples = time_inferences(loaded.infer, count, job["min_count"], job["min_seconds"])
    return {
        "load_ns": loaded.load_ns,
        "first_inference_ns": first[0],
        "samples_ns": samples,
        "peak_rss_bytes": peak_rss_bytes(),
        "runtime": loaded.runtime,
    }


def main() -> int:
    """Answer the job on stdin; the result is the exit status."""
    try:
        print(json.dumps(measure(json.load(sys.stdin))))
    except Exception as error:  # Whatever a runtime raises must reach the host as JSON.
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

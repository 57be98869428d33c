"""What runs on the device: measures one model in this process, one text at a time.

    python agent.py < job.json
    python agent.py JOB.json
    python agent.py environment
    python agent.py state

Reads one JSON object from stdin or from the file:

    model                           path
    format                          "litert" or "onnx"
    inputs                          path of an .npz: ids, mask, segment_ids, int32 [texts, length]
    threads                         int
    warmup_count, warmup_seconds    not measured; both must be reached
    min_count, min_seconds          measured; both must be reached

Prints one JSON object: load_ns, first_inference_ns, samples_ns, peak_rss_bytes (of the whole
process, Python included) and runtime {name, version}; or {"error": ...} with exit status 1.

`environment` and `state` measure nothing and print what the machine is like: what stays, such as
its CPU, and what changes, such as its load.

Needs Python 3.9 or later, numpy and the model's runtime, and nothing of kdedge: it is copied to
devices on its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NAMES = ("ids", "mask", "segment_ids")
ONNX_NAMES = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}
PACKAGES = {"LiteRT": "ai-edge-litert", "ONNX Runtime": "onnxruntime"}
# What matrix products profit from.
FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip

# Takes a pattern of paths, gives the texts of the files that match, one after the other.
Read = Callable[[str], str]


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


def read_files(pattern: str) -> str:
    """The texts of the files that match, one after the other; nothing of what can't be read."""
    texts = []
    for path in sorted(Path("/").glob(pattern.lstrip("/"))):
        try:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
    return "".join(texts)


def machine(read: Read) -> dict[str, Any]:
    """What stays as it is, of what Linux says: CPU, features, cores, memory in MB, governor."""
    cpuinfo = read("/proc/cpuinfo")
    cpu = _first_core(cpuinfo)
    has = (cpu.get("flags") or cpu.get("Features") or "").split()
    memory = re.search(r"MemTotal: +([0-9]+) kB", read("/proc/meminfo"))
    governors = read("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor").split()
    facts = {
        "CPU": cpu.get("model name") or read("/proc/device-tree/model").strip("\0\n "),
        "CPU features": " ".join(flag for flag in FLAGS if flag in has),
        "cores": len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
        "memory, MB": int(memory[1]) * 1024 // 1_000_000 if memory else 0,
        "governor": " ".join(sorted(set(governors))),
    }
    return {name: value for name, value in facts.items() if value}


def state(read: Read) -> dict[str, Any]:
    """What changes while measuring, where Linux says it: load, frequency, temperature, battery.

    `busy, %` is of the whole machine, over a second in which this function only waits.
    """
    facts: dict[str, Any] = {}
    if load := read("/proc/loadavg").split():
        facts["load"] = float(load[0])
    if hertz := _numbers(read("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")):
        facts["frequency, MHz"] = max(hertz) // 1000
    elif megahertz := _first_core(read("/proc/cpuinfo")).get("cpu MHz"):
        facts["frequency, MHz"] = round(float(megahertz))
    if sensors := _numbers(read("/sys/class/thermal/thermal_zone*/temp")):
        facts["hottest sensor, °C"] = max(sensors) / 1000
    if battery := _numbers(read("/sys/class/power_supply/*/capacity")):
        facts["battery, %"] = battery[0]
    if supplies := read("/sys/class/power_supply/*/status").split():
        facts["battery"] = supplies[0]
    # Not the load average: that still counts what has just ended.
    if (busy := busy_percent(read)) is not None:
        facts["busy, %"] = busy
    return facts


def busy_percent(read: Read, seconds: float = 1.0) -> int | None:
    """How much of the machine other programs use in the next `seconds`, if Linux says."""
    before = _cpu_times(read)
    time.sleep(seconds)
    after = _cpu_times(read)
    if before is None or after is None:
        return None
    spent = [b - a for a, b in zip(before, after)]  # noqa: B905, which needs Python 3.10
    # Fourth and fifth are the times of idling and of waiting for disks.
    return round(100 * (1 - sum(spent[3:5]) / max(1, sum(spent))))


def _cpu_times(read: Read) -> list[int] | None:
    first = read("/proc/stat").partition("\n")[0].split()
    # The last two are guests, which the first two hold already.
    return [int(ticks) for ticks in first[1:9]] if first[:1] == ["cpu"] else None


def _first_core(cpuinfo: str) -> dict[str, str]:
    lines = (line.partition(":") for line in cpuinfo.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdecimal()]


def installed() -> dict[str, str]:
    """Version by name of each runtime that is installed."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """What stays as it is of this machine and its Python."""
    always = {
        "CPU": platform.processor() or platform.machine(),
        "OS": platform.platform(),
        "Python": platform.python_version(),
    }
    return {**always, **machine(read_files), **installed()}


def answer() -> dict[str, Any]:
    """What the command line asks for."""
    if sys.argv[1:] == ["environment"]:
        return environment()
    if sys.argv[1:] == ["state"]:
        return state(read_files)
    if len(sys.argv) > 1:
        return measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    return measure(json.load(sys.stdin))


def main() -> int:
    """Print the answer; the result is the exit status."""
    try:
        print(json.dumps(answer()))
    except Exception as error:  # Whatever a runtime raises must reach the host as JSON.
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

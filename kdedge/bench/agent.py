"""Measures one model in this process: the program that runs on the device.

    python agent.pyz < request.json
    python agent.pyz REQUEST.json
    python agent.pyz environment
    python agent.pyz state

Reads one JSON object from stdin or from the file:

    kind            "time": latency of inferences; "text": latency from text to outputs, and
                    of the tokenization alone; "memory": the model's memory; "outputs": its outputs
    model           path
    format          "litert" or "onnx"
    threads         int
    inputs          path of an .npz with ids, mask, segment_ids, int32 [texts, length]; not for
                    "text"
    batch           "time": texts in each inference
    tokenizer       "text": path of a tokenizer.json
    texts, length   "text": strings or, for pairs, lists of two strings, and the number of tokens to
                    truncate them to; each is padded to the shortest of the model's lengths that
                    holds it
    warmup_count, warmup_seconds    "time" and "text": warm-up; goes on until both are reached
    min_count, min_seconds          "time" and "text": measured; goes on until both are reached
    limit_seconds   optional: the process is killed soon after this time

Prints one JSON object with runtime {name, version} and, depending on the kind,

    time            load_ns, first_inference_ns, samples_ns, peak_rss_bytes (of the whole process,
                    Python included), joules (of the processor while it measured, or null)
    text            tokenize_ns, end_to_end_ns
    memory          baseline_bytes (resident memory with the runtime imported, before the model is
                    loaded); load_rise_bytes and rise_bytes (the increase after loading the model,
                    and after running it on all texts)
    outputs         outputs, float [texts][classes]

or {"error": ...} with exit status 1.

`environment` and `state` only describe the machine: `environment` has facts that do not change,
such as the CPU, and `state` those that do, such as the load.

Needs Python 3.9 or later, numpy, the model's runtime and, for "text", tokenizers. Of kdedge it
needs only `kdedge.engines` and `kdedge.text.words`: all three are copied to devices as one file,
agent.pyz. Where kdedge is installed, `python -m kdedge.bench.agent` does the same.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import re
import resource
import signal
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdedge.engines import ENGINES, NAMES

# CPU features that make matrix products faster.
FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip

# Takes a glob pattern and returns the concatenated contents of the files that match.
Read = Callable[[str], str]


def time_inferences(
    infer: Callable[[Any], Any], feeds: list[Any], min_count: int, min_seconds: float
) -> list[int]:
    """Nanoseconds of each inference; cycles through the feeds until count and time are reached."""
    samples: list[int] = []
    end = time.perf_counter_ns() + int(min_seconds * 1e9)
    while len(samples) < min_count or time.perf_counter_ns() < end:
        feed = feeds[len(samples) % len(feeds)]
        start = time.perf_counter_ns()
        infer(feed)
        samples.append(time.perf_counter_ns() - start)
    return samples


def rss_bytes() -> int:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def peak_rss_bytes() -> int:
    """Peak resident memory of this process."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def microjoules(read: Read) -> int | None:
    """Sum of the processor's energy counters (RAPL); None where Linux does not show them.

    Most systems show them to root only.
    """
    counters = _numbers(read("/sys/class/powercap/intel-rapl:[0-9]/energy_uj"))
    return sum(counters) if counters else None


def joules(before: int | None, after: int | None) -> float | None:
    """Energy used between two readings; None if a counter is missing or has wrapped around."""
    return None if before is None or after is None or after < before else (after - before) / 1e6


def batches_of(texts: dict[str, Any], batch: int) -> list[dict[str, Any]]:
    """The texts in full batches; what is left over is dropped."""
    starts = range(0, len(texts["ids"]) - batch + 1, batch)
    return [
        {name: array[start : start + batch] for name, array in texts.items()} for start in starts
    ]


def measure_time(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of kind "time"."""
    engine = ENGINES[request["format"]](request["model"], request["threads"])
    feeds = [
        engine.feed(batch) for batch in batches_of(read_inputs(request["inputs"]), request["batch"])
    ]
    first = time_inferences(engine.infer, feeds, 1, 0)
    time_inferences(engine.infer, feeds, request["warmup_count"], request["warmup_seconds"])
    before = microjoules(read_files)
    samples = time_inferences(engine.infer, feeds, request["min_count"], request["min_seconds"])
    return {
        "load_ns": engine.load_ns,
        "first_inference_ns": first[0],
        "samples_ns": samples,
        "peak_rss_bytes": peak_rss_bytes(),
        "joules": joules(before, microjoules(read_files)),
        "runtime": engine.runtime,
    }


def measure_text(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of kind "text"."""
    tokens_of = tokenizer_of(request["tokenizer"], request["length"])
    engine = ENGINES[request["format"]](request["model"], request["threads"])
    tokenized: list[int] = []

    def classify(text: Any) -> Any:
        start = time.perf_counter_ns()
        ids, segments = tokens_of(text)
        tokenized.append(time.perf_counter_ns() - start)
        return engine.run_text(ids, segments)

    time_inferences(classify, request["texts"], request["warmup_count"], request["warmup_seconds"])
    tokenized.clear()
    whole = time_inferences(
        classify, request["texts"], request["min_count"], request["min_seconds"]
    )
    return {"tokenize_ns": tokenized, "end_to_end_ns": whole, "runtime": engine.runtime}


def tokenizer_of(path: str, length: int) -> Callable[[Any], tuple[Sequence[int], list[int]]]:
    """A function from a text or pair to ids and segment ids, as `kdedge.text.encoder` has them."""
    from tokenizers import Tokenizer

    from kdedge.text.words import WordTable

    tokenizer = Tokenizer.from_file(path)
    special = tokenizer.encode("")
    first, last = array("i", special.ids[:1]), array("i", special.ids[1:])
    tokenizer.enable_truncation(length)
    words = WordTable(tokenizer) if WordTable.suits(tokenizer) and len(special) == 2 else None

    def tokens_of(text: Any) -> tuple[Sequence[int], list[int]]:
        if words is not None and isinstance(text, str):
            ids = words.tokens(text, first, last, length)
            if ids is not None:
                return ids, [0] * len(ids)
        encoding = tokenizer.encode(text) if isinstance(text, str) else tokenizer.encode(*text)
        return encoding.ids, encoding.type_ids

    return tokens_of


def measure_memory(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of kind "memory"."""
    texts = read_inputs(request["inputs"])
    importlib.import_module(ENGINES[request["format"]].module)
    baseline = rss_bytes()
    engine = ENGINES[request["format"]](request["model"], request["threads"])
    after_load = rss_bytes()
    for text in batches_of(texts, 1):
        engine.infer(engine.feed(text))
    return {
        "baseline_bytes": baseline,
        "load_rise_bytes": after_load - baseline,
        "rise_bytes": rss_bytes() - baseline,
        "runtime": engine.runtime,
    }


def outputs(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of kind "outputs"."""
    engine = ENGINES[request["format"]](request["model"], request["threads"])
    rows = [engine.run(text)[0].tolist() for text in batches_of(read_inputs(request["inputs"]), 1)]
    return {"outputs": rows, "runtime": engine.runtime}


KINDS = {
    "time": measure_time,
    "text": measure_text,
    "memory": measure_memory,
    "outputs": outputs,
}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request; both have the form that the module's docstring describes."""
    return KINDS[request["kind"]](request)


def read_inputs(path: str) -> dict[str, Any]:
    """The arrays of an .npz."""
    with np.load(path) as file:
        return {name: file[name] for name in NAMES}


def read_files(pattern: str) -> str:
    """The concatenated contents of the files that match; unreadable files are skipped."""
    texts = []
    for path in sorted(Path("/").glob(pattern.lstrip("/"))):
        try:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
    return "".join(texts)


def machine(read: Read) -> dict[str, Any]:
    """Facts about the hardware from Linux: CPU, features, cores, memory in MB, governor."""
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
    """Facts about the current state from Linux: load, frequency, temperature, battery.

    `busy, %` is the CPU use of the whole machine during a second in which this function waits.
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
    # Not the load average, which still counts programs that have just ended.
    if (busy := busy_percent(read)) is not None:
        facts["busy, %"] = busy
    return facts


def busy_percent(read: Read, seconds: float = 1.0) -> int | None:
    """CPU use of the whole machine during the next `seconds`; None where Linux does not tell."""
    before = _cpu_times(read)
    time.sleep(seconds)
    after = _cpu_times(read)
    if before is None or after is None:
        return None
    spent = [b - a for a, b in zip(before, after)]  # noqa: B905, which needs Python 3.10
    # Columns 4 and 5 are idle time and time spent waiting for disks.
    return round(100 * (1 - sum(spent[3:5]) / max(1, sum(spent))))


def _cpu_times(read: Read) -> list[int] | None:
    first = read("/proc/stat").partition("\n")[0].split()
    # The last two columns (guests) are part of the first two.
    return [int(ticks) for ticks in first[1:9]] if first[:1] == ["cpu"] else None


def _first_core(cpuinfo: str) -> dict[str, str]:
    lines = (line.partition(":") for line in cpuinfo.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdecimal()]


def installed() -> dict[str, str]:
    """The versions of the installed runtimes and of tokenizers, by name."""
    found = {}
    packages = {engine.name: engine.package for engine in ENGINES.values()}
    for name, package in {**packages, "tokenizers": "tokenizers"}.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """Describe this machine and its Python."""
    always = {
        "CPU": platform.processor() or platform.machine(),
        "OS": platform.platform(),
        "Python": platform.python_version(),
    }
    return {**always, **machine(read_files), **installed()}


def answer() -> dict[str, Any]:
    """The answer to the command line or to the request that it names."""
    if sys.argv[1:] == ["environment"]:
        return environment()
    if sys.argv[1:] == ["state"]:
        return state(read_files)
    given = Path(sys.argv[1]).read_text(encoding="utf-8") if len(sys.argv) > 1 else sys.stdin.read()
    request = json.loads(given)
    if "limit_seconds" in request:
        # The host kills a process that hangs, but it can't if the connection is lost.
        signal.alarm(10 + round(request["limit_seconds"]))
    return measure(request)


def main() -> int:
    """Print the answer and return the exit status."""
    try:
        print(json.dumps(answer()))
    except Exception as error:  # Whatever a runtime raises must reach the host as JSON.
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

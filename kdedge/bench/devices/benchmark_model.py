"""Measures with TensorFlow Lite's program benchmark_model on an Android device.

It runs LiteRT models only, without a tokenizer, and prints statistics, not samples.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from kdedge.bench import agent
from kdedge.bench.devices.adb import FORM, Adb
from kdedge.bench.devices.device import Device, Format, Kind, MeasuredModel
from kdedge.bench.devices.remote import Remote
from kdedge.bench.report.model import Value
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError
from kdedge.files import sha256
from kdedge.runtime import load_engine

RUNTIME = "benchmark_model"

_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"


class BenchmarkModel(Device):
    """An Android device and a benchmark_model program, which the option of that name gives.

    Args:
        adb: the connection.
        program: file of benchmark_model, built for the device.
    """

    form = FORM
    formats: tuple[Format, ...] = ("litert",)

    def __init__(self, adb: Adb, program: Path) -> None:
        self._adb, self._remote, self._file = adb, Remote(adb), program
        self.url = adb.url

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """The device of `adb://SERIAL`, if the option is given."""
        adb = Adb.from_url(url)
        if adb is None or "benchmark_model" not in options:
            return None
        program = options.pop("benchmark_model")
        if not program.is_file():
            raise KdedgeError(f"benchmark_model: {program}: no such file.")
        return cls(adb, program)

    def open(self) -> None:
        """Connect, send the program and read from its help which flags it has."""
        self._remote.open()
        self._program = self._remote.send(self._file)
        self._help = "".join(self._adb.execute(self._program, "--help")[1:])
        if "--graph" not in self._help:
            raise KdedgeError(
                f"--benchmark-model: {self._file} does not run on {self.url}: "
                f"{self._help.strip()[-200:]} Is it built for that processor?"
            )

    def close(self) -> None:
        """Remove the temporary folder."""
        self._remote.close()

    def environment(self) -> dict[str, Value]:
        """Facts about the device from the kernel and Android, the program and its inputs."""
        facts = self._adb.environment()
        facts[RUNTIME] = sha256(self._file)
        facts["inputs"] = "one sample text" if self._takes_texts else "random numbers"
        return facts

    def state(self) -> dict[str, Value]:
        """The state that the kernel reports."""
        return agent.state(self._adb.read)

    def run(self, subject: MeasuredModel, scenario: Scenario, kind: Kind) -> Any:
        """Run benchmark_model once and read what it prints."""
        command = [self._program, f"--graph={self._remote.send(subject.model)}"]
        command += self._known(
            num_runs=scenario.min_count,
            min_secs=scenario.min_seconds,
            # Its default, 150 s, would stop it before num_runs.
            max_secs=scenario.limit_seconds,
            warmup_runs=scenario.warmup_count,
            warmup_min_secs=scenario.warmup_seconds,
            num_threads=subject.threads,
        )
        if self._takes_texts:
            command += self._inputs(subject)
        done = self._remote.run(*command, limit_seconds=scenario.limit_seconds)
        answer = read_output(done.stdout + "\n" + done.stderr, done.status)
        if answer["summary"]["count"] < scenario.min_count:
            raise KdedgeError(
                f"benchmark_model ran {answer['summary']['count']} of {scenario.min_count} "
                "inferences. Does it know --num_runs?"
            )
        return answer | {"runtime": {"name": RUNTIME, "version": sha256(self._file)}}

    @property
    def _takes_texts(self) -> bool:
        return "--input_layer_value_files" in self._help

    def _known(self, **flags: float) -> list[str]:
        """The flags that this version has; an unknown flag would stop it."""
        return [f"--{name}={value}" for name, value in flags.items() if f"--{name}" in self._help]

    def _inputs(self, subject: MeasuredModel) -> list[str]:
        """Flags that give it the first text, with the inputs in the model's order."""
        names = load_engine(subject.model).inputs
        arrays = subject.inputs.inputs
        files = [self._remote.write(f"{n}.bin", arrays[n][:1].tobytes()) for n in names]
        shape = f"1,{subject.inputs.ids.shape[1]}"
        values = ",".join(f"{name}:{file}" for name, file in zip(names, files, strict=True))
        return [
            f"--input_layer={','.join(names)}",
            f"--input_layer_shape={':'.join([shape] * len(names))}",
            f"--input_layer_value_files={values}",
        ]


def read_output(output: str, status: int = 0) -> dict[str, Any]:
    """Parse the output of any version of benchmark_model into an agent's answer without `runtime`.

    Args:
        output: standard output and error, or the part that logcat shows.
        status: exit status.

    Returns:
        `samples_ns` is empty; `summary` describes the inferences after warm-up.

    Raises:
        KdedgeError: it failed, or its output has no known form.
    """
    statistics = list(_statistics(output))
    steady = statistics[-1] if statistics else {}
    # Old: "Average inference timings in us: Warmup: 1, Init: 2, no stats: 3"; since 2020:
    # "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): 4".
    line = _last(r"nference timings in us: (.*)", output) or ""
    # LiteRT's own: "Model initialization: 1.23 ms" and so on.
    mean = (
        steady.get("avg")
        or steady.get("curr")
        or _float(r"(?:Inference \(avg\)|Inference|no stats): " + _NUMBER, line)
        or _milliseconds("Inference (avg)", output)
    )
    load = (
        _float(r"Init: " + _NUMBER, line)
        or _thousands(_float(r"Initialized session in " + _NUMBER + " ?ms", output))
        or _milliseconds("Model initialization", output)
    )
    warmup = statistics[0] if statistics else {}
    first = (
        _float(r"First inference: " + _NUMBER, line)
        or warmup.get("first")
        or warmup.get("curr")
        or _milliseconds("Warmup (first)", output)
    )
    count = steady.get("count") or _float(r"Inference \(avg\):.*\(([0-9]+) runs\)", output)
    # Printed at the end. Without these words the statistics may be those of the warm-up.
    ended = line or "Inference (avg):" in output
    if status or not (ended and mean and load and first and count):
        complaint = _last(r"(.*(?:ERROR|[Ff]ail|[Cc]ould not|not found).*)", output)
        reason = complaint or (output.strip().splitlines() or ["it printed nothing"])[-1]
        raise KdedgeError(f"benchmark_model, exit status {status}: {reason.strip()[:200]}")
    median = steady.get("median") or _milliseconds("Inference (median)", output)
    p95 = steady.get("p95") or _milliseconds("Inference (p95)", output)
    mebibytes = _float(
        rf"emory footprint.*\(MB\): .*overall={_NUMBER}", output
    ) or _float(rf"Overall footprint: +{_NUMBER} MB", output)  # fmt: skip
    return {
        "load_ns": round(1000 * load),
        "first_inference_ns": round(1000 * first),
        "samples_ns": [],
        "summary": {
            "count": round(count),
            "mean_ns": 1000 * mean,
            "median_ns": 1000 * median if median else None,
            "p95_ns": 1000 * p95 if p95 else None,
            "memory_rise_bytes": round(mebibytes * 2**20) if mebibytes else None,
        },
        "peak_rss_bytes": None,
    }


def _statistics(output: str) -> Iterator[dict[str, float]]:
    """Parse lines like "count=50 first=1 curr=1 min=1 max=1 avg=1 std=0 p5=1 median=1 p95=1"."""
    for line in output.splitlines():
        # Skip the profiler's lines about single operators, which have these words in front.
        if "count=" in line and not re.search(r"\((microseconds|bytes|KB)\)", line):
            yield {
                name: float(value)
                for name, value in re.findall(rf"\b([a-z][a-z0-9]*)={_NUMBER}", line)
            }


def _last(pattern: str, text: str) -> str | None:
    found: list[str] = re.findall(pattern, text)
    return found[-1] if found else None


def _float(pattern: str, text: str) -> float | None:
    found = _last(pattern, text)
    return float(found) if found else None


def _milliseconds(name: str, text: str) -> float | None:
    """A value that the program prints in milliseconds, converted to microseconds."""
    return _thousands(_float(rf"{re.escape(name)}: +{_NUMBER} ms", text))


def _thousands(value: float | None) -> float | None:
    return None if value is None else 1000 * value

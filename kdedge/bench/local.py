"""Measuring on this machine, with a fresh process for each artifact and repeat."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from kdedge.bench.report import Repeat, Value
from kdedge.bench.scenario import Scenario
from kdedge.bench.statistics import p50
from kdedge.errors import KdedgeError
from kdedge.progress import Advance
from kdedge.text.encoder import Encoded

AGENT = Path(__file__).with_name("agent.py")
# Other programs that use more of the machine than this take time from what is measured.
MOST_BUSY_PERCENT = 25.0
# Quiet machines stay below 1.1; beyond this something else was measured in some repeat.
MOST_SPREAD = 1.5
# What matrix products profit from.
FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """An artifact to measure, and the texts to measure it with."""

    name: str
    model: Path
    format: Literal["litert", "onnx"]
    inputs: Encoded


@dataclass(frozen=True)
class Run:
    """What was measured.

    Attributes:
        repeats: by subject; of those that ran to the end.
        failures: by subject, what went wrong.
        environment: what the machine was like.
        reasons: why the run is not valid; none if it is.
    """

    repeats: dict[str, tuple[Repeat, ...]]
    failures: dict[str, str]
    environment: dict[str, Value]
    reasons: tuple[str, ...]


def measure(subjects: Sequence[Subject], scenario: Scenario, advance: Advance) -> Run:
    """Measure subjects in turn, A B C, B C A, C A B, so that all see the same machine.

    A subject that fails is not tried again; the others go on.

    Args:
        subjects: with names that differ.
        scenario: how long.
        advance: called with 1 after each repeat of each subject.
    """
    environment = _environment(scenario) | _state("before")
    reasons = _busy()
    repeats: dict[str, list[Repeat]] = {subject.name: [] for subject in subjects}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        inputs = {s.name: Path(folder) / f"{i}.npz" for i, s in enumerate(subjects)}
        for s in subjects:
            e = s.inputs
            np.savez(inputs[s.name], ids=e.ids, mask=e.mask, segment_ids=e.segment_ids)
        for number in range(scenario.repeats):
            first = number % max(1, len(subjects))
            for s in [*subjects[first:], *subjects[:first]]:
                if s.name not in failures:
                    try:
                        repeat, runtime = run_agent(s, inputs[s.name], scenario)
                    except KdedgeError as error:
                        failures[s.name] = str(error)
                    else:
                        repeats[s.name].append(repeat)
                        environment |= runtime
                advance(1, s.name)
    measured = {name: tuple(r) for name, r in repeats.items() if name not in failures}
    reasons += [reason for name, r in measured.items() for reason in _uneven(name, r)]
    return Run(measured, failures, environment | _state("after"), tuple(reasons))


def run_agent(
    subject: Subject, inputs: Path, scenario: Scenario
) -> tuple[Repeat, dict[str, Value]]:
    """Measure a subject once, in a fresh process.

    Args:
        subject: what to measure.
        inputs: the .npz of its texts.
        scenario: how long.

    Returns:
        The repeat, and the runtime's version by its name.

    Raises:
        KdedgeError: the runtime can't load or run the model, or crashed.
    """
    job = {
        "model": str(subject.model),
        "format": subject.format,
        "inputs": str(inputs),
        **scenario.model_dump(exclude={"name", "repeats"}),
    }
    # -P: the agent's neighbours must not be found in place of the standard library's `statistics`.
    process = subprocess.run(
        [sys.executable, "-P", AGENT], input=json.dumps(job), capture_output=True, text=True
    )
    try:
        # Runtimes may print lines of their own before.
        answer = json.loads(process.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        last = process.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise KdedgeError(f"exit status {process.returncode}: {last[0]}") from None
    if "error" in answer:
        raise KdedgeError(answer["error"])
    runtime = answer.pop("runtime")
    return Repeat(**answer), {runtime["name"]: runtime["version"]}


def _busy() -> list[str]:
    # Not the load average: that still counts the training that has just ended.
    percent = psutil.cpu_percent(interval=1.0)
    if percent <= MOST_BUSY_PERCENT:
        return []
    return [
        f"The machine was busy: other programs used {percent:.0f}% of it before the start, and "
        f"{MOST_BUSY_PERCENT:.0f}% is the most."
    ]


def _uneven(name: str, repeats: Sequence[Repeat]) -> list[str]:
    medians = [p50(repeat.samples_ns) for repeat in repeats]
    spread = max(medians) / min(medians)
    if spread <= MOST_SPREAD:
        return []
    return [
        f"{name}: the slowest repeat took {spread:.2f} times as long as the fastest, and "
        f"{MOST_SPREAD} is the most."
    ]


def _cores() -> int:
    return os.cpu_count() or 1


def _environment(scenario: Scenario) -> dict[str, Value]:
    cpu = _cpuinfo()
    has = (cpu.get("flags") or cpu.get("Features") or "").split()
    facts: dict[str, Value] = {
        "CPU": cpu.get("model name") or platform.processor() or platform.machine(),
        "CPU features": " ".join(flag for flag in FLAGS if flag in has),
        "cores": _cores(),
        "threads": scenario.threads,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "frequency, MHz": cpu.get("cpu MHz", ""),
        "OS": platform.platform(),
        "Python": platform.python_version(),
    }
    return {name: value for name, value in facts.items() if value != ""}


def _state(when: str) -> dict[str, Value]:
    """What changes while measuring."""
    facts: dict[str, Value] = {f"load {when}": round(os.getloadavg()[0], 2)}
    zones = [_read(str(zone)) for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    if celsius := [int(zone) / 1000 for zone in zones if zone.isdecimal()]:
        facts[f"hottest sensor {when}, °C"] = max(celsius)
    return facts


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core."""
    first, _, _ = _read("/proc/cpuinfo").partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _read(path: str) -> str:
    """The file's text, or nothing where this machine has no such file."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""

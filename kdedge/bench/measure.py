"""Measuring subjects on one device, in turn, and keeping each repeat as soon as it is there."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from kdedge.bench.devices import Device, DeviceLostError, Subject
from kdedge.bench.report import Repeat, Value
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError
from kdedge.files import sha256, write_text
from kdedge.progress import Advance

# Other programs that use more of the machine than this take time from what is measured.
MOST_BUSY_PERCENT = 25.0
# Quiet machines stay below 1.1; beyond this something else was measured in some repeat.
MOST_SPREAD = 1.5


@dataclass(frozen=True)
class Run:
    """What was measured on a device.

    Attributes:
        repeats: by subject; of those that ran to the end.
        failures: by subject, or by the device's URL, what went wrong.
        environment: what the device was like.
        reasons: why the run is not valid; none if it is.
    """

    repeats: dict[str, tuple[Repeat, ...]]
    failures: dict[str, str]
    environment: dict[str, Value]
    reasons: tuple[str, ...]


class Runtime(BaseModel):
    """What ran a model."""

    name: str
    version: str


class Answer(Repeat):
    """What an agent answers."""

    runtime: Runtime


class Kept(BaseModel):
    """An answer as it is kept on disk."""

    answer: Answer
    reasons: tuple[str, ...] = Field(description="why the run that it is of was not valid")


def measure(
    device: Device,
    subjects: Sequence[Subject],
    scenario: Scenario,
    advance: Advance,
    folder: Path,
) -> Run:
    """Measure subjects in turn, A B C, B C A, C A B, so that all see the same machine.

    A subject that fails is not tried again; the others go on. When the device goes away, what was
    measured is returned, with the device's name among the failures.

    Args:
        device: where; it is connected and left again.
        subjects: with names that differ.
        scenario: how long.
        advance: called with 1 after each repeat of each subject.
        folder: where each answer is kept; one that is there already is not measured again.

    Raises:
        KdedgeError: nothing could be measured, since the device can't be reached or lacks what is
            needed.
    """
    repeats: dict[str, list[Repeat]] = {subject.name: [] for subject in subjects}
    failures: dict[str, str] = {}
    reasons: dict[str, None] = {}
    with device:
        fixed = device.environment()
        before = device.state()
        environment = fixed | {"threads": scenario.threads} | _marked(before, "before")
        now = _busy(device, before)
        try:
            for number in range(scenario.repeats):
                first = number % max(1, len(subjects))
                for subject in [*subjects[first:], *subjects[:first]]:
                    if subject.name not in failures:
                        path = folder / f"{_key(device, fixed, subject, scenario, number)}.json"
                        try:
                            kept = _kept(path) or _measured(device, subject, scenario, now, path)
                        except DeviceLostError:
                            raise
                        except KdedgeError as error:
                            failures[subject.name] = f"on {device.url}: {error}"
                        else:
                            repeats[subject.name].append(Repeat(**kept.answer.model_dump()))
                            reasons |= dict.fromkeys(kept.reasons)
                            environment[kept.answer.runtime.name] = kept.answer.runtime.version
                    advance(1, subject.name)
            environment |= _marked(device.state(), "after")
        except DeviceLostError as error:
            done = sum(map(len, repeats.values()))
            failures[device.url] = (
                f"{error} {done} of {scenario.repeats * len(subjects)} runs are kept in {folder}; "
                "the same command measures the others."
            )
    whole = {
        name: tuple(r)
        for name, r in repeats.items()
        if name not in failures and len(r) == scenario.repeats
    }
    uneven = [reason for name, r in whole.items() for reason in _uneven(name, r)]
    return Run(whole, failures, environment, (*reasons, *uneven))


def _measured(
    device: Device, subject: Subject, scenario: Scenario, reasons: tuple[str, ...], path: Path
) -> Kept:
    said = device.run(subject, scenario)
    try:
        kept = Kept(answer=Answer.model_validate(said), reasons=reasons)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise KdedgeError(
            f"what ran there answered no measurement ({where}: {first['msg']}): "
            f"{json.dumps(said)[:200]}"
        ) from None
    write_text(path, kept.model_dump_json())
    return kept


def _kept(path: Path) -> Kept | None:
    try:
        return Kept.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _key(
    device: Device, fixed: dict[str, Value], subject: Subject, scenario: Scenario, number: int
) -> str:
    """Differs where anything differs that could change the answer."""
    inputs = hashlib.sha256(b"".join(array.tobytes() for array in subject.inputs.inputs.values()))
    parts: list[Any] = [
        device.url,
        fixed,
        subject.name,
        sha256(subject.model),
        inputs.hexdigest(),
        scenario.model_dump(),
        number,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _marked(state: dict[str, Value], when: str) -> dict[str, Value]:
    """`load, %` becomes `load before, %`."""
    parts = ((name.partition(", "), value) for name, value in state.items())
    return {f"{name} {when}{comma}{unit}": value for (name, comma, unit), value in parts}


def _busy(device: Device, state: dict[str, Value]) -> tuple[str, ...]:
    percent = state.get("busy, %", 0)
    if not isinstance(percent, int | float) or percent <= MOST_BUSY_PERCENT:
        return ()
    return (
        f"{device.url} was busy: other programs used {percent:.0f}% of it before the start, and "
        f"{MOST_BUSY_PERCENT:.0f}% is the most.",
    )


def _uneven(name: str, repeats: Sequence[Repeat]) -> list[str]:
    medians = [repeat.p50_ns for repeat in repeats]
    spread = max(medians) / min(medians)
    if spread <= MOST_SPREAD:
        return []
    return [
        f"{name}: the slowest repeat took {spread:.2f} times as long as the fastest, and "
        f"{MOST_SPREAD} is the most."
    ]

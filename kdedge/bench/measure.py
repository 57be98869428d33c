"""Measures several models on one device, in turn, and saves each answer at once."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from kdedge.bench.devices import Device, DeviceLostError, Kind, MeasuredModel
from kdedge.bench.report.model import Memory, Repeat, TextTimes, Value, slowing
from kdedge.bench.scenario import SINGLE_STREAM, Scenario
from kdedge.errors import KdedgeError
from kdedge.files import sha256, write_text
from kdedge.progress import Advance

# If other programs use more of the machine than this, they slow down what is measured.
MOST_BUSY_PERCENT = 25.0
# Slowest repeat / fastest repeat. A quiet machine stays below 1.1; above this limit some repeat was
# disturbed.
MOST_SPREAD = 1.5
# Last third / first third of a repeat. A device that gets hot slows down.
MOST_SLOWING = 1.2


@dataclass(frozen=True)
class Run:
    """The measurements on a device.

    Attributes:
        repeats: the repeats of each subject that ran to the end.
        texts: times from text to outputs of each subject, one for each repeat, if the device
            measures them.
        others: the results of each subject in the other kinds of measurement, by kind.
        failures: error messages, by subject or by the device's URL.
        environment: facts about the device and its state.
        reasons: reasons why the run is not valid; empty if it is valid.
    """

    repeats: dict[str, tuple[Repeat, ...]]
    texts: dict[str, tuple[TextTimes, ...]]
    others: dict[str, dict[Kind, Any]]
    failures: dict[str, str]
    environment: dict[str, Value]
    reasons: tuple[str, ...]


class Runtime(BaseModel):
    """The runtime that ran a model."""

    name: str
    version: str


class Outputs(BaseModel):
    """A model's outputs, one row for each text."""

    outputs: tuple[tuple[float, ...], ...]


# The form of an agent's answer to each kind of request, apart from its `runtime`.
ANSWERS: dict[Kind, type[BaseModel]] = {
    "time": Repeat,
    "text": TextTimes,
    "memory": Memory,
    "outputs": Outputs,
}


class AnyAnswer(BaseModel):
    """The part that all answers have."""

    runtime: Runtime


class StoredAnswer(BaseModel):
    """An answer as it is saved on disk."""

    answer: dict[str, Any]
    reasons: tuple[str, ...] = Field(description="why its run was not valid")


def measure(
    device: Device,
    subjects: Sequence[MeasuredModel],
    scenario: Scenario,
    advance: Advance,
    folder: Path,
) -> Run:
    """Measure subjects in turn, A B C, B C A, C A B, so that all see the machine in the same state.

    A subject that fails is not tried again; the others continue. If the device goes away, the
    results so far are returned, with the device's URL among the failures.

    Args:
        device: device to measure on; it is connected here, and disconnected at the end.
        subjects: subjects to measure, with different names.
        scenario: how long to measure.
        advance: called with 1 after each run on the device.
        folder: folder to save answers to; what is there already is not measured again.

    Raises:
        KdedgeError: nothing could be measured: the device can't be reached, or something is missing
            there.
    """
    repeats: dict[str, list[Repeat]] = {subject.name: [] for subject in subjects}
    texts: dict[str, list[TextTimes]] = {subject.name: [] for subject in subjects}
    others: dict[str, dict[Kind, Any]] = {subject.name: {} for subject in subjects}
    failures: dict[str, str] = {}
    reasons: dict[str, None] = {}
    with device:
        fixed = device.environment()
        before = device.state()
        environment = fixed | _marked(before, "before")
        now = _busy(device, before)

        def ask(subject: MeasuredModel, kind: Kind, number: int) -> Any:
            path = folder / f"{_key(device, fixed, subject, scenario, kind, number)}.json"
            kept = _stored(path)
            if kept is None:
                answer = checked(device.run(subject, scenario, kind), kind)
                kept = StoredAnswer(answer=answer, reasons=now)
                write_text(path, kept.model_dump_json())
            runtime = AnyAnswer.model_validate(kept.answer).runtime
            environment[runtime.name] = runtime.version
            reasons.update(dict.fromkeys(kept.reasons))
            return ANSWERS[kind].model_validate(kept.answer)

        # Each round starts with another subject. Measurements that are made once come last.
        asked: list[tuple[MeasuredModel, Kind, int]] = [
            (subject, kind, number)
            for number in range(scenario.repeats)
            for subject in _rotated(subjects, number)
            for kind in repeated_kinds(device, subject, scenario)
        ]
        asked += [
            (subject, kind, 0) for subject in subjects for kind in single_kinds(device, subject)
        ]
        try:
            for subject, kind, number in asked:
                if subject.name not in failures:
                    try:
                        found = ask(subject, kind, number)
                    except DeviceLostError:
                        raise
                    except KdedgeError as error:
                        failures[subject.name] = f"on {device.url}: {error}"
                    else:
                        if kind == "time":
                            repeats[subject.name].append(found)
                        elif kind == "text":
                            texts[subject.name].append(found)
                        else:
                            others[subject.name][kind] = found
                advance(1, subject.name)
            environment |= _marked(device.state(), "after")
        except DeviceLostError as error:
            done = sum(sum(map(len, kept.values())) for kept in (repeats, texts, others))
            failures[device.url] = (
                f"{error} {done} of {len(asked)} runs are kept in {folder}; "
                "the same command measures the others."
            )
    whole = {
        name: tuple(r)
        for name, r in repeats.items()
        if name not in failures and len(r) == scenario.repeats
    }
    doubts = [reason for name, r in whole.items() for reason in _doubts(name, r)]
    of_texts = {name: tuple(texts[name]) for name in whole}
    return Run(whole, of_texts, others, failures, environment, (*reasons, *doubts))


def repeated_kinds(device: Device, subject: MeasuredModel, scenario: Scenario) -> list[Kind]:
    """The kinds that are measured in each repeat: latency of inferences, and from text to outputs.

    The second only with one thread and one text at a time, and if the device supports it.
    """
    plain = subject.threads == subject.batch == 1 and scenario.kind == SINGLE_STREAM
    return ["time", "text"] if plain and "text" in device.kinds else ["time"]


def single_kinds(device: Device, subject: MeasuredModel) -> list[Kind]:
    """The kinds that are measured once: memory and outputs, if the device supports them.

    Only with one thread and one text at a time.
    """
    plain = subject.threads == subject.batch == 1
    kinds: list[Kind] = ["memory"] if plain else []
    if plain and subject.labelled is not None:
        kinds.append("outputs")
    return [kind for kind in kinds if kind in device.kinds]


def _rotated(subjects: Sequence[MeasuredModel], number: int) -> list[MeasuredModel]:
    first = number % max(1, len(subjects))
    return [*subjects[first:], *subjects[:first]]


def checked(answer: Any, kind: Kind) -> dict[str, Any]:
    """Check and return the answer of a device's agent.

    Raises:
        KdedgeError: it is no answer of that kind.
    """
    try:
        ANSWERS[kind].model_validate(answer)
        AnyAnswer.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise KdedgeError(
            f"the program on the device gave no valid measurement ({where}: {first['msg']}): "
            f"{json.dumps(answer)[:200]}"
        ) from None
    return dict(answer)


def _stored(path: Path) -> StoredAnswer | None:
    try:
        return StoredAnswer.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _key(
    device: Device,
    fixed: dict[str, Value],
    subject: MeasuredModel,
    scenario: Scenario,
    kind: Kind,
    number: int,
) -> str:
    """A hash of everything that the answer depends on."""
    texts = [subject.inputs, *([subject.labelled] if subject.labelled else [])]
    inputs = hashlib.sha256(
        b"".join(array.tobytes() for encoded in texts for array in encoded.inputs.values())
    )
    parts: list[Any] = [
        device.url,
        fixed,
        subject.name,
        sha256(subject.model),
        inputs.hexdigest(),
        subject.threads,
        subject.batch,
        scenario.model_dump(),
        kind,
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
        f"{device.url} was busy: other programs used {percent:.0f}% of it before the start; at "
        f"most {MOST_BUSY_PERCENT:.0f}% is allowed.",
    )


def _doubts(name: str, repeats: Sequence[Repeat]) -> list[str]:
    found = []
    medians = [repeat.p50_ns for repeat in repeats]
    spread = max(medians) / min(medians)
    if spread > MOST_SPREAD:
        found.append(
            f"{name}: the slowest repeat took {spread:.2f} times as long as the fastest; at most "
            f"{MOST_SPREAD} is allowed."
        )
    if (slower := slowing(repeats)) and slower > MOST_SLOWING:
        found.append(
            f"{name}: the last third of a repeat was {slower:.2f} times as slow as the first; at "
            f"most {MOST_SLOWING} is allowed. The device throttles."
        )
    return found

"""What every device can do, however it is reached."""

import io
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from kdedge.bench.report import Value
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError
from kdedge.text.encoder import Encoded

AGENT = Path(__file__).parents[1] / "agent.py"
Format = Literal["litert", "onnx"]


@dataclass(frozen=True)
class Subject:
    """An artifact to measure, and the texts to measure it with."""

    name: str
    model: Path
    format: Format
    inputs: Encoded


class DeviceLostError(KdedgeError):
    """The device can't be reached, or not any more: there is no use in asking it again now."""


class Device(ABC):
    """Where artifacts are measured. A context: connected inside, left as it was outside.

    Attributes:
        url: what the user calls it.
        formats: of the artifacts that can run there at all.
    """

    url: str
    formats: tuple[Format, ...] = ("litert", "onnx")

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def open(self) -> None:
        """Connect.

        Raises:
            DeviceLostError: it can't be reached.
            KdedgeError: something is missing there.
        """

    @abstractmethod
    def close(self) -> None:
        """Remove what was put there and disconnect, however far `open` came."""

    @abstractmethod
    def environment(self) -> dict[str, Value]:
        """What stays as it is while measuring: CPU, memory in MB, OS, runtimes and versions."""

    @abstractmethod
    def state(self) -> dict[str, Value]:
        """What changes, where it can be read; as `kdedge.bench.agent.state`."""

    @abstractmethod
    def run(self, subject: Subject, scenario: Scenario) -> Any:
        """Measure a subject once in a fresh process and give the agent's answer, unchecked.

        Raises:
            DeviceLostError: it went away.
            KdedgeError: the runtime can't load or run the model, or the answer is no JSON.
        """


class Completed(NamedTuple):
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str


def npz(inputs: Encoded) -> bytes:
    """The file that the agent reads its texts from."""
    buffer = io.BytesIO()
    np.savez(buffer, ids=inputs.ids, mask=inputs.mask, segment_ids=inputs.segment_ids)
    return buffer.getvalue()


def job(subject: Subject, scenario: Scenario, model: str, inputs: str) -> dict[str, Any]:
    """What the agent is asked, as its docstring says; paths are the device's."""
    return {
        "model": model,
        "format": subject.format,
        "inputs": inputs,
        **scenario.model_dump(exclude={"name", "repeats"}),
    }


def answer_of(completed: Completed) -> Any:
    """The JSON in the last line that an agent printed.

    Raises:
        KdedgeError: there is none, or it is an error.
    """
    try:
        # Runtimes may print lines of their own before.
        answer = json.loads(completed.stdout.splitlines()[-1])
    except (IndexError, ValueError, RecursionError):
        output = completed.stderr.strip() or completed.stdout.strip() or "it printed nothing"
        raise KdedgeError(
            f"exit status {completed.status}: {output.splitlines()[-1][:200]}"
        ) from None
    if isinstance(answer, dict) and "error" in answer:
        raise KdedgeError(str(answer["error"]))
    return answer

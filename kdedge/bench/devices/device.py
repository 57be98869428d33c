"""The contract of a device, and what devices share."""

import importlib.resources
import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from kdedge.bench.report.model import RUNTIMES, Value
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError
from kdedge.text.encoder import Encoded
from kdedge.text.pairs import Text

# Time limit of a small command, or of sending a part of a file.
ANSWER_SECONDS = 300
Format = Literal["litert", "onnx"]
Kind = Literal["time", "text", "memory", "outputs"]


@dataclass(frozen=True)
class MeasuredModel:
    """An artifact to measure, and the texts to measure it with.

    Attributes:
        name: unique in a run.
        model: the model file.
        format: its format, which says the runtime.
        inputs: the texts as token ids.
        tokenizer: the tokenizer.json that made these ids.
        texts: the texts.
        threads: threads that the runtime may use.
        batch: texts in each inference.
        labelled: token ids of texts with known labels, to compare outputs and compute the score.
    """

    name: str
    model: Path
    format: Format
    inputs: Encoded
    tokenizer: Path
    texts: tuple[Text, ...]
    threads: int = 1
    batch: int = 1
    labelled: Encoded | None = None


class DeviceLostError(KdedgeError):
    """The device can't be reached, or was disconnected: retrying at once would not help."""


class Device(ABC):
    """A device to measure on. As a context manager it connects, and afterwards cleans up.

    Attributes:
        form: form of the URLs of this kind of device, for messages.
        url: the URL that the user gave.
        formats: formats that can run there.
        runtimes: names of the runtimes; `environment` has the versions of those installed.
        own_inputs: whether it makes the inputs itself, of one text each, at the text's own length.
        kinds: measurements that it can make, as `kdedge.bench.agent` names them; final once it is
            open.
    """

    form: ClassVar[str]
    url: str
    formats: tuple[Format, ...] = ("litert", "onnx")
    runtimes: tuple[str, ...] = tuple(RUNTIMES.values())
    own_inputs: ClassVar[bool] = False
    kinds: tuple[Kind, ...] = ("time",)

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """The device of a URL, or None if it is of another kind; nothing is connected yet.

        Args:
            url: the URL that the user gave.
            options: the options that the user gave; those that the device uses are removed.

        Raises:
            ValueError: the URL can't be read.
            KdedgeError: an option's value can't be used.
        """
        return None

    @classmethod
    def found(cls) -> list[str]:
        """URLs of the devices of this kind that can be found automatically.

        Raises:
            KdedgeError: a program that searches for them does not run.
        """
        return []

    @abstractmethod
    def open(self) -> None:
        """Connect.

        Raises:
            DeviceLostError: it can't be reached.
            KdedgeError: something is missing there.
        """

    @abstractmethod
    def close(self) -> None:
        """Remove the files that were sent and disconnect, even if `open` failed half-way."""

    @abstractmethod
    def environment(self) -> dict[str, Value]:
        """Facts that do not change: CPU, memory in MB, OS, runtimes and their versions."""

    @abstractmethod
    def state(self) -> dict[str, Value]:
        """Facts that change, such as the load; see `kdedge.bench.agent.state`."""

    @abstractmethod
    def run(self, subject: MeasuredModel, scenario: Scenario, kind: Kind) -> Any:
        """Make one measurement in a new process and return the agent's answer, unchecked.

        Raises:
            DeviceLostError: the device went away.
            KdedgeError: the runtime can't load or run the model, the time limit
                `scenario.limit_seconds` is over, or the answer is not JSON.
        """


class Completed(NamedTuple):
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str


def agent_program() -> bytes:
    """The agent, engines and tokenizer as one zipapp: `python agent.pyz` runs it."""
    package = importlib.resources.files("kdedge")
    files = {
        "__main__.py": b"import sys\nfrom kdedge.bench.agent import main\nsys.exit(main())\n",
        "kdedge/__init__.py": b"",
        "kdedge/bench/__init__.py": b"",
        "kdedge/text/__init__.py": b"",
    }
    for name in ("engines.py", "bench/agent.py", "text/words.py"):
        files[f"kdedge/{name}"] = package.joinpath(name).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            # Without a date: equal sources give equal bytes.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def npz(inputs: Encoded) -> bytes:
    """An .npz file of token ids, as the agent reads it."""
    buffer = io.BytesIO()
    np.savez(buffer, ids=inputs.ids, mask=inputs.mask, segment_ids=inputs.segment_ids)
    return buffer.getvalue()


def request_of(
    subject: MeasuredModel,
    scenario: Scenario,
    kind: Kind,
    send: Callable[[Path], str],
    write: Callable[[str, bytes], str],
) -> dict[str, Any]:
    """The request for the agent; see `kdedge.bench.agent`.

    Args:
        subject: what to measure.
        scenario: how long to measure.
        kind: kind of measurement.
        send: copies a file to the device and returns its path there.
        write: writes a file of that name on the device and returns its path there.
    """
    request: dict[str, Any] = {
        "kind": kind,
        "model": send(subject.model),
        "format": subject.format,
        "threads": subject.threads,
        "batch": subject.batch,
        **scenario.model_dump(include={"warmup_count", "warmup_seconds", "min_count"}),
        "limit_seconds": scenario.limit_seconds,
        # Fewer samples are enough for the other kinds.
        "min_seconds": scenario.min_seconds if kind in ("time", "text") else 0,
    }
    if kind == "text":
        length = subject.inputs.ids.shape[1]
        return request | {
            "tokenizer": send(subject.tokenizer),
            "texts": subject.texts,
            "length": length,
        }
    inputs = subject.labelled if kind == "outputs" else subject.inputs
    assert inputs is not None
    return request | {"inputs": write("inputs.npz", npz(inputs))}


def hangs(seconds: float) -> KdedgeError:
    """The error for a process that was stopped at its time limit."""
    return KdedgeError(f"not done after {seconds:.0f} s, and was stopped.")


def answer_of(completed: Completed) -> Any:
    """The JSON in the last line that the agent printed.

    Raises:
        KdedgeError: there is none, or it reports an error.
    """
    try:
        # Runtimes may print their own lines before it.
        answer = json.loads(completed.stdout.splitlines()[-1])
    except (IndexError, ValueError, RecursionError):
        output = completed.stderr.strip() or completed.stdout.strip() or "it printed nothing"
        raise KdedgeError(
            f"exit status {completed.status}: {output.splitlines()[-1][:200]}"
        ) from None
    if isinstance(answer, dict) and "error" in answer:
        raise KdedgeError(str(answer["error"]))
    return answer

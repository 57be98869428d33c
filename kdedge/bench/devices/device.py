"""What every device can do, however it is reached."""

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

# What a device may take to answer: a small command, or the next part of a file.
ANSWER_SECONDS = 300
Format = Literal["litert", "onnx"]
Kind = Literal["time", "text", "memory", "outputs"]


@dataclass(frozen=True)
class Subject:
    """An artifact to measure, and the texts to measure it with.

    Attributes:
        name: unlike the others'.
        model: its file.
        format: what runs it.
        inputs: the texts as token ids.
        tokenizer: the tokenizer.json that made them.
        texts: themselves.
        threads: that the runtime may use.
        batch: texts an inference.
        labelled: texts whose labels are known, as token ids; what is said of them is compared.
    """

    name: str
    model: Path
    format: Format
    inputs: Encoded
    tokenizer: Path
    texts: tuple[str, ...]
    threads: int = 1
    batch: int = 1
    labelled: Encoded | None = None


class DeviceLostError(KdedgeError):
    """The device can't be reached, or not any more: there is no use in asking it again now."""


class Device(ABC):
    """Where artifacts are measured. A context: connected inside, left as it was outside.

    Attributes:
        form: of the URLs of this kind of device, for messages.
        url: what the user calls it.
        formats: of the artifacts that can run there at all.
        runtimes: whose versions `environment` has, where they are installed.
        kinds: of measurements that can be made there, as `kdedge.bench.agent` names them; known
            once it is open.
    """

    form: ClassVar[str]
    url: str
    formats: tuple[Format, ...] = ("litert", "onnx")
    runtimes: tuple[str, ...] = tuple(RUNTIMES.values())
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
        """The device of a URL, if it is of this kind; nothing is connected yet.

        Args:
            url: as the user gave it.
            options: given by the user; those that the device makes use of are taken out.

        Raises:
            ValueError: the URL can't be read.
            KdedgeError: an option's value can't be used.
        """
        return None

    @classmethod
    def found(cls) -> list[str]:
        """URLs of this kind that are found without being told where to look.

        Raises:
            KdedgeError: a program that looks for them doesn't run.
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
        """Remove what was put there and disconnect, however far `open` came."""

    @abstractmethod
    def environment(self) -> dict[str, Value]:
        """What stays as it is while measuring: CPU, memory in MB, OS, runtimes and versions."""

    @abstractmethod
    def state(self) -> dict[str, Value]:
        """What changes, where it can be read; as `kdedge.bench.agent.state`."""

    @abstractmethod
    def run(self, subject: Subject, scenario: Scenario, kind: Kind) -> Any:
        """Do a measurement once in a fresh process and give the agent's answer, unchecked.

        Raises:
            DeviceLostError: it went away.
            KdedgeError: the runtime can't load or run the model, it takes longer than
                `scenario.limit_seconds`, or the answer is no JSON.
        """


class Completed(NamedTuple):
    """A program that has ended."""

    status: int
    stdout: str
    stderr: str


def agent_program() -> bytes:
    """The agent and the engines as one file, which any Python runs: `python agent.pyz`."""
    package = importlib.resources.files("kdedge")
    files = {
        "__main__.py": b"import sys\nfrom kdedge.bench.agent import main\nsys.exit(main())\n",
        "kdedge/__init__.py": b"",
        "kdedge/bench/__init__.py": b"",
    }
    for name in ("engines.py", "bench/agent.py"):
        files[f"kdedge/{name}"] = package.joinpath(name).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            # Without a date, so that the same sources are the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def npz(inputs: Encoded) -> bytes:
    """The file that the agent reads its texts from."""
    buffer = io.BytesIO()
    np.savez(buffer, ids=inputs.ids, mask=inputs.mask, segment_ids=inputs.segment_ids)
    return buffer.getvalue()


def job(
    subject: Subject,
    scenario: Scenario,
    kind: Kind,
    send: Callable[[Path], str],
    write: Callable[[str, bytes], str],
) -> dict[str, Any]:
    """What the agent is asked, as its docstring says.

    Args:
        subject: to measure.
        scenario: how long.
        kind: what is measured.
        send: brings a file to the device and gives its path there.
        write: writes a file of that name there and gives its path.
    """
    asked: dict[str, Any] = {
        "kind": kind,
        "model": send(subject.model),
        "format": subject.format,
        "threads": subject.threads,
        "batch": subject.batch,
        **scenario.model_dump(include={"warmup_count", "warmup_seconds", "min_count"}),
        "limit_seconds": scenario.limit_seconds,
        # That texts take their time is known from fewer of them.
        "min_seconds": scenario.min_seconds if kind == "time" else 0,
    }
    if kind == "text":
        length = subject.inputs.ids.shape[1]
        return asked | {
            "tokenizer": send(subject.tokenizer),
            "texts": subject.texts,
            "length": length,
        }
    inputs = subject.labelled if kind == "outputs" else subject.inputs
    assert inputs is not None
    return asked | {"inputs": write("inputs.npz", npz(inputs))}


def hangs(seconds: float) -> KdedgeError:
    """What to say of a process that does not come to an end."""
    return KdedgeError(f"not done after {seconds:.0f} s, and was stopped.")


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

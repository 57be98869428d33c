"""Devices that take files and commands: the agent is copied there and runs there."""

import contextlib
import json
from pathlib import Path
from typing import Any, Protocol

from kdedge.bench.devices.device import (
    Completed,
    Device,
    DeviceLostError,
    Kind,
    MeasuredModel,
    agent_program,
    answer_of,
    hangs,
    request_of,
)
from kdedge.bench.report.model import RUNTIMES, Value
from kdedge.bench.scenario import Scenario
from kdedge.engines import ENGINES
from kdedge.errors import KdedgeError

# In the user's cache folder there, so that the next run finds it.
VENV = ".cache/kdedge/venv"
# Long enough for a small board with a slow memory card.
INSTALL_SECONDS = 3600


class Transport(Protocol):
    """A connection to a device. All methods except `close` raise DeviceLostError if it is gone."""

    url: str
    scratch: str  # folder on the device for temporary folders
    remedy: str  # what to do if no Python on the device has a runtime

    def open(self) -> None:
        """Connect."""

    def close(self) -> None:
        """Disconnect; it is no error if the device is gone already."""

    def execute(self, *command: str, limit_seconds: float | None = None) -> Completed:
        """Run a program with its arguments and wait for its end.

        Args:
            command: the program and its arguments.
            limit_seconds: time limit; by default `ANSWER_SECONDS`, after which the device counts as
                gone.

        Raises:
            TimeoutError: `limit_seconds` are over; the program may still be running.
        """

    def send(self, content: bytes, path: str) -> None:
        """Write a file."""


class Remote:
    """A transport with a temporary folder on the device, to which `send` copies each file once.

    Attributes:
        folder: path of that folder.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport, self.url = transport, transport.url
        self.folder = ""
        self._sent: dict[Path, str] = {}

    def open(self) -> None:
        """Connect and make the folder."""
        self.transport.open()
        self._sent.clear()
        self.folder = self.checked("mktemp", "-d", f"{self.transport.scratch}/kdedge.XXXXXX")

    def close(self) -> None:
        """Remove the folder and disconnect."""
        if self.folder:
            # If the device is gone, the folder stays until the device clears its temporary files.
            with contextlib.suppress(DeviceLostError):
                self.transport.execute("rm", "-rf", self.folder)
        self.folder = ""
        self.transport.close()

    def run(self, *command: str, limit_seconds: float) -> Completed:
        """Run a program, and kill it at the time limit.

        Raises:
            KdedgeError: it was killed.
        """
        pid = f"{self.folder}/pid"
        # `exec`: the program takes over the process whose id was written.
        script = 'echo $$ > "$0" && exec "$@"'
        try:
            return self.transport.execute(
                "sh", "-c", script, pid, *command, limit_seconds=limit_seconds
            )
        except TimeoutError:
            self.transport.execute("sh", "-c", 'kill -9 "$(cat "$0")"', pid)
            raise hangs(limit_seconds) from None

    def checked(self, *command: str, limit_seconds: float | None = None) -> str:
        """Run a command that must succeed, and return what it prints.

        Raises:
            KdedgeError: it fails.
            TimeoutError: `limit_seconds` are over.
        """
        done = self.transport.execute(*command, limit_seconds=limit_seconds)
        if done.status:
            last_line = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise KdedgeError(
                f"{self.url}: `{' '.join(command)}` failed there with exit status {done.status}"
                + "".join(f": {line}" for line in last_line)
            )
        return done.stdout.strip()

    def send(self, file: Path) -> str:
        """Copy a file into the folder, unless it is there, and return its path there."""
        if file not in self._sent:
            # Bundles may have two files with the same name.
            self._sent[file] = self.write(f"{len(self._sent)}-{file.name}", file.read_bytes())
        return self._sent[file]

    def write(self, name: str, content: bytes) -> str:
        """Write a file into the folder and return its path there."""
        path = f"{self.folder}/{name}"
        self.transport.send(content, path)
        return path


class CopiedAgent(Device):
    """A device that runs the agent with its own Python.

    Args:
        transport: the connection to the device.
        setup: make a virtual environment with the runtimes if no Python there has them.
    """

    kinds: tuple[Kind, ...] = ("time", "text", "memory", "outputs")

    def __init__(self, transport: Transport, setup: bool) -> None:
        self._remote, self._setup = Remote(transport), setup
        self.url = transport.url

    def open(self) -> None:
        """Connect, send the agent and find a Python that can run it."""
        self._remote.open()
        self._agent = self._remote.write("agent.pyz", agent_program())
        self._python, self._environment = self._find_python()
        if "tokenizers" not in self._environment:
            self.kinds = ("time", "memory", "outputs")

    def close(self) -> None:
        """Remove the temporary folder and disconnect."""
        self._remote.close()

    def environment(self) -> dict[str, Value]:
        """The answer of the agent there; see `kdedge.bench.agent.environment`."""
        return self._environment

    def state(self) -> dict[str, Value]:
        """The answer of the agent there; see `kdedge.bench.agent.state`."""
        return self._ask(self._python, "state") or {}

    def run(self, subject: MeasuredModel, scenario: Scenario, kind: Kind) -> Any:
        """Run the agent there."""
        runtime = RUNTIMES[subject.format]
        if runtime not in self._environment:
            raise KdedgeError(
                f"{runtime} is not installed in {self._python} of {self.url}. "
                f"{self._remote.transport.remedy}"
            )
        request = request_of(subject, scenario, kind, self._remote.send, self._remote.write)
        done = self._remote.run(
            self._python,
            self._agent,
            self._remote.write("request.json", json.dumps(request).encode()),
            limit_seconds=scenario.limit_seconds,
        )
        return answer_of(done)

    def _find_python(self) -> tuple[str, dict[str, Value]]:
        """The Python there that has the most runtimes, and the environment that it reports."""
        home = self._remote.checked("sh", "-c", 'echo "$HOME"')
        venv = f"{home}/{VENV}"
        found = self._try(f"{venv}/bin/python", "python3")
        if self._setup and (not found or not set(self.runtimes) <= set(found[0][1])):
            self._make(venv)
            found = self._try(f"{venv}/bin/python")
        if not found:
            raise KdedgeError(
                f"{self.url}: neither {venv} nor `python3` there has numpy and one of "
                f"{', '.join(self.runtimes)}. {self._remote.transport.remedy}"
            )
        return found[0]

    def _try(self, *pythons: str) -> list[tuple[str, dict[str, Value]]]:
        """The Pythons that can run a model, the one with the most runtimes first."""
        found = [(python, self._ask(python, "environment")) for python in pythons]
        usable = [
            (python, facts) for python, facts in found if facts and set(self.runtimes) & set(facts)
        ]
        return sorted(usable, key=lambda one: -len(set(self.runtimes) & set(one[1])))

    def _ask(self, python: str, what: str) -> dict[str, Value] | None:
        """The agent's `environment` or `state` with this Python; None if it can't run."""
        try:
            answer = answer_of(self._remote.transport.execute(python, self._agent, what))
        except DeviceLostError:
            raise
        except KdedgeError:
            return None
        return answer if isinstance(answer, dict) else None

    def _make(self, venv: str) -> None:
        self._remote.checked("python3", "-m", "venv", "--clear", venv)
        packages = ("numpy", "tokenizers", *(engine.package for engine in ENGINES.values()))
        install = (f"{venv}/bin/python", "-m", "pip", "install", "--quiet", *packages)
        try:
            self._remote.checked(*install, limit_seconds=INSTALL_SECONDS)
        except TimeoutError:
            raise KdedgeError(
                f"--setup: {self.url} has not installed {', '.join(packages)} after "
                f"{INSTALL_SECONDS} s. Does it reach the package index?"
            ) from None

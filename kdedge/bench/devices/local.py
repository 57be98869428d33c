"""This machine as a device: a new process for each artifact and repeat."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from kdedge.bench import agent
from kdedge.bench.devices.device import (
    Completed,
    Device,
    Kind,
    MeasuredModel,
    agent_program,
    answer_of,
    hangs,
    request_of,
)
from kdedge.bench.report.model import Value
from kdedge.bench.scenario import Scenario


class Local(Device):
    """This machine, with the Python that runs kdedge."""

    form = url = "local"
    kinds: tuple[Kind, ...] = ("time", "text", "memory", "outputs")

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """The device, if the URL is `local`."""
        return cls() if url == cls.url else None

    @classmethod
    def found(cls) -> list[str]:
        """This machine is always there."""
        return [cls.url]

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def environment(self) -> dict[str, Value]:
        """See `kdedge.bench.agent.environment`."""
        return agent.environment()

    def state(self) -> dict[str, Value]:
        """See `kdedge.bench.agent.state`."""
        return agent.state(agent.read_files)

    def run(self, subject: MeasuredModel, scenario: Scenario, kind: Kind) -> Any:
        """Run the agent with this Python."""
        with tempfile.TemporaryDirectory() as folder:

            def write(name: str, content: bytes) -> str:
                path = Path(folder) / name
                path.write_bytes(content)
                return str(path)

            request = json.dumps(request_of(subject, scenario, kind, str, write))
            try:
                process = subprocess.run(
                    [sys.executable, write("agent.pyz", agent_program())],
                    input=request,
                    capture_output=True,
                    text=True,
                    timeout=scenario.limit_seconds,
                )
            except subprocess.TimeoutExpired:
                raise hangs(scenario.limit_seconds) from None
        return answer_of(Completed(process.returncode, process.stdout, process.stderr))

"""This machine, with a fresh process for each artifact and repeat."""

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
    Subject,
    agent_program,
    answer_of,
    hangs,
    job,
)
from kdedge.bench.report.model import Value
from kdedge.bench.scenario import Scenario


class Local(Device):
    """The machine that this runs on, and its Python."""

    form = url = "local"
    kinds: tuple[Kind, ...] = ("time", "text", "memory", "outputs")

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """Of `local`."""
        return cls() if url == cls.url else None

    @classmethod
    def found(cls) -> list[str]:
        """Always."""
        return [cls.url]

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def environment(self) -> dict[str, Value]:
        """As the agent says it."""
        return agent.environment()

    def state(self) -> dict[str, Value]:
        """As the agent says it."""
        return agent.state(agent.read_files)

    def run(self, subject: Subject, scenario: Scenario, kind: Kind) -> Any:
        """Run the agent on this Python."""
        with tempfile.TemporaryDirectory() as folder:

            def write(name: str, content: bytes) -> str:
                path = Path(folder) / name
                path.write_bytes(content)
                return str(path)

            asked = json.dumps(job(subject, scenario, kind, str, write))
            try:
                process = subprocess.run(
                    [sys.executable, write("agent.pyz", agent_program())],
                    input=asked,
                    capture_output=True,
                    text=True,
                    timeout=scenario.limit_seconds,
                )
            except subprocess.TimeoutExpired:
                raise hangs(scenario.limit_seconds) from None
        return answer_of(Completed(process.returncode, process.stdout, process.stderr))

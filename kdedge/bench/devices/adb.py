"""Android devices over adb."""

import shlex
import shutil
from collections.abc import Callable
from typing import Any, Self, TypeVar

from kdedge.bench import agent
from kdedge.bench.devices.device import ANSWER_SECONDS, Completed, DeviceLostError
from kdedge.bench.devices.remote import CopiedAgent
from kdedge.bench.report.model import Value
from kdedge.errors import KdedgeError

try:
    import adbutils
except ImportError:  # the extra is not installed; `_adb` says so
    adbutils = None

FORM = "adb://SERIAL"

T = TypeVar("T")


class Adb:
    """A transport through this machine's adb server, which is started if needed."""

    # The only folder on a phone where adb may write and run programs.
    scratch = "/data/local/tmp"
    remedy = (
        "`--benchmark-model PROGRAM` measures without a Python: TensorFlow Lite's benchmark_model, "
        "built for the device."
    )

    def __init__(self, url: str, serial: str) -> None:
        self.url, self._serial = url, serial

    @classmethod
    def from_url(cls, url: str) -> Self | None:
        """The transport of `adb://SERIAL`."""
        # Not urlsplit: a serial may have a colon (HOST:PORT), and is case-sensitive.
        scheme, _, serial = url.partition("://")
        return cls(url, serial) if scheme.lower() == "adb" and serial else None

    def open(self) -> None:
        """Find the device among those that the adb server lists."""
        states = adb_states()
        if states.get(self._serial) != "device":
            there = ", ".join(f"{serial} ({state})" for serial, state in states.items())
            remedy = (
                "Allow this computer on the device's screen."
                if states.get(self._serial) == "unauthorized"
                else f"adb has: {there or 'none'}. Plug it in with USB debugging switched on, or "
                f"`adb connect {self._serial}`."
            )
            raise DeviceLostError(
                f"{self.url} is {states.get(self._serial, 'not there')}. {remedy}"
            )
        self._device = _client().device(self._serial)

    def close(self) -> None:
        """Do nothing: each command has its own connection."""

    def execute(self, *command: str, limit_seconds: float | None = None) -> Completed:
        """Run a program through the shell there, with each word quoted."""
        line = shlex.join(command)

        def run() -> Any:
            try:
                return self._device.shell2(line, timeout=limit_seconds or ANSWER_SECONDS, v2=True)
            except (adbutils.AdbTimeout, TimeoutError):
                if limit_seconds is None:
                    raise
                return None

        done = self._try(run)
        if done is None:
            raise TimeoutError
        return Completed(done.returncode, done.stdout or done.output, done.stderr)

    def send(self, content: bytes, path: str) -> None:
        """Write a file with permission to run it."""
        self._try(lambda: self._device.sync.push(content, path, 0o755, check=True))

    def read(self, pattern: str) -> str:
        """Read files there; see `kdedge.bench.agent.Read`."""
        # Not quoted: the pattern is one of the agent's own, and the shell must expand it.
        return self.execute("sh", "-c", f"cat {pattern} 2>/dev/null").stdout

    def environment(self) -> dict[str, Value]:
        """Facts about the device from the kernel and Android."""
        names = {"device": "ro.product.model", "SoC": "ro.soc.model"}
        facts: dict[str, Value] = {
            name: value
            for name, property in names.items()
            if (value := self.execute("getprop", property).stdout.strip())
        }
        release = self.execute("getprop", "ro.build.version.release").stdout.strip()
        system = self.execute("uname", "-srm").stdout.strip()
        facts |= agent.machine(self.read)
        facts["OS"] = f"Android {release}, {system}" if release else system
        return facts

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        # EOFError: the adb server closes a command's stream when the device goes away.
        except (adbutils.AdbError, OSError, EOFError) as error:
            raise DeviceLostError(
                f"{self.url} went away: {error or 'the connection was closed'}."
            ) from None


class AndroidPython(CopiedAgent):
    """An Android device with a Python."""

    form = FORM

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """The device of `adb://SERIAL`."""
        adb = Adb.from_url(url)
        return cls(adb, setup=False) if adb else None

    @classmethod
    def found(cls) -> list[str]:
        """The devices that adb lists."""
        return [f"adb://{serial}" for serial in adb_states()] if shutil.which("adb") else []


def _client() -> Any:
    return adbutils.AdbClient(socket_timeout=ANSWER_SECONDS)


def adb_states() -> dict[str, str]:
    """The state of each device that adb lists, by serial; `device` means ready.

    Raises:
        KdedgeError: adbutils is not installed, or no adb server can be started.
    """
    if adbutils is None:
        raise KdedgeError("adbutils is not installed: pip install 'kdedge[devices]'")
    try:
        found: list[Any] = _client().list()
    except (adbutils.AdbError, OSError) as error:
        raise KdedgeError(
            f"adb: no server can be started: {error}. `adb start-server` says more."
        ) from None
    return {info.serial: info.state for info in found}

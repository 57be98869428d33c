"""Linux boards and servers over SSH. They need a shell, `cat` and a Python."""

import asyncio
import contextlib
import shlex
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from kdedge.bench.devices.device import ANSWER_SECONDS, Completed, DeviceLostError
from kdedge.bench.devices.remote import CopiedAgent
from kdedge.errors import KdedgeError

try:
    import asyncssh
except ImportError:  # the extra is not installed; `Ssh.open` says so
    asyncssh = None  # type: ignore[assignment]

CONNECT_SECONDS = 10  # for the connection, and again for the handshake and the keys
ALIVE_SECONDS, ALIVE_MISSED = 5, 3  # notices an unplugged cable after 15 to 20 s
SLOWEST_SEND = 20_000  # bytes a second

T = TypeVar("T")


class Board(CopiedAgent):
    """A Linux board or server. With the option `setup` a virtual environment is made there."""

    form = "ssh://USER@HOST:PORT"

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """The device of `ssh://USER@HOST:PORT`; USER and PORT are optional as with `ssh`."""
        parts = urlsplit(url)
        if parts.scheme != "ssh":
            return None
        _ = parts.port  # raises ValueError if it is not a number
        bare = not (parts.path or parts.query or parts.fragment or parts.password)
        if not parts.hostname or not bare:
            return None
        return cls(Ssh(url, parts), setup=options.pop("setup", False))


class Ssh:
    """A transport over one SSH connection.

    Keys, user names and ports come from ~/.ssh and its config, as with `ssh`. Host keys are checked
    against ~/.ssh/known_hosts. It never prompts for anything.
    """

    scratch = "/tmp"

    def __init__(self, url: str, parts: SplitResult) -> None:
        self.url, self._parts = url, parts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self.remedy = (
            f"`kdedge bench --device {url} --setup ...` makes a virtual environment with both in "
            "~/.cache/kdedge/venv there."
        )

    def open(self) -> None:
        """Connect."""
        if asyncssh is None:
            raise KdedgeError("asyncssh is not installed: pip install 'kdedge[devices]'")
        # In a thread: keep-alives must go on between calls, and the caller may have its own loop.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run_loop, args=(self._loop,), daemon=True).start()
        self._connection = self._wait(self._connect(), 3 * CONNECT_SECONDS)

    def close(self) -> None:
        """Disconnect."""
        if self._connection:
            with contextlib.suppress(DeviceLostError):
                self._wait(self._disconnect(self._connection), CONNECT_SECONDS)
        if self._loop:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._connection = self._loop = None

    def execute(self, *command: str, limit_seconds: float | None = None) -> Completed:
        """Run a program through the login shell there, with each word quoted."""
        return self._run(command, None, limit_seconds)

    def send(self, content: bytes, path: str) -> None:
        """Write a file, by `cat`: small boards often have no SFTP."""
        done = self._run(("sh", "-c", 'cat > "$1"', "sh", path), content)
        if done.status:
            raise KdedgeError(f"{self.url}: {path} can't be written: {done.stderr.strip()}")

    def _run(
        self, command: tuple[str, ...], stdin: bytes | None, limit: float | None = None
    ) -> Completed:
        most = limit or ANSWER_SECONDS + len(stdin or b"") / SLOWEST_SEND
        try:
            return self._wait(
                self._execute(shlex.join(command), stdin, most), most + CONNECT_SECONDS
            )
        except TimeoutError:
            if limit:
                raise
            raise DeviceLostError(
                f"{self.url} went away: `{command[0]}` was not done after {most:.0f} s."
            ) from None

    async def _execute(self, command: str, stdin: bytes | None, limit: float) -> Completed:
        assert self._connection
        done = await self._connection.run(
            command, input=stdin, encoding=None, check=False, timeout=limit
        )
        if done.exit_status is None and done.exit_signal is None:
            raise DeviceLostError(f"{self.url} went away: the connection was closed.")
        status = -1 if done.exit_status is None else done.exit_status
        killed = f"killed by signal {done.exit_signal[0]}" if done.exit_signal else ""
        return Completed(status, _text(done.stdout), _text(done.stderr) or killed)

    async def _connect(self) -> "asyncssh.SSHClientConnection":
        parts = self._parts
        given = {"port": parts.port, "username": parts.username}
        return await asyncssh.connect(
            parts.hostname or "",
            connect_timeout=CONNECT_SECONDS,
            login_timeout=CONNECT_SECONDS,
            keepalive_interval=ALIVE_SECONDS,
            keepalive_count_max=ALIVE_MISSED,
            **{name: value for name, value in given.items() if value},
        )

    @staticmethod
    async def _disconnect(connection: "asyncssh.SSHClientConnection") -> None:
        connection.abort()
        await connection.wait_closed()

    @staticmethod
    def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_forever()
        loop.close()

    def _wait(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        assert self._loop
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)
        except asyncssh.HostKeyNotVerifiable:
            raise self._bad_host_key() from None
        except asyncssh.PermissionDenied:
            raise DeviceLostError(
                f"{self.url}: it accepts none of your keys. `ssh-copy-id {self._target()}` "
                "sends one."
            ) from None
        except asyncssh.TimeoutError:  # of a command; that of a connection is Python's own
            raise TimeoutError from None
        except TimeoutError:
            raise DeviceLostError(
                f"{self.url} does not answer within {CONNECT_SECONDS} s. Is it switched on, and is "
                f"`ssh {self._target()}` possible?"
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise DeviceLostError(f"{self.url} can't be reached: {error}") from None

    def _bad_host_key(self) -> DeviceLostError:
        host, port = self._parts.hostname or "", self._parts.port or 22
        name = host if port == 22 else f"[{host}]:{port}"
        file = Path("~/.ssh/known_hosts").expanduser()
        known = file.is_file() and asyncssh.read_known_hosts(str(file)).match(host, "", port)[0]
        if known:
            return DeviceLostError(
                f"{self.url}: its host key is not the one in {file}. If it was reinstalled, "
                f"`ssh-keygen -R {shlex.quote(name)}` forgets the old one; if not, somebody may "
                "be in between."
            )
        return DeviceLostError(
            f"{self.url}: its host key is not in {file}. `ssh {self._target()}` shows its "
            "fingerprint and adds it."
        )

    def _target(self) -> str:
        user = f"{self._parts.username}@" if self._parts.username else ""
        port = f"-p {self._parts.port} " if self._parts.port else ""
        return f"{port}{user}{self._parts.hostname}"


def _text(output: Any) -> str:
    return bytes(output or b"").decode("utf-8", "replace")

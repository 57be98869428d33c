"""Boards reached by SSH: a real sshd on a port of this machine, with its own keys."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from bench_parts import BRIEF, make_bundle

from kdedge.bench.devices import device_of, ssh
from kdedge.bench.report.model import BenchReport
from kdedge.bench.run import bench_bundles
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError

pytest.importorskip("asyncssh")

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
PYTHON = f'exec {sys.executable} "$@"'


@dataclass
class Board:
    """An sshd, and the home folder of its users."""

    port: int
    home: Path
    host_key: str

    @property
    def url(self) -> str:
        return f"ssh://127.0.0.1:{self.port}"

    def install(self, script: str) -> None:
        """Replace the Python of the virtual environment by a program."""
        python = self.home / ".cache/kdedge/venv/bin/python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)


def keygen(path: Path) -> str:
    """Make a key, and return its public half."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_name(f"{path.name}.pub").read_text()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A running sshd that this user can log in to, and whose host key is known."""
    if SSHD is None:
        pytest.skip("sshd is not installed: apt install openssh-server")
    if os.geteuid() == 0:
        # What Debian's service does before it starts sshd.
        Path("/run/sshd").mkdir(exist_ok=True)
    folder, home, user = tmp_path / "sshd", tmp_path / "board", tmp_path / "user"
    for path in (folder, home, user / ".ssh"):
        path.mkdir(parents=True)
    board = Board(free_port(), home, keygen(folder / "host_key"))
    (folder / "authorized_keys").write_text(keygen(user / ".ssh" / "id_ed25519"))
    (folder / "config").write_text(
        f"Port {board.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile {folder}/pid\nStrictModes no\n"
        "UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin yes\nSetEnv HOME={home}\n"
    )
    # asyncssh and ssh look for keys and known hosts there, and must not ask the real agent.
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    know(user, board.port, board.host_key)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=log)
        try:
            wait_for(board.port, server, folder / "log")
            yield board
        finally:
            server.terminate()
            server.wait()


def know(user: Path, port: int, host_key: str) -> None:
    (user / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")


def wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
def bundle(onnx_file: Path, tmp_path: Path) -> Path:
    """A bundle with two artifacts; the name of one file has characters that shells interpret."""
    trap = tmp_path / "it's $(touch trapped) `touch trapped` a; touch trapped.onnx"
    trap.write_bytes(onnx_file.read_bytes())
    return make_bundle(tmp_path / "bundle", "nano", {"onnx-float32": onnx_file, "onnx-int8": trap})


@pytest.fixture
def bench(bundle: Path, tmp_path: Path) -> Callable[..., BenchReport]:
    def run(*urls: str, setup: bool = False) -> BenchReport:
        devices = [device_of(url, setup=setup) for url in urls]
        return bench_bundles([bundle], tmp_path / "report", BRIEF, devices=devices)

    return run


def refusal(bench: Callable[..., BenchReport], *urls: str) -> str:
    """The error, which must name the device."""
    with pytest.raises(KdedgeError) as caught:
        bench(*urls)
    assert urls[-1] in str(caught.value)
    return str(caught.value)


def test_bench_on_a_board_beside_this_machine(
    board: Board, bench: Callable[..., BenchReport], tmp_path: Path
) -> None:
    board.install(f'echo "$1" >> {tmp_path}/agents; {PYTHON}')
    report = bench("local", board.url)
    names = [m.name for m in report.measurements]
    assert names == [
        "onnx-float32 on local",
        "onnx-int8 on local",
        f"onnx-float32 on {board.url}",
        f"onnx-int8 on {board.url}",
    ]
    assert [m.device for m in report.measurements] == ["local"] * 2 + [board.url] * 2
    assert all(len(r.samples_ns) == 5 for m in report.measurements for r in m.repeats)
    # Both are the same machine.
    here, there = report.environments["local"], report.environments[board.url]
    for fact in ("CPU", "cores", "memory, MB", "OS", "ONNX Runtime"):
        assert here[fact] == there[fact], fact
    assert not list(tmp_path.rglob("trapped"))
    agents = {Path(line) for line in (tmp_path / "agents").read_text().splitlines()}
    assert agents and not any(agent.parent.exists() for agent in agents)


def test_a_board_without_a_runtime(board: Board, bench: Callable[..., BenchReport]) -> None:
    board.install("exit 127")
    assert "--setup" in refusal(bench, board.url)


def test_a_board_without_one_of_the_runtimes(
    board: Board, bench: Callable[..., BenchReport]
) -> None:
    # An agent that finds LiteRT only.
    board.install(f'{sys.executable} "$@" | sed \'s/"ONNX Runtime": "[0-9.]*"/"other": "1"/\'')
    output = refusal(bench, board.url)
    assert "ONNX Runtime is not installed" in output and "--setup" in output


def test_unknown_and_changed_host_keys(board: Board, bench: Callable[..., BenchReport]) -> None:
    board.install(PYTHON)
    user = Path(os.environ["HOME"])
    know(user, board.port, keygen(user / "another"))
    assert f"ssh-keygen -R '[127.0.0.1]:{board.port}'" in refusal(bench, board.url)
    for unlink in (False, True):
        (user / ".ssh" / "known_hosts").write_text("")
        if unlink:
            (user / ".ssh" / "known_hosts").unlink()
        output = refusal(bench, board.url)
        assert f"`ssh -p {board.port} 127.0.0.1` shows its fingerprint" in output


def test_wrong_key(board: Board, bench: Callable[..., BenchReport]) -> None:
    user = Path(os.environ["HOME"])
    (user / ".ssh" / "id_ed25519").unlink()
    keygen(user / ".ssh" / "id_ed25519")
    assert f"ssh-copy-id -p {board.port} 127.0.0.1" in refusal(bench, board.url)


def test_no_such_port(board: Board, bench: Callable[..., BenchReport]) -> None:
    assert "can't be reached" in refusal(bench, f"ssh://127.0.0.1:{free_port()}")


def test_a_host_that_does_not_answer(
    bench: Callable[..., BenchReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * ssh.CONNECT_SECONDS < 30
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"ssh://127.0.0.1:{silent.getsockname()[1]}"
        # Known before anything is measured on the others.
        assert "does not answer within 1 s" in refusal(bench, "local", url)


def test_an_agent_that_prints_rubbish(board: Board, bench: Callable[..., BenchReport]) -> None:
    for rubbish, message in (
        ("echo hello", "exit status 0: hello"),
        ("echo oh no >&2; exit 3", "exit status 3: oh no"),
        ("echo '[1, 2]'", "gave no valid measurement"),
        ("kill -9 $$", "killed by signal KILL"),
    ):
        board.install(f'case "$*" in *request.json) {rubbish};; *) {PYTHON};; esac')
        assert message in refusal(bench, board.url)


def test_a_board_that_goes_away_is_resumed(
    board: Board, bench: Callable[..., BenchReport], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    # Closes its own connection when the third run is requested.
    board.install(
        f'case "$*" in *request.json) echo >> {runs}; '
        f'if [ "$(wc -l < {runs})" = 3 ]; then kill -9 $PPID; sleep 60; fi;; esac\n{PYTHON}'
    )
    output = refusal(bench, "local", board.url)
    assert f"{board.url} went away" in output and "2 of 10 runs are kept" in output
    report = BenchReport.load(tmp_path / "report/results.json")
    assert [m.device for m in report.measurements] == ["local", "local"]

    report = bench("local", board.url)
    assert len(report.measurements) == 4
    # Two before, the one that failed, and the eight that were missing: of each model an inference
    # and a text in each repeat, and once what memory it takes.
    assert len(runs.read_text().splitlines()) == 11
    # Complete, so the next run measures everything again.
    bench("local", board.url)
    assert len(runs.read_text().splitlines()) == 21


def test_a_pulled_cable_is_noticed(
    board: Board,
    bench: Callable[..., BenchReport],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert (ssh.ALIVE_MISSED + 1) * ssh.ALIVE_SECONDS < 30
    monkeypatch.setattr(ssh, "ALIVE_SECONDS", 1)
    monkeypatch.setattr(ssh, "ALIVE_MISSED", 1)
    # The connection stays open, and nobody answers any more.
    stopped = tmp_path / "stopped"
    board.install(
        f'case "$*" in *request.json) echo $PPID > {stopped}; kill -STOP $PPID; exit;; esac\n'
        + PYTHON
    )
    start = time.monotonic()
    try:
        assert f"{board.url} went away: the connection was closed" in refusal(bench, board.url)
        assert time.monotonic() - start < 60
    finally:
        os.kill(int(stopped.read_text()), signal.SIGKILL)


def test_an_agent_that_hangs_is_killed_there(
    board: Board,
    bench: Callable[..., BenchReport],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(Scenario, "limit_seconds", 2)
    hung = tmp_path / "hung"
    board.install(f'case "$*" in *request.json) echo $$ >> {hung}; exec sleep 60;; esac\n{PYTHON}')
    assert "not done after 2 s, and was stopped" in refusal(bench, board.url)
    pids = [int(line) for line in hung.read_text().splitlines()]
    assert pids and not any(psutil.pid_exists(pid) for pid in pids)


def test_a_board_whose_python_hangs(
    board: Board, bench: Callable[..., BenchReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "ANSWER_SECONDS", 2)
    board.install("exec sleep 60")
    output = refusal(bench, board.url)
    assert f"{board.url} went away: " in output and "was not done after 2 s" in output


@pytest.mark.clients
def test_setup_makes_an_environment(board: Board, bench: Callable[..., BenchReport]) -> None:
    report = bench(board.url, setup=True)
    assert (board.home / ".cache/kdedge/venv/bin/python").exists()
    assert {"LiteRT", "ONNX Runtime"} <= set(report.environments[board.url])

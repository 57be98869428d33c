"""`make check-all`: which parts it runs again, skips and stops."""

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from conftest import ROOT


@pytest.fixture
def check_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with parts that the test defines, which depend on files named `one`."""
    spec = importlib.util.spec_from_file_location("check_all", ROOT / ".ci" / "check_all.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    monkeypatch.setattr(module, "tree", lambda: "one")

    def shell(line: str, minutes: float = 1, *programs: str) -> object:
        return module.Part(("sh", "-c", line), minutes, programs)

    monkeypatch.setattr(
        module,
        "parts",
        lambda: {
            "good": shell("echo run >> good; echo '== 3 passed =='"),
            "bad": shell("echo oh no >&2; exit 3"),
            "lacking": shell("echo nothing to be had; exit 75"),
            "toolless": shell("exit 3", 1, "no-such-program"),
            "hanging": shell("sleep 60 & echo $! > pid; wait", 1 / 60),
        },
    )
    return module


def test_what_passed_is_not_run_again(
    check_all: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for files in ("one", "one", "two"):
        monkeypatch.setattr(check_all, "tree", lambda files=files: files)
        assert check_all.main(["good"]) == 0
    assert (tmp_path / "good").read_text() == "run\n" * 2
    output = capsys.readouterr().out
    assert "min: 3 passed" in output and "before, with the same files" in output


def test_what_fails_is_run_again_and_what_lacks_is_skipped(
    check_all: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_all.main(["lacking", "toolless"]) == 0
    for _ in range(2):
        assert check_all.main(["bad"]) == 1
    output = capsys.readouterr().out
    assert output.count("min: oh no") == 2
    assert "min: nothing to be had" in output
    assert "not on this machine: no-such-program" in output
    assert check_all.main(["other"]) == 2


def test_what_hangs_is_ended(
    check_all: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_all.main(["hanging", "good"]) == 1
    assert "not done after 0.0166667 minutes" in capsys.readouterr().out
    pid = int((tmp_path / "pid").read_text())
    # A killed process exists until the system has removed it.
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{pid} still runs")
    assert (tmp_path / "good").is_file()

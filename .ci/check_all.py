"""Runs the checks that take too long for `.ci/run`, one after another; `make check-all` calls it.

    python .ci/check_all.py [PART ...]

runs/check_all/ has the log of each part. A part that passed is not run again until a file of the
repository changes. A part is skipped, with the reason, if a program that it needs is not installed
or a download fails. The exit status is 1 if a part failed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
OUT = ROOT / "runs" / "check_all"
# Exit status of a command that lacks something that it needs, as in sysexits.h.
UNAVAILABLE = 75


class Part(NamedTuple):
    """A check.

    Attributes:
        command: program and arguments.
        minutes: time limit.
        programs: programs that must be installed.
        index: whether it downloads packages from the package index.
    """

    command: tuple[str, ...]
    minutes: float
    programs: tuple[str, ...] = ()
    index: bool = False


def parts() -> dict[str, Part]:
    """All parts by name."""
    python = sys.executable
    return {
        "docs": Part((python, "-m", "pytest", "tests/test_docs.py", "-m", "not clients"), 30),
        "installs": Part((".ci/check-installs",), 60, index=True),
        "test-slow": Part(("make", "test-slow"), 120),
        "test-clients": Part(("make", "test-clients"), 60),
        "web-check": Part(("make", "web-check"), 20, ("chromium", "npm")),
        "android-check": Part(
            (python, "android_demo/check.py"),
            60,
            ("java", "mvn", "aapt", "zipalign", "apksigner", "openssl"),
        ),
        "ios-check": Part(
            (python, "ios_demo/check.py"), 120, ("debootstrap", "openssl", "unshare")
        ),
        **{f"python-{version}": other_python(version) for version in other_versions()},
        "demo": Part(("make", "demo"), 240),
    }


def other_versions() -> list[str]:
    """The versions of Python that pyproject.toml allows, except the one that runs this."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = SpecifierSet(project["requires-python"])
    here = sys.version_info.minor
    return [f"3.{n}" for n in range(40) if f"3.{n}" in allowed and n != here]


def other_python(version: str) -> Part:
    """`make test` with another Python, which is taken from pyenv or the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
    python = str(found[-1]) if found else f"python{version}"
    environment = f"VENV=runs/check_all/venv-{version}"
    return Part(("make", "test", f"PYTHON={python}", environment), 90, (python,), index=True)


def tree() -> str:
    """Git's hash of all present files, except ignored ones."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GIT_INDEX_FILE": f"{folder}/index"}
        for command in (("add", "--all"), ("write-tree",)):
            done = subprocess.run(
                ["git", *command], cwd=ROOT, env=environment, check=True, capture_output=True
            )
    return done.stdout.decode().strip()


def missing(part: Part) -> str:
    """The reason why a part can't run on this machine; "" if it can."""
    absent = [program for program in part.programs if not shutil.which(program)]
    if absent:
        return f"not on this machine: {', '.join(absent)}"
    if part.index:
        with tempfile.TemporaryDirectory() as folder:
            small = ["download", "--quiet", "--no-deps", "--dest", folder, "packaging"]
            if subprocess.run(
                [sys.executable, "-m", "pip", *small], capture_output=True
            ).returncode:
                return "the package index can't be reached"
    return ""


def run(part: Part, log: Path) -> tuple[str, str]:
    """Run a part; return `passed`, `failed` or `skipped`, and the last line of its log."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            part.command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True
        )
        try:
            status = process.wait(60 * part.minutes)
        except subprocess.TimeoutExpired:
            return "failed", f"not done after {part.minutes:g} minutes"
        finally:
            # Processes that it started and left running.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = log.read_text(errors="replace").split("\n")
    last = ([line.strip(" =") for line in lines if line.strip(" =")] or ["it printed nothing"])[-1]
    return {0: "passed", UNAVAILABLE: "skipped"}.get(status, "failed"), last[:100]


def main(names: list[str]) -> int:
    """Run the named parts, or all; return the exit status."""
    known = parts()
    if unknown := set(names) - set(known):
        print(f"{', '.join(sorted(unknown))}: no such part. Parts: {', '.join(known)}")
        return 2
    # SIGTERM then runs the `finally` in `run`, which ends the part's processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    # A shell's background job ignores SIGINT. Tests that send it would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    OUT.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in names or known:
        passed, files = OUT / f"{name}.passed", tree()
        if passed.is_file() and passed.read_text() == files:
            results[name] = ("passed", "before, with the same files")
            continue
        if why := missing(known[name]):
            results[name] = ("skipped", why)
            continue
        print(f"{name}: {OUT.relative_to(ROOT)}/{name}.log", flush=True)
        start = time.monotonic()
        outcome, last = run(known[name], OUT / f"{name}.log")
        results[name] = (outcome, f"{(time.monotonic() - start) / 60:.1f} min: {last}")
        if outcome == "passed":
            passed.write_text(files)
    print()
    for name, (outcome, why) in results.items():
        print(f"{name:14} {outcome:8} {why}")
    return int(any(outcome == "failed" for outcome, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

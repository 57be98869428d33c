"""Compares clients in other languages and runtimes with Python, and checks Android's libraries.

    python benchmarks/clients.py --run FOLDER

Runs the tests of MediaPipe, transformers.js, ONNX Runtime Web, LiteRT.js and of both runtimes on
arm64 with the bundle of a `kdedge run`, and the checks of android_demo and ios_demo, which test the
code in Kotlin and Swift with the committed bundle. Stores the differences that they report.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.common import ROOT, Figures, cli, read_command_line
from kdedge.bench.report.tables import markdown
from kdedge.bundle.page_size import page_sizes

TESTS = ("test_mediapipe.py", "test_web_clients.py", "test_arm64.py")
VERSIONS = tomllib.loads((ROOT / "android_demo/gradle/libs.versions.toml").read_text())["versions"]
# The checks of the demos. The Kotlin code runs on Java with ONNX Runtime's library for Linux.
DEMOS = {
    "android_demo/check.py": {
        "client": f"android_demo/core, Kotlin {VERSIONS['kotlin']}",
        "language": "Kotlin",
        "runtime": f"ONNX Runtime {VERSIONS['onnxruntime']}, on Java",
    },
    "ios_demo/check.py": {
        "client": "ios_demo, KdedgeCore",
        "language": "Swift",
        "runtime": "Debian's ONNX Runtime, on Linux",
    },
}
DIFFERENCE = re.compile(r"largest difference from Python: (\S+), of (\d+) texts")
# What Android apps ship, and whether the app of the demo names it. AARs that are not in the check's
# downloads could not be downloaded.
LIBRARIES = {
    f"tensorflow-lite-{VERSIONS['tensorflow-lite']}.aar": "only to test",
    f"litert-{VERSIONS['litert']}.aar": "yes",
    f"onnxruntime-android-{VERSIONS['onnxruntime']}.aar": "yes",
}


def main() -> None:
    """Run the tests and the checks, and write the results."""
    setup, _ = read_command_line("clients", __doc__)
    clients = [*tested(setup.run_file("bundle")), *demos()]
    setup.keep(setup.about() | {"clients": clients, "libraries": [*libraries()]}, page)


def tested(bundle: Path) -> Iterator[Figures]:
    """Run the tests on a bundle; yields what each of them recorded."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *(f"tests/{test}" for test in TESTS), "-m", ""]
        command += ["--bundle", str(bundle), f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, timeout=3600)
        for case in ElementTree.parse(report).iter("testcase"):
            problems = [c.tag for c in case if c.tag in ("failure", "error", "skipped")]
            recorded = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
            unnamed = {"client": f"{case.get('classname')}::{case.get('name')}"}
            yield unnamed | {"outcome": (*problems, "passed")[0]} | recorded


def demos() -> Iterator[Figures]:
    """Run the checks of the demos; yields what each found of the committed bundle."""
    for check, about in DEMOS.items():
        done = subprocess.run(
            [sys.executable, check], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=3600
        )
        found = DIFFERENCE.search(done.stdout)
        outcome = "failure" if done.returncode else "passed" if found else "skipped"
        recorded = {"artifact": "onnx-int8", "outcome": outcome}
        if found:
            # The check fails if a label differs.
            recorded |= {"max difference": found[1], "texts": found[2], "same label": found[2]}
        yield about | recorded


def libraries() -> Iterator[Figures]:
    """The native libraries of each archive, their bytes, and why they do not suit 16 KB pages."""
    for name, used in LIBRARIES.items():
        archive = ROOT / ".android" / "downloads" / name
        if not archive.is_file():
            yield {"archive": name, "used": used, "problem": "NOT RUN: it can't be downloaded here"}
            continue
        with zipfile.ZipFile(archive) as files:
            for library in page_sizes(archive):
                size = files.getinfo(library.name).file_size
                problem = "32 bits, exempt" if library.exempt else library.problem
                found = {"library": library.name, "bytes": size, "problem": problem}
                yield {"archive": name, "used": used} | found


def page(result: dict[str, Any]) -> str:
    """A table of the clients, and one of the libraries."""
    head = ("client", "language", "runtime", "file", "test", "same label", "largest difference")
    rows = []
    for one in result["clients"]:
        names = (one.get(key, "") for key in ("client", "language", "runtime", "artifact"))
        found = "texts" in one
        same = f"{one['same label']} of {one['texts']}" if found else ""
        largest = f"{float(one['max difference']):.1e}" if found else ""
        rows.append((*names, one["outcome"], same, largest))
    of_libraries = [
        (
            one["archive"],
            one.get("library", ""),
            f"{one['bytes'] / 1e6:.2f}" if "bytes" in one else "",
            one["used"],
            one["problem"] or "yes",
        )
        for one in result["libraries"]
    ]
    return "\n".join(
        (
            "# Answers of other clients\n\n"
            "Probabilities of other clients beside those of Python with the same file; in Kotlin "
            "and Swift of the bundle in android_demo. MediaPipe does not strip accents: its "
            "answers to texts with accents may differ.\n",
            markdown(head, rows),
            "Native libraries of Android apps, and whether they work with memory pages of 16 KB.\n",
            markdown(("archive", "library", "MB", "in the app", "16 KB pages"), of_libraries),
        )
    )


if __name__ == "__main__":
    cli(main)

"""Compares other people's clients with Python, on the bundles of nano, micro and mini.

    python benchmarks/conversions.py   # makes the bundles
    python benchmarks/clients.py

Runs the tests of MediaPipe, transformers.js, onnxruntime-web, LiteRT.js and both arm64 runtimes on
each bundle, and stores the differences that they report.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.common import ROOT, cli, existing, read_command_line
from kdedge.bench.report.tables import markdown

TESTS = ("test_mediapipe.py", "test_web_clients.py", "test_arm64.py")


def main() -> None:
    """Run the clients' tests on each bundle, and write the results."""
    setup, _ = read_command_line("clients", __doc__)
    bundles = setup.for_program("conversions").work / "bundles"
    existing(bundles, "python benchmarks/conversions.py")
    outcomes = {name: run_tests(bundles / name) for name in ("nano", "micro", "mini")}
    setup.keep(setup.about() | {"bundles": outcomes}, page)


def run_tests(bundle: Path) -> dict[str, dict[str, str]]:
    """Run the tests on a bundle; returns outcome and figures of each test."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *(f"tests/{test}" for test in TESTS), "-m", ""]
        subprocess.run([*command, "--bundle", bundle, f"--junitxml={report}"], cwd=ROOT)
        cases = {}
        for case in ElementTree.parse(report).iter("testcase"):
            problems = [c.tag for c in case if c.tag in ("failure", "error", "skipped")]
            figures = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
            name = f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}"
            cases[name] = {"outcome": (*problems, "passed")[0], **figures}
        return cases


def page(result: dict[str, Any]) -> str:
    """One row for each test and bundle; the test of arm64 compares four files."""
    rows = []
    for bundle, cases in result["bundles"].items():
        for name, case in cases.items():
            for part in {key.removesuffix("texts") for key in case if key.endswith("texts")}:
                same = f"{case[f'{part}same label']} of {case[f'{part}texts']}"
                largest = f"{float(case[f'{part}max difference']):.1e}"
                rows.append((f"{name} {part.strip(' ,')}", bundle, case["outcome"], same, largest))
    head = ("client's test", "bundle", "outcome", "same label", "largest difference")
    return markdown(head, sorted(rows))


if __name__ == "__main__":
    cli(main)

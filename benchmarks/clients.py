"""Other people's clients on the bundles of nano, micro and mini.

    python benchmarks/conversions.py   # makes the bundles
    python benchmarks/clients.py

Runs the tests of MediaPipe, transformers.js, onnxruntime-web, LiteRT.js and both arm64 runtimes on
each bundle, unmodified, and keeps what they compared in benchmarks/results/clients.json and
clients.md. Takes about ten minutes.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
COMMAND = "python benchmarks/clients.py"
RESULTS = ROOT / "benchmarks" / "results"
BUNDLES = ROOT / "runs" / "conversions" / "bundles"
TESTS = ("test_mediapipe.py", "test_web_clients.py", "test_arm64.py")


def main() -> None:
    """Run the clients' tests on each bundle and keep their figures."""
    result: dict[str, Any] = {"command": COMMAND, "bundles": {}}
    for name in ("nano", "micro", "mini"):
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            subprocess.run(
                [ROOT / ".venv/bin/pytest", *(ROOT / "tests" / test for test in TESTS),
                 "-m", "", "--bundle", BUNDLES / name, f"--junitxml={report}"],
                cwd=ROOT,
            )  # fmt: skip
            result["bundles"][name] = {
                f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}": _case(
                    case
                )
                for case in ElementTree.parse(report).iter("testcase")
            }
    text = json.dumps(result, indent=2) + "\n"
    (RESULTS / "clients.json").write_text(text, encoding="utf-8")
    (RESULTS / "clients.md").write_text(_table(result), encoding="utf-8")


def _case(case: ElementTree.Element) -> dict[str, Any]:
    kinds = {child.tag for child in case}
    outcome = next((k for k in ("failure", "error", "skipped") if k in kinds), "passed")
    figures = {p.get("name"): p.get("value") for p in case.iter("property")}
    return {"outcome": outcome, **figures}


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"Made by `{COMMAND}`.",
        "",
        "| client's test | bundle | outcome | same label | largest difference |",
        "|---|---|---|---|---|",
    ]
    for bundle, cases in result["bundles"].items():
        for name, case in cases.items():
            # The arm64 test compares four files.
            for prefix in {key.removesuffix("texts") for key in case if key.endswith("texts")}:
                lines.append(
                    f"| {name} {prefix.strip(' ,')} | {bundle} | {case['outcome']} "
                    f"| {case[f'{prefix}same label']} of {case[f'{prefix}texts']} "
                    f"| {float(case[f'{prefix}max difference']):.1e} |"
                )
    return "\n".join(lines[:4] + sorted(lines[4:])) + "\n"


if __name__ == "__main__":
    main()

"""Runs `make demo` in a clean clone and keeps what came out, with the time that each stage took.

    python benchmarks/main_job.py

Writes results/movie_reviews.json and movie_reviews.svg, or those of another recipe's name. Takes up
to half an hour on 2 cores; the figures mean something on an otherwise idle machine only.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, asked, cli, of_report
from kdedge import KdedgeError
from kdedge.bench.report.model import BenchReport
from kdedge.bench.run import FIGURE, REPORT
from kdedge.bundle.manifest import verify
from kdedge.files import write_text

KEPT = (
    "metric", "score", "score_interval", "bytes", "length", "p50_ms", "p90_ms", "load_ms",
    "first_inference_ms", "repeats_p50_ms", "sha256",
)  # fmt: skip


def main() -> None:
    """Clone, run, keep."""
    setup, _ = asked("movie_reviews", __doc__)
    if setup.data:
        raise KdedgeError(f"data: {setup.data}. `kdedge run` reads the file that a recipe names.")
    recipe = setup.recipe.name
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "kdedge"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        start = time.monotonic()
        subprocess.run(["make", "install"], cwd=clone, check=True)
        installed = time.monotonic()
        out = clone / "runs" / recipe
        command = [clone / ".venv/bin/kdedge", "run", setup.path, "--out", out]
        subprocess.run(command, cwd=clone, check=True)
        seconds = {"install": installed - start, "demo": time.monotonic() - installed}
        result = setup.about() | {"seconds": seconds} | figures(out)
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        write_text(RESULTS / f"{recipe}.json", text)
        write_text(RESULTS / f"{recipe}.svg", (out / FIGURE).read_text(encoding="utf-8"))


def figures(out: Path) -> dict[str, Any]:
    """What is kept of a run."""
    report = BenchReport.load(out / REPORT)
    student = json.loads((out / "student" / "student.json").read_text(encoding="utf-8"))
    stages = json.loads((out / "stages.json").read_text(encoding="utf-8"))
    parity = {
        f"{manifest.source.name}/{a.name}": a.parity.model_dump()
        for manifest in (verify(out / "teacher_bundle"), verify(out / "bundle"))
        for a in manifest.artifacts
    }
    return {
        "stages, s": {name: entry["seconds"] for name, entry in stages.items()},
        "teacher": {"accuracy": student["teacher_accuracy"]},
        "student": {
            key: student[key]
            for key in ("preset", "parameters", "accuracy", "retention", "agreement")
        },
        "artifacts": {
            m.name: {key: getattr(m, key) for key in KEPT} | {"parity": parity[m.name]}
            for m in report.measurements
        },
    } | of_report(report)


if __name__ == "__main__":
    cli(main)

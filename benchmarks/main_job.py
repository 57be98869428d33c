"""Runs `make demo` in a clean clone and keeps what came out in benchmarks/results/.

    python benchmarks/main_job.py

Writes movie_reviews.json (accuracy, parity, size and latency of every artifact, the time each
stage took, the machine) and movie_reviews.svg. Takes up to half an hour on 2 cores; the figures
mean something on an otherwise idle machine only.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
COMMAND = "python benchmarks/main_job.py"


def main() -> None:
    """Clone, run, keep."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "kdedge"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        start = time.monotonic()
        subprocess.run(["make", "install"], cwd=clone, check=True)
        installed = time.monotonic()
        subprocess.run(["make", "demo"], cwd=clone, check=True)
        done = time.monotonic()
        run = clone / "runs" / "movie_reviews"
        result = {
            "command": COMMAND,
            "commit": commit,
            "seconds": {"install": installed - start, "demo": done - installed},
            **_figures(run),
        }
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        (RESULTS / "movie_reviews.json").write_text(text, encoding="utf-8")
        picture = (run / "size_latency_score.svg").read_bytes()
        (RESULTS / "movie_reviews.svg").write_bytes(picture)


def _figures(run: Path) -> dict[str, Any]:
    report = json.loads((run / "results.json").read_text(encoding="utf-8"))
    stages = json.loads((run / "stages.json").read_text(encoding="utf-8"))
    student = json.loads((run / "student" / "student.json").read_text(encoding="utf-8"))
    manifests = [
        json.loads((run / name / "manifest.json").read_text(encoding="utf-8"))
        for name in ("teacher_bundle", "bundle")
    ]
    parity = {
        f"{m['source']['name']}/{a['name']}": a["parity"] for m in manifests for a in m["artifacts"]
    }
    kept = "metric score score_interval bytes length p50_ms p90_ms load_ms first_inference_ms"
    return {
        "stages, s": {name: entry["seconds"] for name, entry in stages.items()},
        "teacher": {"accuracy": student["teacher_accuracy"]},
        "student": {
            key: student[key]
            for key in ("preset", "parameters", "accuracy", "retention", "agreement")
        },
        "artifacts": {
            m["name"]: {key: m[key] for key in (*kept.split(), "repeats_p50_ms", "sha256")}
            | {"parity": parity[m["name"]]}
            for m in report["measurements"]
        },
        **{key: report[key] for key in ("scenario", "valid", "reasons")},
        "environment": report["environments"]["local"],
    }


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()

"""Every format and quantization of every student, side by side, and what compression saves.

    make demo                          # the soft labels that the students learn from
    python benchmarks/conversions.py

Distils nano, micro and mini, compresses micro, exports everything with all artifacts, measures all
of it in one run and writes benchmarks/results/conversions.json and conversions.md. What is in the
folder runs/conversions already is not done again. Takes about an hour and a half on 2 cores.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
COMMAND = "python benchmarks/conversions.py"
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "runs" / "conversions"
DATA = ROOT / "data" / "movie_reviews.tsv.gz"
SOFT_LABELS = ROOT / "runs" / "movie_reviews" / "soft_labels"
# A transformer takes eight times as long to train as the others; this is not about its accuracy.
EPOCHS = {"nano": 8, "micro": 8, "mini": 2}
# name: the student that it is made of, how, and with which options.
COMPRESSED = {
    "micro-vocabulary": ("micro", "vocabulary", []),
    "micro-small": ("micro-vocabulary", "pruning-clustering", []),
    "micro-int8-aware": ("micro", "quantization-aware", []),
}
KEPT = "bytes gzip_bytes spared parity"


def main() -> None:
    """Train, export, measure, keep."""
    students, bundles = WORK / "students", WORK / "bundles"
    for name, epochs in EPOCHS.items():
        _once(
            students / name, "distill", DATA, "--split",
            "split", "--soft-labels", SOFT_LABELS, "--student", name, "--epochs", epochs,
        )  # fmt: skip
    for name, (source, method, options) in COMPRESSED.items():
        _once(
            students / name, "compress", students / source, "--soft-labels", SOFT_LABELS,
            "--method", method, *options,
        )  # fmt: skip
    for name in ("nano", "micro", "mini", "micro-small"):
        # Twice the default, so that the table shows what the default refuses.
        _once(
            bundles / name, "export", students / name, "--artifacts", "all",
            "--max-accuracy-drop", 1,
        )  # fmt: skip
    for name in ("micro", "micro-int8-aware"):
        # As they are: no layer is spared.
        _once(
            bundles / f"{name}-int8-full", "export", students / name, "--artifacts",
            "litert-float32,litert-int8-full", "--max-accuracy-drop", 100,
        )  # fmt: skip
    measured = [bundles / name for name in ("nano", "micro", "mini", "micro-small")]
    _once(WORK / "report", "bench", *measured, "--tier", "quick", out="--report")
    _write(students, bundles)


def _once(folder: Path, *arguments: object, out: str = "--out") -> None:
    if folder.exists():
        print(f"{folder} is there already")
        return
    command = [str(a) for a in (ROOT / ".venv" / "bin" / "kdedge", *arguments, out, folder)]
    print("$", *command)
    # An artifact that is refused makes the command fail, and the bundle is there without it.
    if subprocess.run(command).returncode and not folder.exists():
        sys.exit(f"{' '.join(command)} failed")


def _write(students: Path, bundles: Path) -> None:
    report = json.loads((WORK / "report" / "results.json").read_text(encoding="utf-8"))
    times = {m["name"]: m for m in report["measurements"]}
    result: dict[str, Any] = {"command": COMMAND, "students": {}, "bundles": {}}
    for folder in sorted(students.iterdir()):
        notes = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        keys = ("preset", "parameters", "accuracy", "retention", "vocabulary")
        result["students"][folder.name] = {key: notes[key] for key in keys if key in notes}
    for folder in sorted(bundles.iterdir()):
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        artifacts = {}
        for artifact in manifest["artifacts"]:
            time = times.get(f"{folder.name}/{artifact['name']}")
            kept = {key: artifact[key] for key in KEPT.split()} | {"accuracy": artifact["score"]}
            artifacts[artifact["name"]] = kept | (
                {key: time[key] for key in ("p50_ms", "p90_ms", "repeats_p50_ms")} if time else {}
            )
        result["bundles"][folder.name] = {
            "source accuracy": manifest["source"]["score"]["value"],
            "defaults": manifest["defaults"],
            "artifacts": artifacts,
        }
    result |= {key: report[key] for key in ("scenario", "valid", "reasons")}
    result["environment"] = report["environments"]["local"]
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    (RESULTS / "conversions.json").write_text(text, encoding="utf-8")
    (RESULTS / "conversions.md").write_text(_table(result), encoding="utf-8")


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"Made by `{COMMAND}`; conversions.json has the rest.",
        "",
        "| artifact | MB | gzip, MB | accuracy, % | difference | agrees, % | p50, ms | spared |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for bundle, entry in result["bundles"].items():
        lines.append(f"| **{bundle}** (Keras) | | | {100 * entry['source accuracy']:.2f} | | | | |")
        for name, a in entry["artifacts"].items():
            p50 = f"{a['p50_ms']:.3f}" if "p50_ms" in a else ""
            lines.append(
                f"| {name} | {a['bytes'] / 1e6:.2f} | {a['gzip_bytes'] / 1e6:.2f} "
                f"| {100 * a['accuracy']['value']:.2f} | {a['parity']['max_difference']:.1e} "
                f"| {100 * a['parity']['agreement']:.2f} | {p50} | {len(a['spared'])} |"
            )
    if not result["valid"]:
        reasons = [f"- {reason}" for reason in result["reasons"]]
        lines += ["", "Of the latencies these are not to be relied on:", "", *reasons]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

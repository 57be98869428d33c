"""Every format and quantization of every student, side by side, and what compression saves.

    make demo                          # the soft labels that the students learn from
    python benchmarks/conversions.py

Distils nano, micro and mini, compresses micro, exports everything with all artifacts and measures
all of it in one run. What is in the folder runs/conversions already is not done again. Takes about
an hour and a half on 2 cores.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.common import Setup, asked, cli, of_report, once
from kdedge import KdedgeError, SoftLabels, Student, export_bundle
from kdedge.bench.report.model import BenchReport
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import REPORT, bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.bundle.manifest import verify
from kdedge.recipe import Compress, Distill, Export

# A transformer takes eight times as long to train as the others; this is not about its accuracy.
EPOCHS = {"nano": 8, "micro": 8, "mini": 2}
# name: the student that it is made of, and how.
COMPRESSED = {
    "micro-vocabulary": ("micro", "vocabulary"),
    "micro-small": ("micro-vocabulary", "pruning-clustering"),
    "micro-int8-aware": ("micro", "quantization-aware"),
}
MEASURED = ("nano", "micro", "mini", "micro-small")
# Twice the default, so that the table shows what the default refuses.
ALL = Export(artifacts="all", max_accuracy_drop=1)
# As they are: no layer is spared.
FULL = Export(artifacts=("litert-float32", "litert-int8-full"), max_accuracy_drop=100)


def main() -> None:
    """Train, export, measure, keep."""
    setup, _ = asked("conversions", __doc__)
    students, bundles = setup.work / "students", setup.work / "bundles"
    for name, epochs in EPOCHS.items():
        once(students / name, distilled, setup, name, epochs, students / name)
    for name, (source, method) in COMPRESSED.items():
        once(students / name, compressed, setup, students / source, method, students / name)
    for name in MEASURED:
        once(bundles / name, exported, students / name, ALL, bundles / name)
    for name in ("micro", "micro-int8-aware"):
        full = bundles / f"{name}-int8-full"
        once(full, exported, students / name, FULL, full)
    report = setup.work / "report"
    measured = [bundles / name for name in MEASURED]
    once(report / REPORT, bench_bundles, measured, report, scenario("quick"))
    setup.keep(setup.about() | figures(students, bundles, BenchReport.load(report / REPORT)), page)


def distilled(setup: Setup, name: str, epochs: int, out: Path) -> None:
    """Train a student on the stored soft labels."""
    from kdedge.distill.stage import distill_student

    given = setup.recipe.distill.model_dump(exclude_unset=True)
    settings = Distill(**given | {"student": name, "epochs": epochs})
    store = SoftLabels(setup.made("soft_labels"))
    distill_student(setup.corpus(), store, store.encoder(), settings, out, setup.recipe.seed)


def compressed(setup: Setup, source: Path, method: str, out: Path) -> None:
    """Make a student smaller."""
    from kdedge.compress.stage import compress_student

    settings, store = Compress(methods=(method,)), SoftLabels(setup.made("soft_labels"))
    compress_student(Student.load(source), store, settings, out, setup.recipe.seed)


def exported(student: Path, settings: Export, out: Path) -> None:
    """Export a student; a bundle without an artifact that is refused will do."""
    from kdedge.export.subject import subject_of

    try:
        export_bundle(subject_of(Student.load(student)), settings, out)
    except KdedgeError:
        if not out.exists():
            raise


def figures(students: Path, bundles: Path, report: BenchReport) -> dict[str, Any]:
    """What is kept of all of it."""
    times = {m.name: m for m in report.measurements}
    result: dict[str, Any] = {"students": {}, "bundles": {}}
    for folder in sorted(students.iterdir()):
        notes = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        keys = ("preset", "parameters", "accuracy", "retention", "vocabulary")
        result["students"][folder.name] = {key: notes[key] for key in keys if key in notes}
    for folder in sorted(bundles.iterdir()):
        manifest = verify(folder)
        artifacts = {}
        for one in manifest.artifacts:
            kept = one.model_dump(include={"bytes", "gzip_bytes", "spared", "parity"}, mode="json")
            kept["accuracy"] = one.score.model_dump()
            if m := times.get(f"{folder.name}/{one.name}"):
                kept |= {k: getattr(m, k) for k in ("p50_ms", "p90_ms", "repeats_p50_ms")}
            artifacts[one.name] = kept
        result["bundles"][folder.name] = {
            "source accuracy": manifest.source.score.value,
            "defaults": manifest.defaults,
            "artifacts": artifacts,
        }
    return result | of_report(report)


def page(result: dict[str, Any]) -> str:
    """A row an artifact, under the student that it was made of."""
    rows = []
    for bundle, entry in result["bundles"].items():
        accuracy = f"{100 * entry['source accuracy']:.2f}"
        rows.append((f"**{bundle}** (Keras)", "", "", accuracy, "", "", "", ""))
        for name, a in entry["artifacts"].items():
            rows.append((
                name, f"{a['bytes'] / 1e6:.2f}", f"{a['gzip_bytes'] / 1e6:.2f}",
                f"{100 * a['accuracy']['value']:.2f}", f"{a['parity']['max_difference']:.1e}",
                f"{100 * a['parity']['agreement']:.2f}",
                f"{a['p50_ms']:.3f}" if "p50_ms" in a else "", str(len(a["spared"])),
            ))  # fmt: skip
    head = (
        "artifact", "MB", "gzip, MB", "accuracy, %", "difference", "agrees, %", "p50, ms", "spared",
    )  # fmt: skip
    return markdown(head, rows)


if __name__ == "__main__":
    cli(main)

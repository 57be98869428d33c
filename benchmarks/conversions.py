"""Compares all formats and quantizations of the presets, and a compressed student.

    make demo                          # the teacher and its soft labels
    python benchmarks/conversions.py

Distils nano, micro and mini, compresses micro, exports all of them with all artifacts, and measures
all files in one run. Finished parts are kept in runs/students and runs/conversions.
"""

from pathlib import Path
from typing import Any

from benchmarks.common import Setup, cli, make_once, read_command_line, report_figures
from kdedge import KdedgeError, SoftLabels, Student, export_bundle
from kdedge.bench.report.model import BenchReport, three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bench.run import REPORT, bench_bundles
from kdedge.bench.scenario import scenario
from kdedge.bundle.manifest import verify
from kdedge.recipe import Compress, Export

PRESETS = ("nano", "micro", "mini")
# micro with a smaller vocabulary, then pruned and clustered.
SMALL, METHODS = "micro-small", ("vocabulary", "pruning-clustering")
# Twice the loss of accuracy that is allowed by default, to show files that are refused by default.
ALL = Export(artifacts="all", max_accuracy_drop=1)


def main() -> None:
    """Distil, compress, export and measure, and write the results."""
    setup, options = read_command_line("conversions", __doc__, tier="quick")
    students = {name: setup.student(name) for name in PRESETS}
    small = setup.work / SMALL
    students[SMALL] = make_once(small, compress, setup, students["micro"], small)
    bundles = [setup.work / "bundles" / name for name in students]
    for bundle in bundles:
        make_once(bundle, export, students[bundle.name], bundle)
    report = setup.work / "report"
    make_once(
        report / REPORT, bench_bundles, bundles, report, scenario(options.tier), setup.texts()
    )
    setup.keep(setup.about() | figures(bundles, BenchReport.load(report / REPORT)), page)


def compress(setup: Setup, source: Path, out: Path) -> None:
    """Compress a student by `METHODS`."""
    from kdedge.compress.stage import compress_student

    settings, store = Compress(methods=METHODS), SoftLabels(setup.run_file("soft_labels"))
    compress_student(Student.load(source), store, settings, out, setup.recipe.seed)


def export(student: Path, out: Path) -> None:
    """Export a student; artifacts that lose too much are left out of the bundle."""
    from kdedge.export.subject import subject_of

    try:
        export_bundle(subject_of(Student.load(student)), ALL, out)
    except KdedgeError:
        if not out.exists():
            raise


def figures(bundles: list[Path], report: BenchReport) -> dict[str, Any]:
    """The figures of manifests and measurements that are stored."""
    times = {m.name: m for m in report.measurements}
    result = {}
    for folder in bundles:
        manifest = verify(folder)
        artifacts = {}
        for one in manifest.artifacts:
            stored = one.model_dump(
                include={"bytes", "gzip_bytes", "spared", "parity"}, mode="json"
            )
            stored["accuracy"] = one.score.model_dump()
            m = times[f"{folder.name}/{one.name}"]
            stored |= {k: getattr(m, k) for k in ("p50_ms", "p90_ms", "repeats_p50_ms")}
            artifacts[one.name] = stored
        result[folder.name] = {
            "source accuracy": manifest.source.score.value,
            "defaults": manifest.defaults,
            "artifacts": artifacts,
        }
    return {"bundles": result} | report_figures(report)


def page(result: dict[str, Any]) -> str:
    """One row for each artifact, under its student."""
    rows = []
    for bundle, entry in result["bundles"].items():
        accuracy = f"{100 * entry['source accuracy']:.2f}"
        rows.append((f"**{bundle}** (Keras)", "", "", accuracy, "", "", "", ""))
        for name, a in entry["artifacts"].items():
            rows.append((
                name, f"{a['bytes'] / 1e6:.2f}", f"{a['gzip_bytes'] / 1e6:.2f}",
                f"{100 * a['accuracy']['value']:.2f}", f"{a['parity']['max_difference']:.1e}",
                f"{100 * a['parity']['agreement']:.2f}",
                three_digits(a["p50_ms"]), str(len(a["spared"])),
            ))  # fmt: skip
    head = (
        "artifact", "MB", "gzip, MB", "accuracy, %", "difference", "agrees, %", "p50, ms", "spared",
    )  # fmt: skip
    return markdown(head, rows)


if __name__ == "__main__":
    cli(main)

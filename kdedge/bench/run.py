"""Measuring whole bundles: verified files and real texts in, a report out."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from kdedge.bench.local import Subject, measure
from kdedge.bench.report import BenchReport, Measurement, Repeat, size_latency_accuracy_figure
from kdedge.bench.scenario import Scenario
from kdedge.bundle import Artifact, Manifest, verify
from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.progress import progress
from kdedge.text.encoder import TextEncoder

REPORT, FIGURE, SAMPLE_TEXTS = "report.json", "size_latency_accuracy.svg", "sample_texts.txt"


class _Job(NamedTuple):
    subject: Subject
    bundle: str
    manifest: Manifest
    artifact: Artifact


def bench_bundles(
    bundles: Sequence[Path],
    report_dir: Path,
    scenario: Scenario,
    texts: Sequence[str] | None = None,
) -> BenchReport:
    """Measure every artifact of `bundles`; write report.json and size_latency_accuracy.svg.

    Args:
        bundles: folders that `kdedge export` wrote, with names that differ.
        report_dir: where to write; an older report there is replaced.
        scenario: how long to measure.
        texts: to measure with; by default each bundle's own sample texts.

    Raises:
        KdedgeError: a bundle is not whole, there are no texts, or an artifact fails in its
            runtime; what the others measured is written all the same.
    """
    names = [bundle.resolve().name for bundle in bundles]
    if not names or len(set(names)) < len(names):
        raise KdedgeError(
            f"bundles: {', '.join(names) or 'none given'}. At least one is needed, and their "
            "folders' names must differ."
        )
    manifests = [verify(bundle) for bundle in bundles]
    sources = [manifest.source.name for manifest in manifests]
    prefixes = sources if len(set(sources)) == len(sources) else names
    jobs = [
        job
        for bundle, name, manifest, prefix in zip(bundles, names, manifests, prefixes, strict=True)
        for job in _jobs(bundle, name, manifest, f"{prefix}/" if len(names) > 1 else "", texts)
    ]
    with progress("measuring", len(jobs) * scenario.repeats, "runs") as advance:
        run = measure([job.subject for job in jobs], scenario, advance)
    report = BenchReport(
        kdedge=version("kdedge"),
        scenario=scenario,
        environment=run.environment,
        valid=not run.reasons,
        reasons=run.reasons,
        failures=run.failures,
        measurements=tuple(
            _measurement(job, run.repeats[job.subject.name])
            for job in jobs
            if job.subject.name in run.repeats
        ),
    )
    report.save(report_dir / REPORT)
    write_text(report_dir / FIGURE, size_latency_accuracy_figure(report))
    if report.failures:
        lines = "\n  ".join(f"{name}: {why}" for name, why in report.failures.items())
        raise KdedgeError(
            f"These failed in their runtime; the others' figures are in {report_dir / REPORT}:"
            f"\n  {lines}"
        )
    return report


def _jobs(
    bundle: Path, name: str, manifest: Manifest, prefix: str, texts: Sequence[str] | None
) -> list[_Job]:
    encoder = TextEncoder.load(bundle)
    if texts is None:
        texts = _sample_texts(bundle / SAMPLE_TEXTS)
    if not texts:
        raise KdedgeError("texts: none given. At least one real text is needed.")
    # ONNX models take any length: give them what the others get, so that times compare.
    fixed = next((a.length for a in manifest.artifacts if a.length), manifest.max_length)
    return [
        _Job(
            Subject(
                prefix + artifact.name,
                bundle / artifact.file,
                artifact.format,
                encoder.encode(texts, artifact.length or fixed),
            ),
            name,
            manifest,
            artifact,
        )
        for artifact in manifest.artifacts
    ]


def _sample_texts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        raise KdedgeError(f"{path} is missing. Export the bundle anew.") from None
    return [line for line in lines if line]


def _measurement(job: _Job, repeats: tuple[Repeat, ...]) -> Measurement:
    artifact = job.artifact
    return Measurement(
        name=job.subject.name,
        bundle=job.bundle,
        artifact=artifact.name,
        source=job.manifest.source.name,
        format=artifact.format,
        quantization=artifact.quantization,
        bytes=artifact.bytes,
        length=job.subject.inputs.ids.shape[1],
        accuracy=artifact.accuracy.value,
        accuracy_texts=artifact.accuracy.texts,
        agreement=artifact.parity.agreement,
        sha256=job.manifest.files[artifact.file],
        repeats=repeats,
    )

"""Measuring whole bundles: verified files and real texts in, a report out."""

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from kdedge.bench.devices import Device, DeviceLostError, Subject
from kdedge.bench.devices.local import Local
from kdedge.bench.figures import size_latency_accuracy_figure
from kdedge.bench.measure import Run, measure
from kdedge.bench.report import BenchReport, Measurement, Repeat
from kdedge.bench.scenario import Scenario
from kdedge.bundle import Artifact, Manifest, verify
from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.progress import progress
from kdedge.text.encoder import TextEncoder

REPORT, FIGURE, SAMPLE_TEXTS = "results.json", "size_latency_accuracy.svg", "sample_texts.txt"
# Inside the report's folder: each answer of a run that is not whole yet.
KEPT = "measured"


class _Job(NamedTuple):
    device: Device
    subject: Subject
    bundle: str
    manifest: Manifest
    artifact: Artifact


def bench_bundles(
    bundles: Sequence[Path],
    report_dir: Path,
    scenario: Scenario,
    texts: Sequence[str] | None = None,
    devices: Sequence[Device] | None = None,
) -> BenchReport:
    """Measure every artifact of `bundles`; write results.json and size_latency_accuracy.svg.

    What a run that was stopped had measured is in a folder of `report_dir`, and the same call does
    not measure it again.

    Args:
        bundles: folders that `kdedge export` wrote, with names that differ.
        report_dir: where to write; an older report there is replaced.
        scenario: how long to measure.
        texts: to measure with; by default each bundle's own sample texts.
        devices: one after the other, with URLs that differ; by default this machine.

    Raises:
        KdedgeError: a bundle is not whole, there are no texts, a device can't be reached, or an
            artifact fails in its runtime or a device goes away; in the last two cases what the
            others measured is written all the same.
    """
    names = [bundle.resolve().name for bundle in bundles]
    if not names or len(set(names)) < len(names):
        raise KdedgeError(
            f"bundles: {', '.join(names) or 'none given'}. At least one is needed, and their "
            "folders' names must differ."
        )
    devices = devices or [Local()]
    if len({device.url for device in devices}) < len(devices):
        raise KdedgeError(
            f"devices: {', '.join(device.url for device in devices)}. Each may be named once."
        )
    manifests = [verify(bundle) for bundle in bundles]
    sources = [manifest.source.name for manifest in manifests]
    prefixes = sources if len(set(sources)) == len(sources) else names
    jobs = [
        job
        for device in devices
        for bundle, name, manifest, prefix in zip(bundles, names, manifests, prefixes, strict=True)
        for job in _jobs(
            bundle,
            name,
            manifest,
            f"{prefix}/" if len(names) > 1 else "",
            texts,
            device,
            f" on {device.url}" if len(devices) > 1 else "",
        )
    ]
    runs = _measure(devices, jobs, scenario, report_dir / KEPT)
    report = BenchReport(
        kdedge=version("kdedge"),
        scenario=scenario,
        environments={url: run.environment for url, run in runs.items()},
        valid=not any(run.reasons for run in runs.values()),
        reasons=tuple(reason for run in runs.values() for reason in run.reasons),
        failures={name: why for run in runs.values() for name, why in run.failures.items()},
        measurements=tuple(
            _measurement(job, runs[job.device.url].repeats[job.subject.name])
            for job in jobs
            if job.subject.name in runs[job.device.url].repeats
        ),
    )
    report.save(report_dir / REPORT)
    write_text(report_dir / FIGURE, size_latency_accuracy_figure(report))
    if report.failures:
        lines = "\n  ".join(f"{name}: {why}" for name, why in report.failures.items())
        raise KdedgeError(
            f"These failed; the others' figures are in {report_dir / REPORT}:\n  {lines}"
        )
    # The next run is to measure anew.
    shutil.rmtree(report_dir / KEPT, ignore_errors=True)
    return report


def _measure(
    devices: Sequence[Device], jobs: Sequence[_Job], scenario: Scenario, kept: Path
) -> dict[str, Run]:
    """By the device's URL."""
    subjects = {d.url: [job.subject for job in jobs if job.device is d] for d in devices}
    for device in devices:
        if not subjects[device.url]:
            raise KdedgeError(
                f"{device.url} runs only {', '.join(device.formats)} models, and the bundles have "
                "none. Export them with an artifact for it."
            )
    if len(devices) > 1:
        # What is wrong with the last device must be known before the first one's minutes.
        for device in devices:
            with device:
                pass
    runs = {}
    with progress("measuring", len(jobs) * scenario.repeats, "runs") as advance:
        for device in devices:
            try:
                run = measure(device, subjects[device.url], scenario, advance, kept)
            except DeviceLostError as error:
                if len(devices) == 1:
                    raise
                # It was there a while ago, and the others' figures must not be lost with it.
                run = Run({}, {device.url: str(error)}, {}, ())
            runs[device.url] = run
    return runs


def _jobs(
    bundle: Path,
    name: str,
    manifest: Manifest,
    prefix: str,
    texts: Sequence[str] | None,
    device: Device,
    suffix: str,
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
            device,
            Subject(
                prefix + artifact.name + suffix,
                bundle / artifact.file,
                artifact.format,
                encoder.encode(texts, artifact.length or fixed),
            ),
            name,
            manifest,
            artifact,
        )
        for artifact in manifest.artifacts
        if artifact.format in device.formats
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
        device=job.device.url,
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

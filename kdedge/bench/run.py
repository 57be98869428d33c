"""Measuring whole bundles: verified files and real texts in, a report out."""

import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdedge.bench.devices import Device, DeviceLostError, Subject
from kdedge.bench.devices.local import Local
from kdedge.bench.measure import Run, measure, others_of
from kdedge.bench.report.figures import size_latency_score_figure
from kdedge.bench.report.model import BenchReport, Measurement, Reference
from kdedge.bench.scenario import THROUGHPUT, Scenario
from kdedge.bundle.manifest import Artifact, Manifest, verify
from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.progress import progress
from kdedge.runtime import load_bundle
from kdedge.text.encoder import TOKENIZER, Encoded, TextEncoder

# Texts an inference, in the scenario of that name.
THROUGHPUT_BATCHES = (1, 8, 32)
REPORT, FIGURE, SAMPLE_TEXTS = "results.json", "size_latency_score.svg", "sample_texts.txt"
# Inside the report's folder: each answer of a run that is not whole yet.
KEPT = "measured"


class Labelled(NamedTuple):
    """Texts and the names of their labels."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


class Grid(NamedTuple):
    """What each artifact is measured with, in all combinations that it can run.

    Attributes:
        threads: of the runtime.
        lengths: tokens of the texts; none for the artifact's own. A LiteRT model has one.
        batches: texts an inference; none for one, or in the scenario `throughput` for 1, 8 and 32.
            A LiteRT model takes one.
    """

    threads: tuple[int, ...] = (1,)
    lengths: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()


class _Job(NamedTuple):
    device: Device
    subject: Subject
    bundle: Path
    manifest: Manifest
    artifact: Artifact


def bench_bundles(
    bundles: Sequence[Path],
    report_dir: Path,
    scenario: Scenario,
    texts: Sequence[str] | None = None,
    devices: Sequence[Device] | None = None,
    labelled: Labelled | None = None,
    grid: Grid | None = None,
) -> BenchReport:
    """Measure every artifact of `bundles`; write results.json and size_latency_score.svg.

    What a run that was stopped had measured is in a folder of `report_dir`, and the same call does
    not measure it again.

    Args:
        bundles: folders that `kdedge export` wrote, with names that differ.
        report_dir: where to write; an older report there is replaced.
        scenario: how long to measure.
        texts: to measure with; by default each bundle's own sample texts.
        devices: one after the other, with URLs that differ; by default this machine.
        labelled: texts to find the score with on the devices that can run them.
        grid: threads, tokens and batches to measure with; by default `Grid()`.

    Raises:
        KdedgeError: a bundle is not whole, there are no texts, a device can't be reached, or an
            artifact fails in its runtime or a device goes away; in the last two cases what the
            others measured is written all the same.
    """
    devices = devices or [Local()]
    manifests = _checked(bundles, devices, labelled)
    grid = grid or Grid()
    if not grid.batches:
        several = scenario.kind == THROUGHPUT
        grid = grid._replace(batches=THROUGHPUT_BATCHES if several else (1,))
    names = [bundle.resolve().name for bundle in bundles]
    sources = [manifest.source.name for manifest in manifests]
    prefixes = sources if len(set(sources)) == len(sources) else names
    jobs = [
        job
        for device in devices
        for bundle, manifest, prefix in zip(bundles, manifests, prefixes, strict=True)
        for job in _jobs(
            bundle,
            manifest,
            f"{prefix}/" if len(bundles) > 1 else "",
            texts,
            device,
            f" on {device.url}" if len(devices) > 1 else "",
            labelled,
            grid,
        )
    ]
    runs = _measure(devices, jobs, scenario, report_dir / KEPT)

    # Several devices are held against the same answer.
    @functools.cache
    def expected(bundle: Path, artifact: str) -> Any:
        return load_bundle(bundle, artifact).outputs(labelled.texts if labelled else ())

    report = BenchReport(
        kdedge=version("kdedge"),
        scenario=scenario,
        environments={url: run.environment for url, run in runs.items()},
        valid=not any(run.reasons for run in runs.values()),
        reasons=tuple(reason for run in runs.values() for reason in run.reasons),
        failures={name: why for run in runs.values() for name, why in run.failures.items()},
        measurements=tuple(
            _measurement(job, runs[job.device.url], labelled, expected)
            for job in jobs
            if job.subject.name in runs[job.device.url].repeats
        ),
    )
    report.save(report_dir / REPORT)
    write_text(report_dir / FIGURE, size_latency_score_figure(report))
    if report.failures:
        lines = "\n  ".join(f"{name}: {why}" for name, why in report.failures.items())
        raise KdedgeError(
            f"These failed; the others' figures are in {report_dir / REPORT}:\n  {lines}"
        )
    # The next run is to measure anew.
    shutil.rmtree(report_dir / KEPT, ignore_errors=True)
    return report


def _checked(
    bundles: Sequence[Path], devices: Sequence[Device], labelled: Labelled | None
) -> list[Manifest]:
    """The bundles' manifests, if all can be measured in one run."""
    names = [bundle.resolve().name for bundle in bundles]
    if not names or len(set(names)) < len(names):
        raise KdedgeError(
            f"bundles: {', '.join(names) or 'none given'}. At least one is needed, and their "
            "folders' names must differ."
        )
    if len({device.url for device in devices}) < len(devices):
        raise KdedgeError(
            f"devices: {', '.join(device.url for device in devices)}. Each may be named once."
        )
    manifests = [verify(bundle) for bundle in bundles]
    if labelled:
        for bundle, manifest in zip(bundles, manifests, strict=True):
            manifest.task.numbers(labelled.labels, f"labelled, for {bundle}")
    return manifests


def _measure(
    devices: Sequence[Device], jobs: Sequence[_Job], scenario: Scenario, kept: Path
) -> dict[str, Run]:
    """By the device's URL."""
    subjects = {d.url: [job.subject for job in jobs if job.device is d] for d in devices}
    for device in devices:
        if not subjects[device.url]:
            raise KdedgeError(
                f"{device.url} runs only {', '.join(device.formats)} models, and the bundles have "
                "none of the lengths and batches asked for. Export them with an artifact for it."
            )
    if len(devices) > 1:
        # What is wrong with the last device must be known before the first one's minutes.
        for device in devices:
            with device:
                pass
    runs = {}
    # The devices are not open yet; the most that they may be able to do.
    others = sum(len(others_of(device, s)) for device in devices for s in subjects[device.url])
    with progress("measuring", len(jobs) * scenario.repeats + others, "runs") as advance:
        for device in devices:
            try:
                run = measure(device, subjects[device.url], scenario, advance, kept)
            except DeviceLostError as error:
                if len(devices) == 1:
                    raise
                # It was there a while ago, and the others' figures must not be lost with it.
                run = Run({}, {}, {device.url: str(error)}, {}, ())
            runs[device.url] = run
    return runs


def _jobs(
    bundle: Path,
    manifest: Manifest,
    prefix: str,
    texts: Sequence[str] | None,
    device: Device,
    suffix: str,
    labelled: Labelled | None,
    grid: Grid,
) -> Iterator[_Job]:
    encoder = TextEncoder.load(bundle)
    if texts is None:
        texts = _sample_texts(bundle / SAMPLE_TEXTS)
    if not texts:
        raise KdedgeError("texts: none given. At least one real text is needed.")
    if longest := max((n for n in grid.lengths if n > manifest.max_length), default=0):
        raise KdedgeError(f"lengths: {longest}; {bundle} takes at most {manifest.max_length}.")

    @functools.cache
    def of_labelled(length: int) -> Encoded | None:
        return encoder.encode(labelled.texts, length) if labelled else None

    # ONNX models take any length: give them what the others get, so that times compare.
    fixed = next((a.length for a in manifest.artifacts if a.length), manifest.max_length)
    for artifact in manifest.artifacts:
        if artifact.format not in device.formats:
            continue
        own = (artifact.length,) if artifact.length else grid.lengths or (fixed,)
        for length, threads, batch in itertools.product(own, grid.threads, grid.batches):
            if length not in (grid.lengths or own) or batch > 1 and artifact.format == "litert":
                continue
            # A batch needs as many texts.
            repeated = itertools.islice(itertools.cycle(texts), max(len(texts), batch))
            inputs = encoder.encode(list(repeated), length)
            parts = (
                f", {length} tokens" * (len(grid.lengths) > 1),
                f", {threads} thread{'s' * (threads > 1)}" * (len(grid.threads) > 1),
                f", batch {batch}" * (len(grid.batches) > 1),
            )
            subject = Subject(
                prefix + artifact.name + "".join(parts) + suffix,
                bundle / artifact.file,
                artifact.format,
                inputs,
                bundle / TOKENIZER,
                tuple(texts),
                threads,
                batch,
                of_labelled(length),
            )
            yield _Job(device, subject, bundle, manifest, artifact)


def _sample_texts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        raise KdedgeError(f"{path} is missing. Export the bundle anew.") from None
    return [line for line in lines if line]


def _measurement(
    job: _Job, run: Run, labelled: Labelled | None, expected: Callable[[Path, str], Any]
) -> Measurement:
    artifact, others = job.artifact, run.others[job.subject.name]
    score, count, reference = artifact.score.value, artifact.score.texts, None
    if labelled and (said := others.get("outputs")):
        outputs = np.asarray(said.outputs, np.float32)
        right = expected(job.bundle, artifact.name)
        score, reference = _on_device(job, outputs, right, labelled)
        count = len(labelled.texts)
    return Measurement(
        name=job.subject.name,
        device=job.device.url,
        bundle=job.bundle.resolve().name,
        artifact=artifact.name,
        source=job.manifest.source.name,
        format=artifact.format,
        quantization=artifact.quantization,
        bytes=artifact.bytes,
        length=job.subject.inputs.ids.shape[1],
        threads=job.subject.threads,
        batch=job.subject.batch,
        metric=artifact.score.metric,
        score=score,
        score_texts=count,
        score_interval=job.manifest.task.interval(score, count),
        reference=reference,
        text=others.get("text"),
        memory=others.get("memory"),
        agreement=artifact.parity.agreement,
        sha256=job.manifest.files[artifact.file],
        repeats=run.repeats[job.subject.name],
    )


def _on_device(
    job: _Job, outputs: Any, expected: Any, labelled: Labelled
) -> tuple[float, Reference]:
    """The score of what a device said, and how near it is to this machine's runtime."""
    task = job.manifest.task
    # ONNX models give logits.
    said = task.outputs(outputs) if job.artifact.format == "onnx" else outputs
    if said.shape != expected.shape:
        raise KdedgeError(
            f"{job.subject.name}: answers of shape {said.shape}; {expected.shape} is right."
        )
    labels = task.numbers(labelled.labels, "labelled")
    return task.score(said, labels), Reference(
        texts=len(labels),
        agreement=task.agreement(said, expected),
        max_difference=float(np.abs(said - expected).max()),
    )

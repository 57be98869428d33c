"""Measures all models of some bundles on some devices and writes a report."""

import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdedge.bench.devices import Device, DeviceLostError, MeasuredModel
from kdedge.bench.devices.local import Local
from kdedge.bench.measure import Run, measure, repeated_kinds, single_kinds
from kdedge.bench.report.figures import size_latency_score_figure
from kdedge.bench.report.model import BenchReport, Measurement, Reference
from kdedge.bench.scenario import THROUGHPUT, Scenario
from kdedge.bundle.manifest import (
    SAMPLE_TEXTS,
    Artifact,
    Manifest,
    Score,
    prefixes,
    samples_beside,
    score_of,
    verify,
)
from kdedge.errors import KdedgeError
from kdedge.files import write_text
from kdedge.progress import progress
from kdedge.runtime import load_bundle
from kdedge.tasks import wilson_interval
from kdedge.text.decoding import tell_once
from kdedge.text.encoder import Encoded, TextEncoder
from kdedge.text.pairs import Pair, Text
from kdedge.text.pretrained import TOKENIZER

# Batch sizes of the scenario `throughput`.
THROUGHPUT_BATCHES = (1, 8, 32)
REPORT, FIGURE = "results.json", "size_latency_score.svg"
# Folder inside the report's folder with the answers of a run that has not ended yet.
KEPT = "measured"


class Labelled(NamedTuple):
    """Texts with their labels, as the task's `parse` gives them: names of classes, or scores."""

    texts: tuple[Text, ...]
    labels: tuple[Any, ...]


class Grid(NamedTuple):
    """Threads, lengths and batch sizes; each artifact is measured in all combinations it supports.

    Attributes:
        threads: threads of the runtime.
        lengths: tokens of a text; empty for the artifact's own, largest length. Most LiteRT models
            have only one.
        batches: texts in each inference; empty for 1, or for 1, 8 and 32 in the scenario
            `throughput`. A LiteRT model supports only 1.
    """

    threads: tuple[int, ...] = (1,)
    lengths: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()


class _Planned(NamedTuple):
    device: Device
    subject: MeasuredModel
    bundle: Path
    manifest: Manifest
    artifact: Artifact


def bench_bundles(
    bundles: Sequence[Path],
    report_dir: Path,
    scenario: Scenario,
    texts: Sequence[Text] | None = None,
    devices: Sequence[Device] | None = None,
    labelled: Labelled | None = None,
    grid: Grid | None = None,
) -> BenchReport:
    """Measure every artifact of `bundles`; write results.json and size_latency_score.svg.

    A run that is stopped leaves its answers in a folder of `report_dir`; the same call then
    continues.

    Args:
        bundles: folders that `kdedge export` wrote, each with another name.
        report_dir: folder to write to; an older report there is replaced.
        scenario: how long to measure.
        texts: texts to measure with; by default each bundle's sample texts, in it or beside it.
        devices: devices to measure on, one after the other; by default this machine.
        labelled: texts to compute the score on the devices with.
        grid: threads, lengths and batch sizes to measure with; by default `Grid()`.

    Raises:
        KdedgeError: a bundle is damaged, there are no texts, a device can't be reached, a model
            fails in its runtime, or a device goes away. In the last two cases the other results
            are written first.
    """
    devices = devices or [Local()]
    manifests = _checked(bundles, devices, labelled)
    grid = grid or Grid()
    if not grid.batches:
        several = scenario.kind == THROUGHPUT
        grid = grid._replace(batches=THROUGHPUT_BATCHES if several else (1,))
    planned = [
        item
        for device in devices
        for bundle, manifest, prefix in zip(
            bundles, manifests, prefixes(bundles, manifests), strict=True
        )
        for item in _plan(
            bundle,
            manifest,
            prefix,
            texts,
            device,
            f" on {device.url}" if len(devices) > 1 else "",
            labelled,
            grid,
        )
    ]
    runs = _measure(devices, planned, scenario, report_dir / KEPT)

    # All devices are compared with the same outputs.
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
            _measurement(item, runs[item.device.url], labelled, expected)
            for item in planned
            if item.subject.name in runs[item.device.url].repeats
        ),
    )
    report.save(report_dir / REPORT)
    write_text(report_dir / FIGURE, size_latency_score_figure(report))
    if report.failures:
        lines = "\n  ".join(f"{name}: {why}" for name, why in report.failures.items())
        raise KdedgeError(
            f"These failed; the results of the others are in {report_dir / REPORT}:\n  {lines}"
        )
    # The next run must measure again.
    shutil.rmtree(report_dir / KEPT, ignore_errors=True)
    return report


def _checked(
    bundles: Sequence[Path], devices: Sequence[Device], labelled: Labelled | None
) -> list[Manifest]:
    """The bundles' manifests, after checking that one run can measure them all."""
    names = [bundle.resolve().name for bundle in bundles]
    if not names or len(set(names)) < len(names):
        raise KdedgeError(
            f"bundles: {', '.join(names) or 'none given'}. At least one is needed, and their "
            "folders' names must differ."
        )
    if len({device.url for device in devices}) < len(devices):
        raise KdedgeError(
            f"devices: {', '.join(device.url for device in devices)}. Name each only once."
        )
    manifests = [verify(bundle) for bundle in bundles]
    if labelled:
        for bundle, manifest in zip(bundles, manifests, strict=True):
            manifest.task.numbers(labelled.labels, f"labelled, for {bundle}")
    return manifests


def _measure(
    devices: Sequence[Device], planned: Sequence[_Planned], scenario: Scenario, kept: Path
) -> dict[str, Run]:
    """Measure everything that is planned; the run of each device, by its URL."""
    subjects = {d.url: [item.subject for item in planned if item.device is d] for d in devices}
    for device in devices:
        if not subjects[device.url]:
            raise KdedgeError(
                f"{device.url} runs only {', '.join(device.formats)} models, and the bundles have "
                "none of the lengths and batches asked for. Export them with an artifact for it."
            )
    if len(devices) > 1:
        # Find out now whether the last device works, before minutes are spent on the first.
        for device in devices:
            with device:
                pass
    runs = {}
    # An upper bound: the kinds of a device are known only once it is connected.
    most = sum(
        scenario.repeats * len(repeated_kinds(device, subject, scenario))
        + len(single_kinds(device, subject))
        for device in devices
        for subject in subjects[device.url]
    )
    with progress("measuring", most, "runs") as advance:
        for device in devices:
            try:
                run = measure(device, subjects[device.url], scenario, advance, kept)
            except DeviceLostError as error:
                if len(devices) == 1:
                    raise
                # It was reachable before: keep the results of the other devices.
                run = Run({}, {}, {}, {device.url: str(error)}, {}, ())
            runs[device.url] = run
    return runs


def _plan(
    bundle: Path,
    manifest: Manifest,
    prefix: str,
    texts: Sequence[Text] | None,
    device: Device,
    suffix: str,
    labelled: Labelled | None,
    grid: Grid,
) -> Iterator[_Planned]:
    if device.own_inputs and (grid.lengths or grid.batches != (1,)):
        raise KdedgeError(
            f"{device.url}: the app runs one text at a time, at its own length. Leave out "
            "--lengths, --batches and --scenario throughput."
        )
    encoder = TextEncoder.load(bundle)
    if texts is None:
        texts = sample_texts(bundle, manifest.pairs)
    if not texts:
        raise KdedgeError("texts: none given. At least one real text is needed.")
    if longest := max((n for n in grid.lengths if n > manifest.max_length), default=0):
        raise KdedgeError(f"lengths: {longest}; {bundle} takes at most {manifest.max_length}.")

    @functools.cache
    def of_labelled(length: int) -> Encoded | None:
        return encoder.encode(labelled.texts, length) if labelled else None

    # ONNX models take any length: give them that of the LiteRT models, so that times compare.
    fixed = next((a.length for a in manifest.artifacts if a.length), manifest.max_length)
    for artifact in manifest.artifacts:
        if artifact.format not in device.formats:
            continue
        lengths: tuple[int, ...] = grid.lengths or (artifact.length or fixed,)
        if artifact.length:
            possible = artifact.lengths or (artifact.length,)
            lengths = tuple(n for n in lengths if n in possible)
            if not lengths:
                tell_once(
                    f"{prefix}{artifact.name}: left out; it has the lengths "
                    f"{', '.join(map(str, possible))} only"
                )
        for length, threads, batch in itertools.product(lengths, grid.threads, grid.batches):
            if batch > 1 and artifact.format == "litert":
                tell_once(f"{prefix}{artifact.name}: left out with batches of {batch}; it takes 1")
                continue
            # Repeat the texts if they are fewer than a batch.
            repeated = itertools.islice(itertools.cycle(texts), max(len(texts), batch))
            inputs = encoder.encode(list(repeated), length)
            parts = (
                f", {length} tokens" * (len(grid.lengths) > 1),
                f", {threads} thread{'s' * (threads > 1)}" * (len(grid.threads) > 1),
                f", batch {batch}" * (len(grid.batches) > 1),
            )
            subject = MeasuredModel(
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
            yield _Planned(device, subject, bundle, manifest, artifact)


def sample_texts(bundle: Path, pairs: bool = False) -> list[Text]:
    """The texts in a bundle, or beside it, to measure it with; pairs have a tab between.

    Raises:
        KdedgeError: there are none.
    """
    inside, beside = bundle / SAMPLE_TEXTS, samples_beside(bundle)
    path = inside if inside.is_file() else beside
    if not path.is_file():
        raise KdedgeError(
            f"{bundle}: no texts to measure with: neither {SAMPLE_TEXTS} in it nor {beside.name} "
            "beside it. Name a file with some: --samples FILE."
        )
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [Pair(*line.split("\t", 1)) for line in lines] if pairs else [*lines]


def _measurement(
    item: _Planned, run: Run, labelled: Labelled | None, expected: Callable[[Path, str], Any]
) -> Measurement:
    artifact, others = item.artifact, run.others[item.subject.name]
    score, reference = artifact.score, None
    if labelled and (found := others.get("outputs")):
        outputs = np.asarray(found.outputs, np.float32)
        on_host = expected(item.bundle, artifact.name)
        score, reference = _on_device(item, outputs, on_host, labelled)
    return Measurement(
        name=item.subject.name,
        device=item.device.url,
        bundle=item.bundle.resolve().name,
        artifact=artifact.name,
        source=item.manifest.source.name,
        format=artifact.format,
        quantization=artifact.quantization,
        bytes=artifact.bytes,
        length=item.subject.inputs.ids.shape[1],
        threads=item.subject.threads,
        batch=item.subject.batch,
        metric=score.metric,
        score=score.value,
        score_texts=score.texts,
        # Bundles of older versions, which all classify, have no interval.
        score_interval=score.interval or wilson_interval(score.value, score.texts),
        other_figures=score.others,
        reference=reference,
        texts=run.texts[item.subject.name],
        memory=others.get("memory"),
        agreement=artifact.parity.agreement,
        sha256=item.manifest.files[artifact.file],
        repeats=run.repeats[item.subject.name],
    )


def _on_device(
    item: _Planned, outputs: Any, expected: Any, labelled: Labelled
) -> tuple[Score, Reference]:
    """The score of the outputs of a device, and their difference from those of this machine."""
    task = item.manifest.task
    # ONNX models give logits.
    if item.artifact.format == "onnx":
        outputs = task.outputs(outputs)
    if outputs.shape != expected.shape:
        raise KdedgeError(
            f"{item.subject.name}: outputs of shape {outputs.shape}; {expected.shape} is needed."
        )
    labels = task.numbers(labelled.labels, "labelled")
    return score_of(task, outputs, labels), Reference(
        texts=len(labels),
        agreement=task.agreement(outputs, expected),
        max_difference=float(np.abs(outputs - expected).max()),
    )

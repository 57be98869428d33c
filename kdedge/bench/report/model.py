"""The report of a benchmark: JSON with the raw samples, and what is computed from them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from kdedge.bench.scenario import Scenario
from kdedge.bench.statistics import p1, p50, p90, p99, ratio_interval
from kdedge.engines import ENGINES
from kdedge.errors import KdedgeError
from kdedge.files import write_text

FORMAT_VERSION = 4
Value = str | int | float
Accelerator = Literal["cpu", "gpu", "npu"]
ACCELERATORS = get_args(Accelerator)
LEAST_FOR_P99 = 1000
# With fewer samples a median does not show whether the device gets slower.
LEAST_THIRD = 50
# Name of the runtime of each format.
RUNTIMES = {format: engine.name for format, engine in ENGINES.items()}


class _Frozen(BaseModel):
    # Computed fields are written for other programs; here they are computed again, so ignored.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Summary(_Frozen):
    """Statistics of the inferences after warm-up, from a tool that gives no samples."""

    count: int = Field(ge=1)
    mean_ns: float = Field(gt=0)
    median_ns: float | None = Field(None, gt=0)
    p95_ns: float | None = Field(None, gt=0)
    memory_rise_bytes: int | None = Field(
        None, description="since the start of the tool; approximate"
    )


class Placement(_Frozen):
    """The processor that an app ran a model on."""

    asked: Accelerator
    used: Accelerator
    share: float | None = Field(
        None, ge=0, le=1, description="of the operators that it took; None if unknown or the CPU"
    )
    reason: str | None = Field(None, description="why the CPU was used instead")

    @property
    def words(self) -> str:
        """Formatted for people; empty for the CPU as asked.

        >>> Placement(asked="gpu", used="gpu", share=0.775).words
        'on the GPU, which took 77.5% of the operators'
        >>> Placement(asked="gpu", used="cpu", reason="its library is missing").words
        'on the CPU instead of the GPU: its library is missing'
        """
        used, asked = self.used.upper(), self.asked.upper()
        if used != asked:
            # In one line, for tables.
            reason = " ".join((self.reason or "no reason given").split())
            return f"on the {used} instead of the {asked}: {reason}"
        if self.used == "cpu":
            return ""
        share = "an unknown share" if self.share is None else f"{self.share:.1%}"
        return f"on the {used}, which took {share} of the operators"


class Repeat(_Frozen):
    """The measurements of one process; without samples, a summary of them."""

    load_ns: int = Field(ge=0, description="creating the interpreter or session, import excluded")
    first_inference_ns: int = Field(ge=0)
    samples_ns: tuple[int, ...] = Field(description="inferences after warm-up")
    summary: Summary | None = None
    peak_rss_bytes: int | None = Field(description="of the process, Python included")
    joules: float | None = Field(
        None, ge=0, description="energy of the processor for these samples; None if unknown"
    )
    placement: Placement | None = Field(None, description="None for the CPU")

    @model_validator(mode="after")
    def _measured_something(self) -> "Repeat":
        if not self.samples_ns and not self.summary:
            raise ValueError("neither samples nor a summary of them")
        if min(self.samples_ns, default=0) < 0:
            raise ValueError("a sample is negative")
        if not self.p1_ns:
            raise ValueError("the samples' first percentile is 0: the clock is too coarse")
        return self

    @property
    def p1_ns(self) -> float:
        """The first percentile; `p50_ns` if there are no samples."""
        return p1(self.samples_ns) if self.samples_ns else self.p50_ns

    @property
    def p50_ns(self) -> float:
        """The median; the mean if only that is known."""
        if self.summary:
            return self.summary.median_ns or self.summary.mean_ns
        return p50(self.samples_ns)

    @property
    def slowing(self) -> float | None:
        """Median of the last third of the samples / that of the first; None if too few."""
        third = len(self.samples_ns) // 3
        if third < LEAST_THIRD:
            return None
        return p50(self.samples_ns[-third:]) / p50(self.samples_ns[:third])


def slowing(repeats: Sequence[Repeat]) -> float | None:
    """The median of the repeats' slowing; None if all have too few samples."""
    found = [repeat.slowing for repeat in repeats if repeat.slowing is not None]
    return p50(found) if found else None


class TextTimes(_Frozen):
    """Latency from string to outputs at the text's own length, in a process of its own."""

    tokenize_ns: tuple[int, ...] = Field(min_length=1, description="tokenization only")
    end_to_end_ns: tuple[int, ...] = Field(min_length=1)
    placement: Placement | None = Field(None, description="None for the CPU")

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def tokenize_p50_ms(self) -> float:
        """Median of `tokenize_ns`."""
        return p50(self.tokenize_ns) / 1e6

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def end_to_end_p50_ms(self) -> float:
        """Median of `end_to_end_ns`."""
        return p50(self.end_to_end_ns) / 1e6


class Memory(_Frozen):
    """Resident memory, measured in a separate process."""

    baseline_bytes: int = Field(ge=0, description="with the runtime imported, before loading")
    load_rise_bytes: int = Field(description="increase after loading the model")
    rise_bytes: int = Field(description="increase after running all texts")


class Reference(_Frozen):
    """Outputs on the device compared with those on this machine, of the same file."""

    texts: int = Field(ge=1)
    agreement: float = Field(ge=0, le=1, description="share of texts with the same answer")
    max_difference: float = Field(ge=0, description="of probabilities or scores")


class Measurement(_Frozen):
    """One artifact: facts from its manifest, and its repeats."""

    name: str = Field(description="unique in the report")
    device: str = Field(description="URL of the device that it was measured on")
    bundle: str = Field(description="name of the bundle's folder")
    artifact: str
    source: str = Field(description="the student's preset, or teacher")
    format: Literal["litert", "onnx"]
    quantization: str
    bytes: int = Field(ge=1)
    length: int = Field(description="tokens of the texts")
    threads: int = Field(1, ge=1)
    batch: int = Field(1, ge=1, description="texts in each inference")
    metric: str = Field(description="name of the score: accuracy for classification")
    score: float = Field(
        ge=-1, le=1, description="on the device; without `reference`, from the manifest"
    )
    score_texts: int = Field(ge=1)
    score_interval: tuple[float, float] = Field(description="95%, over the texts")
    other_figures: dict[str, float] = Field(
        {}, description="the task's other figures on these texts, by name"
    )
    reference: Reference | None = None
    texts: tuple[TextTimes, ...] = Field(
        (), description="for each repeat; empty if the device can't measure it"
    )
    memory: Memory | None = None
    agreement: float = Field(
        ge=0, le=1, description="share of texts with the same answer as its source"
    )
    sha256: str
    repeats: tuple[Repeat, ...] = Field(min_length=1)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def repeats_p1_ms(self) -> tuple[float, ...]:
        """First percentile of each repeat, used to compare artifacts."""
        return tuple(repeat.p1_ns / 1e6 for repeat in self.repeats)

    @property
    def p1_ms(self) -> float:
        """The median of the repeats' first percentiles."""
        return p50(self.repeats_p1_ms)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def repeats_p50_ms(self) -> tuple[float, ...]:
        """The median of each repeat."""
        return tuple(repeat.p50_ns / 1e6 for repeat in self.repeats)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p50_ms(self) -> float:
        """Median of the repeats' medians: one disturbed repeat changes little."""
        return p50(self.repeats_p50_ms)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p90_ms(self) -> float | None:
        """Median of the repeats' 90th percentiles; None without samples."""
        if not all(repeat.samples_ns for repeat in self.repeats):
            return None
        return p50([p90(repeat.samples_ns) / 1e6 for repeat in self.repeats])

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p99_ms(self) -> float | None:
        """Median of the repeats' 99th percentiles; None if a repeat has under 1,000 samples."""
        if any(len(repeat.samples_ns) < LEAST_FOR_P99 for repeat in self.repeats):
            return None
        return p50([p99(repeat.samples_ns) / 1e6 for repeat in self.repeats])

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def cold_start_ms(self) -> float:
        """Loading plus the first inference, median of the repeats."""
        return p50([(r.load_ns + r.first_inference_ns) / 1e6 for r in self.repeats])

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def texts_a_second(self) -> float:
        """Throughput at the median latency."""
        return 1000 * self.batch / self.p50_ms

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def millijoules(self) -> float | None:
        """Energy of the processor for each text, median of the repeats; None if unknown."""
        found = [
            1000 * repeat.joules / (len(repeat.samples_ns) * self.batch)
            for repeat in self.repeats
            if repeat.joules is not None and repeat.samples_ns
        ]
        return p50(found) if found else None

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def p50_is_mean(self) -> bool:
        """Whether `p50_ms` is a mean, because the tool gives no medians."""
        return any(r.summary is not None and r.summary.median_ns is None for r in self.repeats)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def load_ms(self) -> float:
        """Time to load the model, median of the repeats."""
        return p50([repeat.load_ns / 1e6 for repeat in self.repeats])

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def first_inference_ms(self) -> float:
        """Latency of the first inference, median of the repeats."""
        return p50([repeat.first_inference_ns / 1e6 for repeat in self.repeats])

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def text_ms(self) -> float | None:
        """Latency from text to outputs, median of the repeats' medians; None if not measured."""
        return p50(self.texts_p50_ms) if self.texts else None

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def tokenize_ms(self) -> float | None:
        """The part of `text_ms` that is tokenization; None if not measured."""
        return p50([times.tokenize_p50_ms for times in self.texts]) if self.texts else None

    @property
    def texts_p50_ms(self) -> tuple[float, ...]:
        """Median of each repeat from text to outputs; the first percentile has short texts only."""
        return tuple(times.end_to_end_p50_ms for times in self.texts)

    @property
    def used(self) -> tuple[Accelerator, ...]:
        """The processors that it ran on; several only if it did not work in each process."""
        return tuple(sorted({one.used if one else "cpu" for one in self._placements}))

    @property
    def placement(self) -> str:
        """The processors that it ran on, formatted; empty for the CPU as asked."""
        return "; ".join(dict.fromkeys(one.words for one in self._placements if one and one.words))

    @property
    def _placements(self) -> list[Placement | None]:
        return [*(one.placement for one in self.repeats), *(one.placement for one in self.texts)]

    @property
    def has_details(self) -> bool:
        """Whether there are other measurements than latencies of inferences."""
        return bool(self.texts or self.memory or self.reference or self.millijoules)

    @property
    def conditions(self) -> tuple[object, ...]:
        """The conditions that must be equal to compare latencies."""
        return self.device, self.format, self.threads, self.length, self.batch, self.used

    @property
    def is_teacher(self) -> bool:
        """Whether it is a teacher's model."""
        return self.source == "teacher"

    @property
    def size(self) -> str:
        """Size of the file, formatted."""
        return f"{self.bytes / 1e6:.1f} MB"


def three_digits(value: float) -> str:
    """Format with at least three significant digits.

    >>> [three_digits(value) for value in (0.0512, 1.2, 1234)]
    ['0.0512', '1.20', '1234']
    """
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


@dataclass(frozen=True)
class SpeedUp:
    """How many times as fast as `baseline`, with a 95% interval over the repeats."""

    baseline: Measurement
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`12.3× faster`, `1.2× slower`, or `no different` if the interval contains 1."""
        if self.low > 1:
            return f"{three_digits(self.ratio)}× faster"
        if self.high < 1:
            return f"{three_digits(1 / self.ratio)}× slower"
        return "no different"

    @property
    def interval(self) -> str:
        """The interval, in the direction of the verdict."""
        low, high = (1 / self.high, 1 / self.low) if self.high < 1 else (self.low, self.high)
        return f"{three_digits(low)} to {three_digits(high)}"


class Scored(_Frozen):
    """A model and its measures on the test split."""

    name: str
    measures: dict[str, float] = Field(description="accuracy and macro_f1 for classification")


class ByClass(_Frozen):
    """How well the student recognises a class."""

    name: str
    texts: int = Field(ge=0, description="test texts that have this label")
    precision: float = Field(
        ge=0, le=1, description="of the texts that got the label, the share that have it"
    )
    recall: float = Field(
        ge=0, le=1, description="of the texts that have the label, the share that got it"
    )
    f1: float = Field(ge=0, le=1, description="the harmonic mean of precision and recall")


class Confusion(_Frozen):
    """Texts of a class that got the label of another."""

    label: str
    answer: str
    texts: int = Field(ge=1)


class OnSheet(_Frozen):
    """A model's score on texts that are labelled by hand."""

    name: str = Field(description="teacher or student")
    score: float = Field(ge=-1, le=1)
    interval: tuple[float, float] = Field(description="95%, over the texts")


class HandLabels(_Frozen):
    """Teacher and student on a sheet of test texts that are labelled by hand."""

    texts: int = Field(ge=0, description="rows of the sheet")
    labelled: int = Field(ge=0, description="of these with a label")
    foreign: int = Field(ge=0, description="rows that are no test texts; left out")
    metric: str
    models: tuple[OnSheet, ...] = Field(description="empty as long as no text has a label")
    test_texts: int = Field(ge=1)
    agreement: float | None = Field(description="of teacher and student, on all test texts")
    agreement_interval: tuple[float, float] | None = Field(description="95%")


class Quality(_Frozen):
    """Metrics of a run's models and of the baselines on the same data."""

    texts: int = Field(ge=1, description="of the test split")
    models: tuple[Scored, ...]
    verdicts: tuple[str, ...] = Field(description="whether teacher and student are better, and why")
    classes: tuple[ByClass, ...] = Field(description="of classification: the worst first")
    confusions: tuple[Confusion, ...] = Field(description="the most frequent ones first")


class _Head(_Frozen):
    """The part that reports of all versions have."""

    format_version: int = FORMAT_VERSION
    kdedge: str = Field(description="version of kdedge that wrote it")


class BenchReport(_Head):
    """The results of a benchmark, and whether they are valid."""

    scenario: Scenario
    environments: dict[str, dict[str, Value]] = Field(description="device -> facts about it")
    valid: bool
    reasons: tuple[str, ...] = Field(description="why the run is not valid")
    failures: dict[str, str] = Field(description="artifact or device -> what went wrong")
    measurements: tuple[Measurement, ...]
    quality: Quality | None = Field(None, description="in the report of a run of a recipe")

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(path, self.model_dump_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> "BenchReport":
        """Read what `save` wrote.

        Raises:
            KdedgeError: no report, or not one of this version.
        """
        try:
            content = path.read_bytes()
            # Check the version first: another one may have other keys.
            head = _Head.model_validate_json(content)
            if head.format_version != FORMAT_VERSION:
                raise KdedgeError(
                    f"{path}: format_version is {head.format_version} and this kdedge reads "
                    f"{FORMAT_VERSION}. Install the kdedge that wrote it ({head.kdedge}), or "
                    "measure again."
                )
            return cls.model_validate_json(content)
        except (OSError, ValidationError) as error:
            raise KdedgeError(f"{path}: not a readable benchmark report: {error}") from None

    def speed_up(self, measurement: Measurement) -> SpeedUp | None:
        """Compare inferences with the baseline: the teacher's fastest under the same conditions.

        The same conditions are: device, runtime, threads, tokens, batch size and processor. Without
        a teacher the baseline is the slowest artifact. None for the baseline itself.
        """
        peers = [m for m in self.measurements if m.conditions == measurement.conditions]
        return _speed_up(measurement, peers, lambda m: m.repeats_p1_ms)

    def text_speed_up(self, measurement: Measurement) -> SpeedUp | None:
        """Compare from text to outputs, each artifact at its best lengths.

        The baseline is found as by `speed_up`, with any number of tokens. None also where it was
        not measured.
        """

        def conditions(m: Measurement) -> tuple[object, ...]:
            return m.device, m.format, m.threads, m.used

        peers = [m for m in self.measurements if m.texts]
        peers = [m for m in peers if conditions(m) == conditions(measurement)]
        return _speed_up(measurement, peers, lambda m: m.texts_p50_ms)

    def retention(self, measurement: Measurement) -> float | None:
        """Score / best score of the teacher's artifacts; None without one that is above 0."""
        best = max((m.score for m in self.measurements if m.is_teacher), default=0)
        return measurement.score / best if best > 0 else None

    @property
    def metric(self) -> str:
        """Name of the score; several names if the bundles have several tasks."""
        return ", ".join(dict.fromkeys(m.metric for m in self.measurements))

    @property
    def best(self) -> Measurement | None:
        """The fastest artifact of a student within one point of the best score.

        From text to outputs, if that was measured.
        """
        students = [m for m in self.measurements if not m.is_teacher]
        most = max((m.score for m in students), default=0.0)
        good = [m for m in students if m.score >= most - 0.01]
        good = [m for m in good if m.texts] or good
        return min(good, key=lambda m: p50(m.texts_p50_ms or m.repeats_p1_ms), default=None)


def _speed_up(
    measurement: Measurement,
    peers: Sequence[Measurement],
    repeats: Callable[[Measurement], Sequence[float]],
) -> SpeedUp | None:
    """How many times as fast it is as the baseline among its peers, by a value of each repeat."""
    if measurement not in peers:
        return None
    teachers = [m for m in peers if m.is_teacher]
    medians = {m.name: p50(repeats(m)) for m in peers}
    baseline = (
        min(teachers, key=lambda m: medians[m.name])
        if teachers
        else max(peers, key=lambda m: medians[m.name])
    )
    if baseline.name == measurement.name:
        return None
    low, high = ratio_interval(repeats(baseline), repeats(measurement))
    return SpeedUp(baseline, medians[baseline.name] / medians[measurement.name], low, high)


def report_schema() -> str:
    """The JSON schema of a report, as in report.schema.json."""
    schema = BenchReport.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["format_version"]["const"] = FORMAT_VERSION
    return json.dumps(schema, indent=2) + "\n"

"""What the tests of the benchmark and of its devices share."""

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing

from kdedge.bench.devices.device import Format, MeasuredModel
from kdedge.bench.report.model import BenchReport, Measurement, Repeat
from kdedge.bench.scenario import TIERS, Scenario
from kdedge.bundle.decision import Calibration, Coverage, Decision, Trust, Typical
from kdedge.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    SAMPLE_TEXTS,
    Artifact,
    Manifest,
    Parity,
    Score,
    Source,
    copy_bundle,
    read_manifest,
    write_manifest,
)
from kdedge.files import sha256, write_checksums
from kdedge.tasks import Classification
from kdedge.text.encoder import TextEncoder
from kdedge.text.familiarity import FAMILIARITY, Familiarity

BRIEF = Scenario(
    name="brief", min_count=5, min_seconds=0, repeats=2, warmup_count=1, warmup_seconds=0
)


TYPICAL = Typical(
    texts=2000, unsure=0.2, unknown=0.01, answers=(0.5, 0.5),
    lengths=(5, 8, 11, 14, 18, 22, 27, 33, 42),
)  # fmt: skip


def with_decision(bundle: Path, out: Path, familiarity: Familiarity | None = None) -> Path:
    """A copy of a bundle without sample texts, with a decision as `kdedge export` writes it."""
    manifest = read_manifest(shutil.copytree(bundle, out))
    trust = Trust(
        decision=Decision(
            temperature=2.0,
            thresholds=(0.6,),
            max_unknown=0.5,
            min_familiarity=-0.75 if familiarity else None,
        ),
        calibration=Calibration(
            valid_texts=1, test_labels=1, error_before=0, error_after=0, by_chance=0, bins=()
        ),
        answered=Coverage(threshold=0.6, coverage=1, right=None, interval=None),
        curve=(),
        typical=TYPICAL,
    )
    artifacts = tuple(a.model_copy(update={"trust": trust}) for a in manifest.artifacts)
    files = {name: sha for name, sha in manifest.files.items() if name != SAMPLE_TEXTS}
    if familiarity:
        familiarity.save(out)
        files[FAMILIARITY] = sha256(out / FAMILIARITY)
    write_manifest(out, manifest.model_copy(update={"artifacts": artifacts, "files": files}))
    return out


def of_release_0_1(bundle: Path, out: Path) -> Path:
    """A copy of a bundle as kdedge 0.1.0 wrote it: a manifest of version 1, without decisions."""
    copy_bundle(bundle, out, ["litert-int8", "onnx-int8"])
    stored = json.loads((out / MANIFEST).read_text())

    def older(part: dict[str, Any]) -> dict[str, Any]:
        kept = {k: v for k, v in part.items() if k not in ("score", "trust", "lengths")}
        score = part["score"]
        return kept | {"accuracy": {"texts": score["texts"], "value": score["value"]}}

    files = {name: sha for name, sha in stored["files"].items() if name != FAMILIARITY}
    task, _ = stored.pop("task"), stored.pop("pairs")
    stored |= {"format_version": 1, "labels": task["label_names"], "files": files}
    stored |= {"source": older(stored["source"]), "artifacts": [*map(older, stored["artifacts"])]}
    (out / FAMILIARITY).unlink()
    (out / MANIFEST).write_text(json.dumps(stored))
    write_checksums(out, [MANIFEST])
    return out


def make_encoder() -> TextEncoder:
    pieces = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film")
    tokenizer = Tokenizer(WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return TextEncoder(tokenizer, max_length=16)


def make_subject(name: str, model: Path, folder: Path) -> MeasuredModel:
    """A subject with two texts; its tokenizer is written into `folder`."""
    encoder, texts = make_encoder(), ("good film", "bad film")
    encoder.save(folder)
    format: Format = "litert" if model.suffix == ".tflite" else "onnx"
    return MeasuredModel(
        name, model, format, encoder.encode(texts, 8), folder / "tokenizer.json", texts
    )


def make_bundle(folder: Path, source: str, models: dict[str, Path]) -> Path:
    """A bundle whose encoder knows `good`, `bad` and `film`."""
    make_encoder().save(folder)
    (folder / "sample_texts.txt").write_text("good film\nbad film\n")
    artifacts = []
    for name, model in models.items():
        (folder / model.name).write_bytes(model.read_bytes())
        artifacts.append(
            Artifact(
                name=name,
                file=model.name,
                format="litert" if name.startswith("litert") else "onnx",
                quantization="float32",
                length=8 if name.startswith("litert") else None,
                bytes=model.stat().st_size,
                gzip_bytes=1,
                parity=Parity(texts=2, max_difference=0.0, mean_difference=0.0, agreement=1.0),
                score=Score(metric="accuracy", texts=10, value=0.8),
            )
        )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        kdedge="0.1.0",
        task=Classification(label_names=("negative", "positive")),
        max_length=16,
        source=Source(
            name=source, parameters=50, score=Score(metric="accuracy", texts=10, value=0.8)
        ),
        artifacts=tuple(artifacts),
        defaults={artifacts[0].format: artifacts[0].name},
        files={path.name: sha256(path) for path in folder.iterdir()},
    )
    write_manifest(folder, manifest)
    return folder


def repeat(samples_ns: list[int]) -> Repeat:
    return Repeat(
        load_ns=20_000_000,
        first_inference_ns=2 * samples_ns[0],
        samples_ns=tuple(samples_ns),
        peak_rss_bytes=90_000_000,
    )


def measurement(name: str, size: int, ms: float, accuracy: float, agreement: float) -> Measurement:
    """Three repeats of samples 0.95, 1, 1.15 times `ms`, the repeats 1% apart."""
    bundle, artifact = name.split("/")
    return Measurement(
        name=name,
        bundle=bundle,
        device="local",
        artifact=artifact,
        source=bundle,
        format="litert" if "litert" in name else "onnx",
        quantization=artifact.split("-")[1],
        bytes=size,
        length=64,
        metric="accuracy",
        score=accuracy,
        score_texts=2000,
        score_interval=(accuracy - 0.01, accuracy + 0.01),
        agreement=agreement,
        sha256="0" * 64,
        repeats=tuple(
            repeat([round(ms * 1e6 * factor * drift) for factor in (0.95, 1, 1.15)])
            for drift in (0.99, 1, 1.01)
        ),
    )


def make_report() -> BenchReport:
    """A report with invented figures, for the tests of tables and pages."""
    return BenchReport(
        kdedge="0.1.0",
        scenario=TIERS["light"],
        environments={
            "local": {"CPU": "a made-up CPU", "cores": 8, "LiteRT": "2.3.0", "load before": 0.1}
        },
        valid=True,
        reasons=(),
        failures={},
        measurements=(
            measurement("teacher/litert-float32", 90_400_000, 24.0, 0.874, 1.0),
            measurement("teacher/onnx-float32", 90_900_000, 21.5, 0.874, 1.0),
            measurement("micro/litert-float32", 16_300_000, 1.6, 0.861, 1.0),
            measurement("micro/litert-int8", 4_200_000, 0.8, 0.8595, 0.9925),
            measurement("micro/onnx-float32", 16_500_000, 1.5, 0.861, 1.0),
            measurement("micro/onnx-int8", 4_400_000, 1.0, 0.858, 0.9895),
        ),
    )

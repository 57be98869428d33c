"""Reads, writes, verifies and copies bundles: folders with everything that an app needs.

manifest.json           versions, SHA-256 of each file, parity and accuracy of each model
checksums.sha256        SHA-256 of manifest.json
manifest.sig            if the bundle is signed: see kdedge.bundle.signing
tokenizer.json          the tokenizer, for Hugging Face's library
tokenizer_config.json, config.json, encoder.json, vocab.txt, labels.txt
familiarity.bin         int8 for each token: tells texts that are unlike the training texts
sample_texts.txt        only on request: texts of the user's to measure with
litert/*.tflite         int32 [1, length] ids, mask, segment_ids -> float32 [1, width] outputs;
                        an artifact with `lengths` has a signature for each length
onnx/*.onnx             int64 [batch, length] input_ids, attention_mask, token_type_ids
                        -> float32 [batch, width] logits
"""  # noqa: E501

import errno
import json
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdedge.bundle.decision import Trust
from kdedge.bundle.fit import check_fit, check_format
from kdedge.errors import KdedgeError, listed
from kdedge.files import new_folder, sha256, verify_checksums, write_checksums
from kdedge.tasks import Labels, Outputs, StoredTask, Task, format_metric, with_task

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
SAMPLE_TEXTS = "sample_texts.txt"
FORMAT_VERSION = 3
# Version 1 was for classification only, version 2 had no `trust`.
READABLE_VERSIONS = (1, 2, FORMAT_VERSION)
# Larger than any model for an edge device. A zip archive that expands to more is refused.
MAX_ZIP_BYTES = 2_000_000_000
# Errors of zipfile for a damaged archive.
DAMAGED_ZIP = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, LookupError
)  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parity(_Frozen):
    """Difference of an artifact's outputs from its source's, on real texts."""

    texts: int = Field(ge=1)
    max_difference: float
    mean_difference: float
    agreement: float = Field(ge=0, le=1, description="share of texts with the same answer")


class Score(_Frozen):
    """The task's metric on test texts."""

    metric: str = Field(description="name of the metric: accuracy for classification")
    texts: int = Field(ge=1)
    value: float = Field(ge=-1, le=1)
    interval: tuple[float, float] | None = Field(None, description="95%, over the texts")
    others: dict[str, float] = Field({}, description="the task's other figures, by name")

    def text(self) -> str:
        """Metric and value."""
        return f"{self.metric} {format_metric(self.metric, self.value)}"


def score_of(task: Task, outputs: Outputs, labels: Labels) -> Score:
    """The task's metric of outputs float32 [texts, width]."""
    figures = task.measures(outputs, labels)
    value = figures.pop(task.metric)
    return Score(
        metric=task.metric,
        texts=len(labels),
        value=value,
        interval=task.interval(outputs, labels),
        others=figures,
    )


class SparedLayer(_Frozen):
    """A layer that was not quantized like the others, because it lost too much accuracy."""

    name: str = Field(description="its name scope or node in the file")
    kept_as: str = Field(description="float32, int8")
    error_before: float = Field(description="mean |difference of outputs| on calibration texts")
    error_after: float


class Artifact(_Frozen):
    """One model file of a bundle."""

    name: str = Field(description="for instance litert-int8")
    file: str = Field(description="path inside the bundle")
    format: Literal["litert", "onnx"]
    quantization: str = Field(description="float32, int8, ...")
    length: int | None = Field(
        description="tokens that texts are truncated to; None for any length"
    )
    lengths: tuple[int, ...] = Field(
        (), description="lengths that inputs can have, shortest first, if there are several"
    )
    bytes: int
    gzip_bytes: int = Field(description="size after gzip -9, which is that of a download")
    spared: tuple[SparedLayer, ...] = ()
    parity: Parity
    score: Score
    trust: Trust | None = Field(
        None, description="when to trust its answers; None without valid texts"
    )

    def summary(self) -> str:
        """One line: file, size, score, agreement with its source."""
        return (
            f"{self.file}: {self.bytes / 1e6:.2f} MB, {self.score.text()}, "
            f"agreement {100 * self.parity.agreement:.2f}%"
        )


class Source(_Frozen):
    """The Keras model that the artifacts were converted from."""

    name: str = Field(description="the student's preset, or teacher")
    parameters: int
    score: Score


class _Head(BaseModel):
    """The part that manifests of all versions have."""

    format_version: int
    kdedge: str = Field(description="version of kdedge that wrote the bundle")


class Manifest(_Frozen, _Head):
    """The contents of `manifest.json`."""

    task: StoredTask
    pairs: bool = Field(False, description="whether inputs are pairs of texts")
    max_length: int = Field(ge=3, description="tokens that texts are truncated to")
    source: Source
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    defaults: dict[str, str] = Field(description="format -> artifact to use on a CPU")
    files: dict[str, str] = Field(description="path inside the bundle -> SHA-256")

    def artifact(self, name: str | None) -> Artifact:
        """The artifact with this name; None means the default for LiteRT or else for ONNX.

        Raises:
            KdedgeError: the bundle has no such artifact.
        """
        if name is None:
            name = self.defaults.get("litert") or self.defaults["onnx"]
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        names = ", ".join(a.name for a in self.artifacts)
        raise KdedgeError(f"artifact: this bundle has no {name!r}. It has: {names}.")


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest without checking the other files.

    Raises:
        KdedgeError: the folder is no bundle or of another version, or the manifest is invalid.
    """
    path = bundle / MANIFEST
    if bundle.is_file():
        raise KdedgeError(f"{bundle}: a bundle's folder is needed here. Unpack it first.")
    if not path.is_file():
        inside = bundle / "bundle"
        raise KdedgeError(
            f"{bundle} is not a bundle: it has no {MANIFEST}. "
            + (
                f"Did you mean {inside}?"
                if (inside / MANIFEST).is_file()
                else "`kdedge export STUDENT_DIR --out BUNDLE_DIR` makes one."
            )
        )
    content = path.read_bytes()
    try:
        # Check the version first: a newer one may have other keys.
        head = _Head.model_validate_json(content)
        if head.format_version not in READABLE_VERSIONS:
            raise KdedgeError(
                f"{path}: format_version is {head.format_version} and this kdedge reads "
                f"{READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}. Install the kdedge that wrote "
                f"it ({head.kdedge})."
            )
        manifest = Manifest.model_validate(_upgraded(json.loads(content)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KdedgeError(f"{path}: {where}: {first['msg']}. Export the bundle again.") from None
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise KdedgeError(f"{path}: the file {name!r} would lie outside the bundle.")
    names = {artifact.name for artifact in manifest.artifacts}
    if not manifest.defaults or not names.issuperset(manifest.defaults.values()):
        raise KdedgeError(f"{path}: a default is not an artifact of this bundle. Export it again.")
    for artifact in manifest.artifacts:
        if artifact.file not in manifest.files:
            raise KdedgeError(f"{path}: {artifact.file} of {artifact.name} has no checksum.")
        check_format(artifact)
    return manifest


def _upgraded(stored: dict[str, Any]) -> dict[str, Any]:
    """Turn a manifest of an older version into one of this version."""
    if stored["format_version"] != 1:
        return stored | {"format_version": FORMAT_VERSION}

    def with_score(part: Any) -> Any:
        if not isinstance(part, dict) or not isinstance(part.get("accuracy"), dict):
            return part
        rest = {k: v for k, v in part.items() if k not in ("accuracy", "p50_ms")}
        return {**rest, "score": {"metric": "accuracy", **part["accuracy"]}}

    if "labels" in stored:
        stored = with_task(stored, "labels")
    changes = {"format_version": FORMAT_VERSION, "source": with_score(stored.get("source"))}
    if isinstance(stored.get("artifacts"), list):
        changes["artifacts"] = [with_score(artifact) for artifact in stored["artifacts"]]
    return stored | changes


def trusts_of(bundles: Sequence[Path]) -> dict[str, Trust]:
    """When to trust the answers of each bundle's default artifacts, by their names."""
    found, manifests = {}, [*map(read_manifest, bundles)]
    for manifest, prefix in zip(manifests, prefixes(bundles, manifests), strict=True):
        for artifact in map(manifest.artifact, manifest.defaults.values()):
            if artifact.trust:
                found[prefix + artifact.name] = artifact.trust
    return found


def prefixes(bundles: Sequence[Path], manifests: Sequence[Manifest]) -> list[str]:
    """What tells the artifacts of several bundles apart: the models' names, or the folders'."""
    if len(bundles) == 1:
        return [""]
    names = [manifest.source.name for manifest in manifests]
    if len({*names}) < len(names):
        names = [bundle.resolve().name for bundle in bundles]
    return [f"{name}/" for name in names]


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Write `manifest.json` and its checksum, after all other files."""
    (bundle / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_checksums(bundle, [MANIFEST])


def samples_beside(bundle: Path) -> Path:
    """The file beside a bundle in which `kdedge export` keeps texts to measure it with."""
    bundle = bundle.resolve()
    return bundle.with_name(f"{bundle.name}_{SAMPLE_TEXTS}")


def verify(bundle: Path) -> Manifest:
    """Read a bundle's manifest, and check the SHA-256 of all files and that they belong together.

    Raises:
        KdedgeError: see `read_manifest`; or a file is missing, changed or from another bundle.
    """
    manifest = verify_files(bundle)
    check_fit(bundle, manifest)
    return manifest


def verify_files(bundle: Path) -> Manifest:
    """Read a bundle's manifest, and check the SHA-256 of it and of each file.

    Raises:
        KdedgeError: see `read_manifest`; or a file is missing or has changed.
    """
    manifest = read_manifest(bundle)
    verify_checksums(bundle, [MANIFEST], "Copy the bundle again or export it again.")
    for name, expected in manifest.files.items():
        path = bundle / name
        if not path.is_file():
            raise KdedgeError(f"{path} is missing. Copy the bundle again or export it again.")
        if sha256(path) != expected:
            raise KdedgeError(
                f"{path} is not the file that was exported: its SHA-256 differs from the "
                f"manifest's. Copy the bundle again or export it again."
            )
    return manifest


def copy_bundle(bundle: Path, out: Path, artifacts: Collection[str] | None = None) -> Manifest:
    """Copy a bundle with some of its artifacts into the new folder `out`.

    Args:
        bundle: a folder, or a zip archive of it.
        out: the new folder; the copy is not signed.
        artifacts: names of the artifacts to copy; None for the default of each format.

    Raises:
        KdedgeError: see `verify`; or the bundle has no such artifact, one is named twice, or `out`
            exists.
    """
    with opened(bundle) as folder:
        manifest = verify(folder)
        names = [*(manifest.defaults.values() if artifacts is None else artifacts)]
        chosen = tuple(manifest.artifact(name) for name in names)
        if not chosen or len({*names}) < len(names):
            there = ", ".join(artifact.name for artifact in manifest.artifacts)
            raise KdedgeError(
                f"artifacts: {listed(names)}. Name at least one of {there}, each once."
            )
        dropped = {a.file for a in manifest.artifacts} - {a.file for a in chosen}
        defaults = {
            name: default if default in names else next(a.name for a in chosen if a.format == name)
            for name, default in manifest.defaults.items()
            if any(a.format == name for a in chosen)
        }
        part = manifest.model_copy(
            update={
                "artifacts": chosen,
                "defaults": defaults,
                "files": {k: v for k, v in manifest.files.items() if k not in dropped},
            }
        )
        with new_folder(out) as copy:
            for name in part.files:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, copy / name)
            write_manifest(copy, part)
    return part


@contextmanager
def opened(bundle: Path) -> Iterator[Path]:
    """The folder of a bundle; a zip archive is unpacked into a temporary folder.

    Raises:
        KdedgeError: not a zip archive, or one that is damaged, has links or files outside its
            folder, or would take more than 2 GB.
    """
    if not bundle.is_file():
        yield bundle
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(bundle) as archive:
                _unpack(archive, bundle, Path(folder))
        except (*DAMAGED_ZIP, OSError) as error:
            # EINVAL: an entry before the start of the file. Other errors, such as a full disk,
            # are not the fault of the archive.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise KdedgeError(
                f"{bundle}: neither a bundle's folder nor a complete zip archive of it ({error})."
            ) from None
        unpacked = Path(folder)
        # macOS adds a folder of its own.
        inside = [path for path in unpacked.iterdir() if path.name != "__MACOSX"]
        try:
            # Programs that pack a folder often pack the folder itself.
            yield inside[0] if len(inside) == 1 and inside[0].is_dir() else unpacked
        except KdedgeError as error:
            raise KdedgeError(str(error).replace(folder, str(bundle))) from None


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path) -> None:
    entries = archive.infolist()
    for entry in entries:
        is_link = entry.external_attr >> 16 & 0o170000 == 0o120000
        name = Path(entry.filename)
        if is_link or name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
            raise KdedgeError(f"{path}: {entry.filename!r} would lie outside the bundle.")
    if (size := sum(entry.file_size for entry in entries)) > MAX_ZIP_BYTES:
        raise KdedgeError(
            f"{path}: {size / 1e9:.1f} GB unpacked; at most {MAX_ZIP_BYTES / 1e9:.0f} GB are "
            "unpacked. Unpack it yourself and name the folder."
        )
    archive.extractall(folder)

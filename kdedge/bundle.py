"""The bundle: a folder that holds everything an app needs, and the proof that it is whole.

manifest.json           versions, SHA-256 of each file, parity and accuracy of each model
tokenizer.json          Hugging Face tokenizers' file
tokenizer_config.json, config.json, vocab.txt, labels.txt
litert/*.tflite         int32 [1, length] ids, mask, segment_ids -> float32 [1, classes] probabilities
onnx/*.onnx             int64 [batch, length] input_ids, attention_mask, token_type_ids
                        -> float32 [batch, classes] logits
"""  # noqa: E501

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdedge.errors import KdedgeError
from kdedge.files import sha256

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parity(_Frozen):
    """How far an artifact's probabilities are from its source's, over real texts."""

    texts: int = Field(ge=1)
    max_difference: float
    mean_difference: float
    agreement: float = Field(ge=0, le=1, description="share of texts with the same label")


class Accuracy(_Frozen):
    """Share of `texts` test texts that got their true label."""

    texts: int = Field(ge=1)
    value: float = Field(ge=0, le=1)


class SparedLayer(_Frozen):
    """A layer that was not quantized as the others, since that did too much harm."""

    name: str = Field(description="its name scope, or its node, in the file")
    kept_as: str = Field(description="float32, int8")
    error_before: float = Field(description="mean |probability difference| on calibration texts")
    error_after: float


class Artifact(_Frozen):
    """One model file of a bundle."""

    name: str = Field(description="for instance litert-int8")
    file: str = Field(description="path inside the bundle")
    format: Literal["litert", "onnx"]
    quantization: str = Field(description="float32, int8, ...")
    length: int | None = Field(description="tokens; None where any length will do")
    bytes: int
    gzip_bytes: int = Field(description="what a download of it takes, gzip -9")
    spared: tuple[SparedLayer, ...] = ()
    p50_ms: float = Field(description="one text, one thread, where it was exported; for defaults")
    parity: Parity
    accuracy: Accuracy


class Source(_Frozen):
    """The Keras model that the artifacts were converted from."""

    name: str = Field(description="a student's preset, or teacher")
    parameters: int
    accuracy: Accuracy


class _Head(BaseModel):
    """What a manifest of any version says."""

    format_version: int
    kdedge: str = Field(description="version of kdedge that wrote the bundle")


class Manifest(_Frozen, _Head):
    """What `manifest.json` says."""

    labels: tuple[str, ...] = Field(min_length=2)
    max_length: int = Field(ge=3, description="tokens that a text is cut to")
    source: Source
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    defaults: dict[str, str] = Field(description="format -> artifact to use on a CPU")
    files: dict[str, str] = Field(description="path inside the bundle -> SHA-256")

    def artifact(self, name: str | None) -> Artifact:
        """The artifact of that name; for None LiteRT's default, or else ONNX's.

        Raises:
            KdedgeError: there is none of that name.
        """
        if name is None:
            name = self.defaults.get("litert") or self.defaults["onnx"]
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        names = ", ".join(a.name for a in self.artifacts)
        raise KdedgeError(f"artifact: this bundle has no {name!r}. It has: {names}.")


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest, without looking at the other files.

    Raises:
        KdedgeError: no bundle, not this version's, or not as a manifest should be.
    """
    path = bundle / MANIFEST
    if not path.is_file():
        raise KdedgeError(
            f"{bundle} is no bundle: it has no {MANIFEST}. "
            "`kdedge export STUDENT_DIR --out BUNDLE_DIR` makes one."
        )
    content = path.read_bytes()
    try:
        # First, for a newer version may have other keys.
        head = _Head.model_validate_json(content)
        if head.format_version != FORMAT_VERSION:
            raise KdedgeError(
                f"{path}: format_version is {head.format_version} and this kdedge reads "
                f"{FORMAT_VERSION}. Install the kdedge that wrote it ({head.kdedge})."
            )
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KdedgeError(f"{path}: {where}: {first['msg']}. Export the bundle anew.") from None
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise KdedgeError(f"{path}: the file {name!r} would lie outside the bundle.")
    names = {artifact.name for artifact in manifest.artifacts}
    if not manifest.defaults or not names.issuperset(manifest.defaults.values()):
        raise KdedgeError(f"{path}: defaults name no artifact of this bundle. Export it anew.")
    for artifact in manifest.artifacts:
        if artifact.file not in manifest.files:
            raise KdedgeError(f"{path}: {artifact.file} of {artifact.name} has no checksum.")
    return manifest


def verify(bundle: Path) -> Manifest:
    """Read a bundle's manifest and compare each file with its SHA-256.

    Raises:
        KdedgeError: as `read_manifest`, or a file is missing or was changed.
    """
    manifest = read_manifest(bundle)
    for name, expected in manifest.files.items():
        path = bundle / name
        if not path.is_file():
            raise KdedgeError(f"{path} is missing. Copy the bundle again or export it anew.")
        if sha256(path) != expected:
            raise KdedgeError(
                f"{path} is not the file that was exported: its SHA-256 differs from the "
                f"manifest's. Copy the bundle again or export it anew."
            )
    return manifest

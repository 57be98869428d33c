"""Checks that the files of a bundle belong together.

A file can match its checksum and still be from another bundle. Checks that need a runtime are in
`kdedge.runtime.load_bundle`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdedge.engines import ENGINES
from kdedge.errors import KdedgeError
from kdedge.text.encoder import VOCABULARY, TextEncoder

if TYPE_CHECKING:
    from kdedge.bundle.manifest import Artifact, Manifest

LABELS, CONFIG = "labels.txt", "config.json"
# The bytes 4 to 7 of a .tflite file; .onnx files have no such mark.
LITERT_MARK = b"TFL3"
REMEDY = "Export the bundle again."


def check_format(artifact: "Artifact") -> None:
    """Check that an artifact's format, file name and length are consistent.

    Raises:
        KdedgeError: they are not.
    """
    suffix = ENGINES[artifact.format].suffix
    if not artifact.file.endswith(suffix):
        raise KdedgeError(
            f"{artifact.name} is {artifact.format}, whose files end in {suffix}, but its file is "
            f"{artifact.file}. {REMEDY}"
        )
    if (artifact.length is None) != (artifact.format == "onnx"):
        raise KdedgeError(
            f"{artifact.name}: length is {artifact.length}; LiteRT files have a length, ONNX files "
            f"have none. {REMEDY}"
        )


def check_fit(bundle: Path, manifest: "Manifest") -> tuple[TextEncoder, int]:
    """Check that the files in a bundle's folder belong together.

    Returns:
        The bundle's encoder and its highest token id, which both take long to find.

    Raises:
        KdedgeError: two of them contradict each other, or the tokenizer is damaged.
    """
    for artifact in manifest.artifacts:
        with (bundle / artifact.file).open("rb") as file:
            is_litert = file.read(8)[4:] == LITERT_MARK
        if is_litert != (artifact.format == "litert"):
            raise KdedgeError(
                f"{bundle / artifact.file} of {artifact.name} is {'' if is_litert else 'not '}a "
                f"LiteRT file. {REMEDY}"
            )
    encoder = TextEncoder.load(bundle)
    if encoder.max_length != manifest.max_length:
        raise KdedgeError(
            f"{bundle}: max_length is {encoder.max_length} in encoder.json, but "
            f"{manifest.max_length} in the manifest. {REMEDY}"
        )
    names, vocabulary = manifest.task.output_names, encoder.vocabulary
    _check_lines(bundle, manifest, LABELS, names, "labels", "the manifest")
    _check_lines(bundle, manifest, VOCABULARY, vocabulary, "tokens", "tokenizer.json")
    expected = manifest.task.config()
    if CONFIG in manifest.files and "id2label" in expected:
        path = bundle / CONFIG
        try:
            config = json.loads(path.read_bytes())
            stored_labels, kind = config["id2label"], config.get("problem_type")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise KdedgeError(f"{path}: can't read id2label ({error!r}). {REMEDY}") from None
        if stored_labels != expected["id2label"]:
            raise KdedgeError(f"{path}: id2label has other labels than the manifest. {REMEDY}")
        if kind != expected.get("problem_type"):
            raise KdedgeError(
                f"{path}: problem_type is {kind!r}, and the manifest's task is "
                f"{manifest.task.name}. {REMEDY}"
            )
    return encoder, encoder.id_of(vocabulary[-1])


def _check_lines(
    bundle: Path, manifest: "Manifest", name: str, expected: Sequence[str], what: str, source: str
) -> None:
    """Check that a file has the lines `expected`, if the bundle has the file."""
    lines = "\n".join([*expected, ""]).encode(errors="replace")
    if name in manifest.files and (bundle / name).read_bytes() != lines:
        raise KdedgeError(f"{bundle / name} has other {what} than {source}. {REMEDY}")

"""Converts a student, or any Keras classifier, to a bundle of checked ONNX files.

    python -m converters.to_onnx runs/movie_reviews/student --out bundle --quantization int8
    python -m converters.to_onnx model.keras --tokenizer bert --data texts.csv --out bundle

Your own classifier must take a dictionary of int32 [batch, length] ids, mask and segment_ids, and
return logits in the sorted order of the data's labels.
"""

from pathlib import Path
from typing import Annotated

import typer

from kdedge import export_bundle, load_subject
from kdedge.errors import errors_as_lines
from kdedge.recipe import Export, settings_of


@errors_as_lines()
def main(
    model: Annotated[Path, typer.Argument(help="a student's folder or a .keras file")],
    out: Annotated[Path, typer.Option(help="the bundle to make")],
    quantization: Annotated[
        str, typer.Option(help="float32, float16, int8, int8-static, separated by commas")
    ] = "float32,int8",
    max_accuracy_drop: Annotated[float, typer.Option(help="points of accuracy it may lose")] = 0.5,
    data: Annotated[Path | None, typer.Option(help="for a .keras file: labelled texts")] = None,
    split: Annotated[str | None, typer.Option(help="column with train, valid, test")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="folder or hub id of a BERT, for a .keras file")
    ] = None,
    max_length: Annotated[
        int, typer.Option(help="tokens that texts are truncated to, for a .keras file")
    ] = 64,
) -> None:
    """Convert a classifier to ONNX, and check each file on real texts."""
    subject = load_subject(model, data, split, tokenizer, max_length)
    settings = settings_of(
        Export,
        artifacts=[f"onnx-{name}" for name in quantization.split(",")],
        lengths=[subject.encoder.max_length],
        max_accuracy_drop=max_accuracy_drop,
    )
    manifest = export_bundle(subject, settings, out)
    for artifact in manifest.artifacts:
        typer.echo(f"{out}/{artifact.summary()}")


if __name__ == "__main__":
    typer.run(main)

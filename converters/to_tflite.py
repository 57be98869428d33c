"""Converts a student, or any Keras classifier, to a bundle of checked TFLite (LiteRT) files.

    python -m converters.to_tflite runs/movie_reviews/student --out bundle --quantization int8,int4
    python -m converters.to_tflite model.keras --tokenizer bert --data texts.csv --out bundle

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
        str,
        typer.Option(
            help="float32, float16, int8, int8-lengths, int8-weights, int8-full, int16x8, int4, "
            "by commas"
        ),
    ] = "float32,int8",
    lengths: Annotated[
        str | None,
        typer.Option(
            help="tokens, by commas; several for int8-lengths; default: the student's, or at most "
            "64 for a .keras file"
        ),
    ] = None,
    integer_output: Annotated[bool, typer.Option(help="integer probabilities")] = False,
    max_accuracy_drop: Annotated[float, typer.Option(help="points of accuracy it may lose")] = 0.5,
    data: Annotated[Path | None, typer.Option(help="for a .keras file: labelled texts")] = None,
    split: Annotated[str | None, typer.Option(help="column with train, valid, test")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="folder or hub id of a BERT, for a .keras file")
    ] = None,
) -> None:
    """Convert a classifier to TFLite, and check each file on real texts."""
    settings = settings_of(
        Export,
        artifacts=[f"litert-{name}" for name in quantization.split(",")],
        lengths=lengths.split(",") if lengths else None,
        integer_output=integer_output,
        max_accuracy_drop=max_accuracy_drop,
    )
    subject = load_subject(model, data, split, tokenizer, max(settings.lengths or (64,)))
    manifest = export_bundle(subject, settings, out)
    for artifact in manifest.artifacts:
        typer.echo(f"{out}/{artifact.summary()}")


if __name__ == "__main__":
    typer.run(main)

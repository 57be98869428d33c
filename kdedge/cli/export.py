"""The commands export, inspect, sign and verify."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kdedge.cli.common import Bundle, Out, load_tensorflow, say
from kdedge.cli.settings import Options, settings_as_options
from kdedge.recipe import Decide, Export


@settings_as_options
def export(
    student: Annotated[Path, typer.Argument(metavar="STUDENT_DIR")],
    out: Out,
    settings: Annotated[
        Export,
        Options(
            main=("artifacts", "lengths", "max_accuracy_drop", "integer_output", "sample_texts"),
            without=("teacher_artifacts",),
        ),
    ],
    decide: Annotated[Decide, Options(main=("precision", "coverage"))],
    out_of_scope: Annotated[
        Path | None,
        typer.Option("--out-of-scope", help="file of texts that no label fits"),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help="texts to find the ranges of activations with, for the fully quantized models; "
            "default: the valid split",
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples",
            help="file of texts to put into the bundle, to measure with in an app; default: none",
        ),
    ] = None,
) -> None:
    """Convert a student to TFLite and ONNX, and check each file."""
    load_tensorflow()
    from kdedge.export.stage import export_bundle
    from kdedge.export.subject import subject_of
    from kdedge.files import locked
    from kdedge.students.trained import Student
    from kdedge.text.readers import read_texts

    subject = subject_of(Student.load(student))
    pair = "text_pair" if subject.has_pairs else None
    if calibration:
        subject = replace(subject, calibration=tuple(read_texts(calibration, pair=pair)))
    if samples:
        subject = replace(subject, samples=tuple(read_texts(samples, pair=pair)))
    if out_of_scope:
        subject = replace(subject, out_of_scope=tuple(read_texts(out_of_scope, pair=pair)))
    with locked(out):
        export_bundle(subject, settings, out, decide)
    inspect(out)


def inspect(bundle: Bundle) -> None:
    """Show what is in a bundle, and check the checksum of every file."""
    from rich.console import Console
    from rich.table import Table

    from kdedge.bundle.manifest import opened
    from kdedge.bundle.manifest import verify as verify_bundle
    from kdedge.tasks import format_metric

    with opened(bundle) as folder:
        manifest = verify_bundle(folder)
    source = manifest.source
    table = Table(title=f"{bundle}: {source.name}, {source.parameters / 1e6:.2f} M parameters")
    for column in ("artifact", "size, MB", source.score.metric, "max |difference|", "agreement, %"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    table.add_row("(Keras)", "", format_metric(source.score.metric, source.score.value), "", "")
    for a in manifest.artifacts:
        table.add_row(
            a.name,
            f"{a.bytes / 1e6:.2f}",
            format_metric(a.score.metric, a.score.value),
            f"{a.parity.max_difference:.1e}",
            f"{100 * a.parity.agreement:.2f}",
        )
    # A label such as [good] is no markup.
    console = Console(soft_wrap=True, markup=False)
    console.print(table)
    console.print(
        f"{manifest.task.name}: {manifest.task}; at most {manifest.max_length} tokens; "
        f"{source.score.texts} test texts; all {len(manifest.files)} files are as exported.\n"
        "Difference, agreement: outputs and answers of the file and of the Keras model.\n"
        f"Default: {' and '.join(manifest.defaults.values())}."
    )


def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE_DIR")],
    key: Annotated[Path, typer.Option("--key", help="private key for P-256, PEM file")],
) -> None:
    """Sign a bundle, so that an app can refuse bundles of others."""
    from kdedge.bundle.signing import sign_bundle

    say(f"{sign_bundle(bundle, key)}: signature written.")


def verify(
    bundle: Bundle,
    public_key: Annotated[
        Path, typer.Option("--public-key", help="public key of the signer, PEM file")
    ],
) -> None:
    """Check that a bundle is complete and signed with a certain key."""
    from kdedge.bundle.signing import verify_signature

    verify_signature(bundle, public_key)
    say(f"{bundle}: signed by the owner of {public_key}, and unchanged since.")

"""The commands package android, package web and package check."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from kdedge.cli.common import Bundle
from kdedge.cli.settings import split_list

app = typer.Typer(
    no_args_is_help=True, help="Put a bundle into an Android app or on a web page; check an app."
)


@app.command()
def android(
    bundle: Bundle,
    out: Annotated[
        Path, typer.Option("--out", help="folder to make; a bundle there is replaced")
    ] = Path("app/src/main/assets/bundle"),
    artifacts: Annotated[
        str | None,
        typer.Option(
            "--artifacts",
            help="models, for instance litert-int8; default: the default of each format",
        ),
    ] = None,
) -> None:
    """Copy a verified bundle, with the models that the app needs, into an Android app's assets."""
    from kdedge.bundle.package import package_android

    names = split_list("--artifacts", artifacts) if artifacts else None
    typer.echo(package_android(bundle, out, names))


@app.command()
def web(
    bundle: Bundle,
    out: Annotated[Path, typer.Option("--out", help="folder to make")],
    node_modules: Annotated[
        Path | None,
        typer.Option(
            "--node-modules",
            help="npm's folder with LiteRT.js; default: that of the current folder, or of "
            "web_demo in a checkout",
        ),
    ] = None,
) -> None:
    """Make a folder with a page that runs a bundle in the browser, for any file server."""
    from kdedge.bundle.package import package_web

    package_web(bundle, out, node_modules)
    typer.echo(f"{out} is ready: python -m http.server --directory {shlex.quote(str(out))}")


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(metavar="APK", help="APK, AAB, AAR, .so file or folder of .so files")
    ],
) -> None:
    """Check that an app's native libraries run with 16 KB pages, which Google Play requires."""
    from kdedge.bundle.page_size import page_sizes

    libraries = page_sizes(path)
    for library in libraries:
        typer.echo(f"{library.name}: {library.problem or ('32-bit' if library.exempt else 'ok')}")
    bad = sum(bool(library.problem) for library in libraries)
    typer.echo(f"{path}: {bad} of {len(libraries)} native libraries can't run with pages of 16 KB")
    raise typer.Exit(bad > 0)

"""Commands that put a bundle into an app: package android, package web."""

from pathlib import Path
from typing import Annotated

import typer

from kdedge.cli.common import Bundle

app = typer.Typer(no_args_is_help=True, help="Put a bundle into an app or on a page.")


@app.command()
def android(
    bundle: Bundle,
    out: Annotated[Path, typer.Option("--out", help="folder to fill, or to fill anew")] = Path(
        "app/src/main/assets/bundle"
    ),
    artifacts: Annotated[
        str | None,
        typer.Option("--artifacts", help="names, as litert-int8; default: each runtime's default"),
    ] = None,
) -> None:
    """Fill the assets of an Android app: the bundle, verified, with the models that it runs."""
    from kdedge.bundle.package import package_android

    typer.echo(package_android(bundle, out, artifacts.split(",") if artifacts else None))


@app.command()
def web(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE_DIR", help="folder that `kdedge export` wrote")
    ],
    out: Annotated[Path, typer.Option("--out", help="folder to make")],
    node_modules: Annotated[
        Path | None,
        typer.Option(
            "--node-modules",
            help="folder of that name with transformers.js, as npm makes it; default: the "
            "current folder's, in a checkout web_demo's",
        ),
    ] = None,
) -> None:
    """Make a folder with a page that runs a bundle in the browser, for any server of files."""
    from kdedge.bundle.package import package_web

    package_web(bundle, out, node_modules)
    typer.echo(f"{out} is ready: python -m http.server --directory {out}")

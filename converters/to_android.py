"""Copies a verified bundle, with the models that the app needs, into android_demo's assets.

    python -m converters.to_android runs/movie_reviews/bundle

android_demo takes any bundle. For your own app, `kdedge package android BUNDLE --out
app/src/main/assets/bundle` does the same.
"""

from pathlib import Path
from typing import Annotated

import typer

from kdedge import package_android
from kdedge.errors import errors_as_lines

ASSETS = Path(__file__).parent.parent / "android_demo" / "app" / "src" / "main" / "assets"


@errors_as_lines()
def main(
    bundle: Annotated[Path, typer.Argument(help="folder that `kdedge export` wrote, or its zip")],
    out: Annotated[Path, typer.Option(help="folder to fill")] = ASSETS / "bundle",
    artifacts: Annotated[
        str | None, typer.Option(help="separated by commas; default: the default of each format")
    ] = None,
) -> None:
    """Fill an app's assets with a bundle."""
    typer.echo(package_android(bundle, out, artifacts.split(",") if artifacts else None))


if __name__ == "__main__":
    typer.run(main)

"""Bundle -> the assets of an Android app, verified and cut down to what the app runs.

    python -m converters.to_android runs/movie_reviews/bundle

Writes the assets of android_demo, which hard-codes nothing of the model. For an app of your own,
`kdedge package android BUNDLE --out app/src/main/assets/bundle` does the same.
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
        str | None, typer.Option(help="names, by commas; without, each runtime's default")
    ] = None,
) -> None:
    """Fill an app's assets with a bundle."""
    typer.echo(package_android(bundle, out, artifacts.split(",") if artifacts else None))


if __name__ == "__main__":
    typer.run(main)

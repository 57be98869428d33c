"""Makes a folder with a page that runs a bundle in the browser, for any file server.

    python -m converters.to_web runs/movie_reviews/bundle --out site
    python -m http.server --directory site

`kdedge package web` does the same without a checkout.
"""

from pathlib import Path
from typing import Annotated

import typer

from kdedge import package_web
from kdedge.errors import errors_as_lines


@errors_as_lines()
def main(
    bundle: Annotated[Path, typer.Argument(help="folder that `kdedge export` wrote")],
    out: Annotated[Path, typer.Option(help="folder to make")],
) -> None:
    """Make a folder with a page that runs a bundle in the browser."""
    package_web(bundle, out)
    typer.echo(f"{out} is ready: python -m http.server --directory {out}")


if __name__ == "__main__":
    typer.run(main)

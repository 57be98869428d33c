"""Bundle -> the assets of an Android app, verified and cut down to what the app runs.

    python -m converters.to_android runs/movie_reviews/bundle

Writes the assets of android_demo, which hard-codes nothing of the model; `--out` names another
app's: `app/src/main/assets/bundle`.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from kdedge import KdedgeError
from kdedge.bundle.manifest import MANIFEST, copy_bundle
from kdedge.cli import told_as_a_line

ASSETS = Path(__file__).parent.parent / "android_demo" / "app" / "src" / "main" / "assets"


def main(
    bundle: Annotated[Path, typer.Argument(help="folder that `kdedge export` wrote, or its zip")],
    out: Annotated[Path, typer.Option(help="folder to fill")] = ASSETS / "bundle",
    artifacts: Annotated[
        str | None, typer.Option(help="names, by commas; without, each runtime's default")
    ] = None,
) -> None:
    """Fill an app's assets with a bundle."""
    fresh = out.with_name(f".{out.name}.new")
    with told_as_a_line():
        if out.exists() and not (out / MANIFEST).is_file():
            raise KdedgeError(f"{out} is there and is no bundle. Remove it or name another folder.")
        shutil.rmtree(fresh, ignore_errors=True)
        manifest = copy_bundle(bundle, fresh, artifacts.split(",") if artifacts else None)
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    names = ", ".join(artifact.name for artifact in manifest.artifacts)
    typer.echo(f"{out}: {names}; {size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)

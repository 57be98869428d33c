"""Bundle -> folder with a page that runs it in the browser, for any static web server.

    python -m converters.to_web runs/movie_reviews/bundle --out site
    python -m http.server --directory site

The bundle's files go in as they are, under models/NAME/.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from kdedge import KdedgeError
from kdedge.bundle.manifest import MANIFEST, Manifest, verify
from kdedge.cli import told_as_a_line
from kdedge.files import CHECKSUMS, new_folder

WEB_DEMO = Path(__file__).parent.parent / "web_demo"
PAGE = ("index.html", "main.js", "classifier.js", "worker.js")
TRANSFORMERS = WEB_DEMO / "node_modules" / "@huggingface" / "transformers"
# The build without WebGPU: half the size, and a student needs no more.
ONNX_RUNTIME = TRANSFORMERS / "node_modules" / "onnxruntime-web" / "dist"
RUNTIME = (
    TRANSFORMERS / "dist" / "transformers.web.min.js",
    ONNX_RUNTIME / "ort.wasm.min.mjs",
    ONNX_RUNTIME / "ort-wasm-simd-threaded.mjs",
    ONNX_RUNTIME / "ort-wasm-simd-threaded.wasm",
)
# What transformers.js calls the artifacts it can run, the smallest download first.
DTYPES = {"onnx-int8": "q8", "onnx-float32": "fp32"}


def to_web(bundle: Path, out: Path) -> None:
    """Write a page with a bundle and all that it needs at run time into the new folder `out`.

    Raises:
        KdedgeError: not a whole bundle, one that the page cannot run, `out` exists, or the
            JavaScript packages are not installed.
    """
    manifest = verify(bundle)
    name, dtype = _name(bundle), _dtype(bundle, manifest)
    for file in RUNTIME:
        if not file.is_file():
            raise KdedgeError(
                f"{file} is missing. Install the page's packages: npm ci --prefix web_demo"
            )
    with new_folder(out) as site:
        copies = {site / file: WEB_DEMO / file for file in PAGE}
        copies |= {site / "runtime" / file.name: file for file in RUNTIME}
        for part in (MANIFEST, CHECKSUMS, *manifest.files):
            copies[site / "models" / name / part] = bundle / part
        for target, source in copies.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        index = json.dumps({"model": name, "dtype": dtype}) + "\n"
        (site / "models" / "index.json").write_text(index, encoding="utf-8")


def _name(bundle: Path) -> str:
    name = bundle.resolve().name
    # transformers.js takes nothing else for the name of a model.
    if not re.fullmatch("[A-Za-z0-9]+([._-][A-Za-z0-9]+)*", name):
        raise KdedgeError(
            f"bundle: its folder is called {name!r}, and the page needs letters and digits, with "
            f"single '.', '_' or '-' between them. Rename it: mv {bundle} bundle"
        )
    return name


def _dtype(bundle: Path, manifest: Manifest) -> str:
    names = [artifact.name for artifact in manifest.artifacts]
    for name, dtype in DTYPES.items():
        if name in names:
            return dtype
    raise KdedgeError(
        f"{bundle}: the page runs {' or '.join(DTYPES)}, and this bundle has {', '.join(names)}. "
        "Add one to `artifacts` of the recipe's [export] and export it anew."
    )


def main(
    bundle: Annotated[Path, typer.Argument(help="Folder that `kdedge export` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
) -> None:
    """Make a folder with a page that runs a bundle in the browser."""
    with told_as_a_line():
        to_web(bundle, out)
    typer.echo(f"{out} is ready: python -m http.server --directory {out}")


if __name__ == "__main__":
    typer.run(main)

"""A bundle in an app: the assets of an Android app, and a page that runs it in the browser."""

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from kdedge.bundle.manifest import MANIFEST, Manifest, copy_bundle, verify
from kdedge.errors import KdedgeError
from kdedge.files import CHECKSUMS, new_folder

PAGE = ("index.html", "main.js", "classifier.js", "worker.js")
# The wheel has the page beside this file, a checkout has it as web_demo.
WEB_PAGE = Path(__file__).parent / "web_page"
WEB_DEMO = Path(__file__).parents[2] / "web_demo"
TRANSFORMERS = "@huggingface/transformers"
# The build without WebGPU: half the size, and a student needs no more.
ONNX_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# What transformers.js calls the artifacts it can run, the smallest download first.
DTYPES = {"onnx-int8": "q8", "onnx-float32": "fp32"}


def package_android(bundle: Path, out: Path, artifacts: Collection[str] | None = None) -> str:
    """Put a bundle, verified and cut down to what the app runs, into an Android app's assets.

    Args:
        bundle: a folder or a zip archive of one.
        out: folder to make; a bundle that is there already is replaced.
        artifacts: names; None for the default of each runtime.

    Returns:
        A line that says what is there now.

    Raises:
        KdedgeError: not a whole bundle, an artifact that it has not, or `out` is something else.
    """
    if out.exists() and not (out / MANIFEST).is_file():
        raise KdedgeError(f"{out} is there and is no bundle. Remove it or name another folder.")
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    manifest = copy_bundle(bundle, fresh, artifacts)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    names = ", ".join(artifact.name for artifact in manifest.artifacts)
    return f"{out}: {names}; {size / 1e6:.2f} MB"


def package_web(bundle: Path, out: Path, node_modules: Path | None = None) -> None:
    """Make a folder with a page that runs a bundle in the browser, for any server of files.

    The bundle's files go in as they are, under models/NAME/.

    Args:
        bundle: a folder.
        out: folder to make.
        node_modules: npm's folder with transformers.js; None for that of web_demo in a checkout,
            and otherwise the one in the current folder.

    Raises:
        KdedgeError: not a whole bundle, one that the page cannot run, `out` exists, or the
            JavaScript packages are not installed.
    """
    manifest = verify(bundle)
    name, dtype = _name(bundle), _dtype(bundle, manifest)
    page = WEB_PAGE if WEB_PAGE.is_dir() else WEB_DEMO
    copies = {file: page / file for file in PAGE}
    copies |= {f"runtime/{file.name}": file for file in _runtime(node_modules, page)}
    for part in (MANIFEST, CHECKSUMS, *manifest.files):
        copies[f"models/{name}/{part}"] = bundle / part
    with new_folder(out) as site:
        for target, source in copies.items():
            (site / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, site / target)
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


def _runtime(node_modules: Path | None, page: Path) -> list[Path]:
    """The files of transformers.js and of the ONNX Runtime that it comes with."""
    folder = node_modules or (page if page == WEB_DEMO else Path()) / "node_modules"
    transformers = folder / TRANSFORMERS
    # npm puts it beside transformers.js, unless another version is there.
    own = transformers / "node_modules" / "onnxruntime-web"
    onnx_runtime = own if own.is_dir() else folder / "onnxruntime-web"
    files = [transformers / "dist" / "transformers.web.min.js"]
    files += [onnx_runtime / "dist" / file for file in ONNX_RUNTIME]
    for file in files:
        if not file.is_file():
            raise KdedgeError(f"{file} is missing. Install the page's packages: {_npm(page)}")
    return files


def _npm(page: Path) -> str:
    if page == WEB_DEMO:
        return "npm ci --prefix web_demo"
    version = json.loads((page / "package.json").read_text())["dependencies"][TRANSFORMERS]
    return f"npm install --ignore-scripts --prefix . {TRANSFORMERS}@{version}"

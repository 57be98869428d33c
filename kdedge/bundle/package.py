"""Packs a bundle for an app: as assets of an Android app, or as a page for the browser."""

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from kdedge.bundle.manifest import MANIFEST, SAMPLE_TEXTS, Manifest, copy_bundle, verify
from kdedge.errors import KdedgeError
from kdedge.files import CHECKSUMS, new_folder

SCRIPTS = ("main.js", "classifier.js", "familiarity.js", "tasks.js", "words.js", "worker.js")
PAGE = ("index.html", *SCRIPTS)
# The page is beside this file in the wheel, and in web_demo in a checkout.
WEB_PAGE = Path(__file__).parent / "web_page"
WEB_DEMO = Path(__file__).parents[2] / "web_demo"
TRANSFORMERS = "@huggingface/transformers"
# The build without WebGPU, which students don't need: it has half the size.
ONNX_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# The artifacts that transformers.js can run, with its names for them; the smallest first.
DTYPES = {"onnx-int8": "q8", "onnx-float32": "fp32"}


def package_android(bundle: Path, out: Path, artifacts: Collection[str] | None = None) -> str:
    """Verify a bundle and copy it with some of its models into an Android app's assets.

        >>> package_android(Path("bundle"), Path("assets"), ["litert-int8"]).split(";")[0]
        'assets: litert-int8'

    Args:
        bundle: a folder, or a zip archive of it.
        out: folder to make; a bundle that is there is replaced.
        artifacts: names of the models; None for the default of each format.

    Returns:
        A line for the user: folder, models, size.

    Raises:
        KdedgeError: the bundle is damaged or has no such artifact, or `out` exists and is not a
            bundle.
    """
    if out.exists() and not (out / MANIFEST).is_file():
        raise KdedgeError(f"{out} exists and is not a bundle. Remove it or name another folder.")
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    manifest = copy_bundle(bundle, fresh, artifacts)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    names = ", ".join(artifact.name for artifact in manifest.artifacts)
    return f"{out}: {names}; {size / 1e6:.2f} MB"


def package_web(bundle: Path, out: Path, node_modules: Path | None = None) -> None:
    """Make a folder with a page that runs a bundle in the browser; any file server can serve it.

    The bundle's files are copied unchanged to models/NAME/. If the JavaScript packages are missing,
    the message says how to install them.

        >>> package_web(Path("bundle"), Path("site"), Path("nowhere"))
        Traceback (most recent call last):
            ...
        kdedge.errors.KdedgeError: nowhere/... is missing. Install the page's packages: npm ...

    Args:
        bundle: the bundle's folder.
        out: folder to write.
        node_modules: npm's folder with transformers.js; None for that of web_demo in a checkout,
            otherwise for the one in the current folder.

    Raises:
        KdedgeError: the bundle is damaged or has no model that the page can run, `out` exists, or
            the JavaScript packages are not installed.
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
        samples = SAMPLE_TEXTS in manifest.files
        index = json.dumps({"model": name, "dtype": dtype, "samples": samples}) + "\n"
        (site / "models" / "index.json").write_text(index, encoding="utf-8")


def _name(bundle: Path) -> str:
    name = bundle.resolve().name
    # transformers.js accepts no other names of models.
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
        "Add one to `artifacts` of the recipe's [export] and export it again."
    )


def _runtime(node_modules: Path | None, page: Path) -> list[Path]:
    """The files of transformers.js and of its ONNX Runtime."""
    folder = node_modules or (page if page == WEB_DEMO else Path()) / "node_modules"
    transformers = folder / TRANSFORMERS
    # npm installs it beside transformers.js, unless another version is there already.
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

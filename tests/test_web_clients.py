"""Browser clients load an unmodified bundle and give Python's answers, in a real browser.

transformers.js, ONNX Runtime Web and LiteRT.js; test_web_demo.py tests our own page.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browser_parts import installed_node_modules, playwright, served, watched
from client_parts import Record, record_client
from conftest import DATA
from test_docs import program_of

from kdedge import load_bundle, load_corpus
from kdedge.runtime import TextModel
from kdedge.tasks import Classification

TASK = Classification(label_names=("bad", "good"))

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

WITH_LOCAL_FILES = f"""
    const {{ env, pipeline }} = await import("@huggingface/transformers");
    env.allowRemoteModels = false;
    env.allowLocalModels = true;
    env.localModelPath = "/models/";
    env.useBrowserCache = false;
    env.backends.onnx.wasm.wasmPaths = "{ITS_RUNTIME}/";
"""
TRANSFORMERS_JS = (
    "async ([texts, dtype]) => {"
    + WITH_LOCAL_FILES
    + """
    const options = dtype ? { dtype } : {};
    const classifier = await pipeline("text-classification", "bundle", options);
    const outputs = [];
    for (const text of texts) outputs.push(await classifier(text, { top_k: null }));
    return outputs;
}"""
)
MODEL_CALL = (
    "async (texts) => {"
    + WITH_LOCAL_FILES
    + """
    const { logitsOf } = await import("/model_call.js");
    const outputs = [];
    for (const text of texts) outputs.push(await logitsOf(text));
    return outputs;
}"""
)
ONNX_RUNTIME_WEB = """async (rows) => {
    const { InferenceSession, Tensor } = await import("onnxruntime-web");
    const session = await InferenceSession.create("/models/bundle/onnx/model.onnx",
        { executionProviders: ["wasm"] });
    const tensor = (values) => new Tensor("int64", values.map(BigInt), [1, values.length]);
    const outputs = [];
    for (const ids of rows) {
        const { logits } = await session.run({
            input_ids: tensor(ids),
            attention_mask: tensor(ids.map(() => 1)),
            token_type_ids: tensor(ids.map(() => 0)),
        });
        outputs.push(Array.from(logits.data));
    }
    return outputs;
}"""
LITERT_JS = """async ([file, rows]) => {
    const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
    await loadLiteRt("/node_modules/@litertjs/core/wasm/");
    const model = await loadAndCompile("/models/bundle/" + file, { accelerator: "wasm" });
    const outputs = [];
    for (const row of rows) {
        const inputs = row.map((values) => new Tensor(new Int32Array(values), [1, values.length]));
        const [output] = await model.run(inputs);
        outputs.push(Array.from(output.toTypedArray()));
        for (const tensor of [...inputs, output]) tensor.delete();
    }
    return outputs;
}"""

TEXTS = load_corpus(DATA, split="split").test.texts
WITHIN = 1e-3


@pytest.fixture(scope="module")
def bundle(client_bundle: Path) -> Path:
    return client_bundle


@pytest.fixture(scope="module")
def texts(bundle: Path) -> list[str]:
    """The first 100 texts that are not truncated: only transformers.js drops their [SEP]."""
    encoder = load_bundle(bundle).encoder
    whole = [text for text in TEXTS if len(encoder.token_ids([text])[0]) < encoder.max_length]
    return whole[:100]


@pytest.fixture(scope="module")
def address(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a local server with a bundle beside node_modules."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(PAGE)
    (folder / "node_modules").symlink_to(installed_node_modules())
    (folder / "model_call.js").write_text(program_of("tasks.md", "js"))
    (folder / "models").mkdir()
    (folder / "models" / "bundle").symlink_to(bundle)
    with served(folder) as address:
        yield address


@pytest.fixture
def page(browser: "playwright.Browser", address: str) -> Iterator["playwright.Page"]:
    with watched(browser, address) as page:
        yield page


def assert_same(
    outputs: object,
    classifier: TextModel,
    texts: list[str],
    record: Callable[..., None],
    within: float = WITHIN,
) -> None:
    """Compare `outputs`, float [texts, classes], with Python's probabilities and labels."""
    expected = classifier.outputs(texts)
    # A model with one answer for all texts would prove nothing.
    assert len(set(expected.argmax(-1))) > 1 and np.ptp(expected[:, 0]) > 0.05
    theirs = np.asarray(outputs)
    record(theirs, expected)
    np.testing.assert_allclose(theirs, expected, rtol=0, atol=within)
    assert (theirs.argmax(-1) == expected.argmax(-1)).all()


def recorder(record: Record, package: str, runtime: str, artifact: str) -> Callable[..., None]:
    """A function that records this client with its outputs and Python's."""
    client = f"{package} {version(package)}"
    return partial(record_client, record, client, "JavaScript", runtime, artifact)


def version(package: str, within: str = "") -> str:
    """The version of an installed package."""
    folder = installed_node_modules() / within / package
    return str(json.loads((folder / "package.json").read_text())["version"])


# None stands for the default of transformers.js.
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
        answers = page.evaluate(TRANSFORMERS_JS, [texts, dtype])
    scores = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
    output = [[score[label] for label in classifier.manifest.task.output_names] for score in scores]
    runtime_version = version("onnxruntime-web", "@huggingface/transformers/node_modules")
    runtime = f"ONNX Runtime Web {runtime_version}, WebAssembly in Chromium"
    record = recorder(record_property, "@huggingface/transformers", runtime, artifact)
    assert_same(output, classifier, texts, record)


def test_the_model_call_of_the_docs(
    page: "playwright.Page", bundle: Path, texts: list[str]
) -> None:
    page.goto("/")
    output = TASK.outputs(np.asarray(page.evaluate(MODEL_CALL, texts)))
    assert_same(output, load_bundle(bundle, "onnx-int8"), texts, lambda *_: None)


def test_onnx_runtime_web(
    page: "playwright.Page", bundle: Path, texts: list[str], record_property: Record
) -> None:
    classifier = load_bundle(bundle, "onnx-float32")
    page.goto("/")
    logits = page.evaluate(ONNX_RUNTIME_WEB, classifier.encoder.token_ids(texts))
    output = TASK.outputs(np.asarray(logits))
    runtime = "the same, WebAssembly in Chromium"
    record = recorder(record_property, "onnxruntime-web", runtime, "onnx-float32")
    assert_same(output, classifier, texts, record)


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
    # If activations are rounded to 8 bits, each processor rounds in its own way.
    within = 2 * WITHIN if artifact == "litert-int8" else WITHIN
    output = page.evaluate(LITERT_JS, [file, rows])
    runtime = "LiteRT, WebAssembly in Chromium"
    record = recorder(record_property, "@litertjs/core", runtime, artifact)
    assert_same(output, classifier, texts, record, within)

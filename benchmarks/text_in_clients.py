"""The web page's time from text to answer, and Kotlin's time to tokenize, beside release 0.1.0.

    python benchmarks/text_in_clients.py --baseline ../kdedge-0.1.0

Needs a run whose bundle has LiteRT and ONNX int8 files; `make android-check` and `make web-check`
download the other parts. The baseline is the folder of a checkout of 0.1.0 (commit 9809e561b361).
Both releases get the same bundle: 0.1.0's page runs its ONNX file with transformers.js, the present
one its LiteRT file.
Each process measures one release, and they alternate. Texts are those of the test split; training
texts are answered before them.
"""

import json
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from android_demo.check import ANDROID, ONNX_JVM, STDLIB, TESTS, fetched, joined, kotlinc, run
from benchmarks.common import (
    ROOT,
    Figures,
    Setup,
    checkout,
    cli,
    existing,
    machine,
    read_command_line,
)
from benchmarks.text_to_answer import ratio
from kdedge.bench.devices.browser import ARGUMENTS, chromium
from kdedge.bench.report.model import three_digits
from kdedge.bench.report.tables import markdown
from kdedge.bundle.manifest import SAMPLE_TEXTS
from kdedge.bundle.package import package_web
from kdedge.files import write_text

RELEASE, NOW = "0.1.0", "now"
WARM_UP, MEASURED = 5000, 500
NODE_MODULES = ROOT / "web_demo" / "node_modules"
RUNTIME_OF_RELEASE = (
    "dist/transformers.web.min.js",
    "node_modules/onnxruntime-web/dist/ort.wasm.min.mjs",
    "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
)
PAGE_LIMIT_MS = 300_000
# Browsers' clocks are coarse.
TIMED_TOGETHER = 25
PAGE = "web page, text to answer, µs"
KOTLIN = "Kotlin on the JVM, tokenization, µs"
IN_PAGE = """async ([warmUp, measured, together]) => {
    const { classify } = await (await import("/classifier.js")).loadClassifier();
    for (const text of warmUp) await classify(text);
    const times = [];
    for (let first = 0; first < measured.length; first += together) {
        const start = performance.now();
        for (const text of measured.slice(first, first + together)) await classify(text);
        times.push((1000 * (performance.now() - start)) / together);
    }
    return times;
}"""
# The first rounds let the JVM compile.
IN_KOTLIN = """import java.io.File
import org.kdedge.WordPieceTokenizer

fun main(files: Array<String>) {
    val tokenizer = WordPieceTokenizer.parse(File(files[0]).readText())
    repeat(10) { for (text in File(files[1]).readLines()) tokenizer.ids(text, 64) }
    val times =
        File(files[2]).readLines().map { text ->
            val start = System.nanoTime()
            tokenizer.ids(text, 64)
            (System.nanoTime() - start) / 1000.0
        }
    times.forEach { println(it) }
}
"""
Texts = Mapping[str, Sequence[str]]


def main() -> None:
    """Build the page and the tokenizer of both releases, measure in turn, write the results."""
    default = str(ROOT / "runs" / "kdedge-0.1.0")
    setup, options = read_command_line("text_in_clients", __doc__, repeats=7, baseline=default)
    existing(NODE_MODULES, "npm ci --prefix web_demo")
    texts = texts_of(setup)
    times: dict[str, dict[str, list[float]]] = {
        what: {RELEASE: [], NOW: []} for what in (PAGE, KOTLIN)
    }
    with tempfile.TemporaryDirectory() as folder:
        sources = {RELEASE: checkout(options.baseline), NOW: ROOT}
        for name, source in sources.items():
            build(Path(folder) / name, source, setup.run_file("bundle"), texts)
        for number in range(options.repeats):
            # Rounds alternate in which release comes first.
            for name in [*sources][:: 1 if number % 2 else -1]:
                times[PAGE][name].append(page_us(Path(folder) / name, texts))
                times[KOTLIN][name].append(kotlin_us(Path(folder) / name))
    setup.keep(setup.about() | {"machine": machine(), "times": times}, page)


def texts_of(setup: Setup) -> Texts:
    """Texts by their use, each on one line."""
    corpus = setup.corpus()
    splits = {"warm_up": corpus.train.texts[:WARM_UP], "measured": corpus.test.texts[:MEASURED]}
    return {name: [" ".join(str(x).split()) for x in texts] for name, texts in splits.items()}


def build(out: Path, source: Path, bundle: Path, texts: Texts) -> None:
    """Make a folder with a release's page and its tokenizer, and the bundle for both."""
    if source == ROOT:
        package_web(bundle, out / "site", NODE_MODULES)
    else:
        package_release(bundle, out / "site", source / "web_demo", texts["warm_up"][0])
    for name, lines in texts.items():
        write_text(out / f"{name}.txt", "\n".join(lines))
    shutil.copy(bundle / "tokenizer.json", out)
    write_text(out / "Measure.kt", IN_KOTLIN)
    core = source / "android_demo" / "core" / "src" / "main" / "kotlin"
    kotlinc(out / "measure.jar", fetched((*ANDROID, *ONNX_JVM)), core, out / "Measure.kt")


def package_release(bundle: Path, out: Path, page: Path, first: str) -> None:
    """Make a folder with 0.1.0's page, which begins with the text `first`."""
    shutil.copytree(page, out, ignore=shutil.ignore_patterns("node_modules"))
    (out / "runtime").mkdir()
    for file in RUNTIME_OF_RELEASE:
        shutil.copy(NODE_MODULES / "@huggingface" / "transformers" / file, out / "runtime")
    shutil.copytree(bundle, out / "models" / bundle.name)
    write_text(out / "models" / bundle.name / SAMPLE_TEXTS, first)
    index = json.dumps({"model": bundle.name, "dtype": "q8"})
    write_text(out / "models" / "index.json", index)


def page_us(folder: Path, texts: Texts) -> float:
    """Median time from a text to its answer in a new browser."""
    from playwright.sync_api import sync_playwright

    arguments = [texts["warm_up"], texts["measured"], TIMED_TOGETHER]
    handler = partial(QuietHandler, directory=str(folder / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as play:
        Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        # The page's security policy would forbid the script of `wait_for_function`.
        tab = browser.new_page(bypass_csp=True)
        tab.goto(f"http://127.0.0.1:{server.server_port}")
        # Not awaited here: `evaluate` has no time limit, `wait_for_function` has one.
        tab.evaluate(
            f"(given) => {{ ({IN_PAGE})(given).then((us) => (window.us = us)); }}", arguments
        )
        # Checking disturbs the measurement: only once a second.
        measured = tab.wait_for_function("window.us", polling=1000, timeout=PAGE_LIMIT_MS)
        times: list[float] = measured.json_value()
        browser.close()
        server.shutdown()
    return statistics.median(times)


class QuietHandler(SimpleHTTPRequestHandler):
    """A handler that prints nothing."""

    def log_message(self, *_: object) -> None:
        """Do nothing."""


def kotlin_us(folder: Path) -> float:
    """Median time to tokenize a text in a new JVM."""
    class_path = joined(folder / "measure.jar", *fetched((*STDLIB, *TESTS)))
    files = (folder / name for name in ("tokenizer.json", "warm_up.txt", "measured.txt"))
    printed = run("java", "-cp", class_path, "MeasureKt", *files)
    return statistics.median(map(float, printed.split()))


def page(result: Figures) -> str:
    """The table as Markdown."""
    rows = []
    for what, by_release in result["times"].items():
        both = [by_release[RELEASE], by_release[NOW]]
        medians = [three_digits(statistics.median(times)) for times in both]
        rows.append((what, *medians, *ratio(*both)))
    head = ("", RELEASE, NOW, "times as fast", "95% interval")
    repeats = len(next(iter(result["times"].values()))[NOW])
    return (
        "# Answers on the web page and tokenization in Kotlin\n\n"
        f"{result['machine']}. Medians over {repeats} processes.\n\n{markdown(head, rows)}"
    )


if __name__ == "__main__":
    cli(main)

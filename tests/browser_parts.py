"""What the tests of browsers share: a server, node_modules, and a Chromium that is watched."""

import contextlib
import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
WEB_DEMO = ROOT / "web_demo"
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
# Answers of the page's classifier to texts or pairs.
CLASSIFY = """async (texts) => {
    const { loadClassifier } = await import("/classifier.js");
    const { classify } = await loadClassifier();
    const outputs = [];
    for (const text of texts) outputs.push(await classify(...[text].flat()));
    return outputs;
}"""


def installed_node_modules() -> Path:
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
        # Browsers give threads only to pages with these two headers.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of a local server of a folder's files."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def launched() -> Iterator["playwright.Browser"]:
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is missing: apt install chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)


@contextlib.contextmanager
def watched(browser: "playwright.Browser", address: str) -> Iterator["playwright.Page"]:
    """A page on the local server; console errors and requests to other servers fail the test."""
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

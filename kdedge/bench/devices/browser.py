"""A headless Chromium as a device, with ONNX Runtime Web and LiteRT.js in WebAssembly."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from kdedge.bench import agent
from kdedge.bench.devices.device import Device, DeviceLostError, Kind, MeasuredModel, hangs
from kdedge.bench.report.model import Value
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError

AGENT = Path(__file__).with_name("agent.mjs")
ROOT = Path(__file__).parents[3]
NODE_MODULES = ROOT / "web_demo" / "node_modules"
PACKAGES = {"ONNX Runtime Web": "onnxruntime-web", "LiteRT.js": "@litertjs/core"}
# The installed files of each package that a bundler would take.
IMPORTS = {
    "onnxruntime-web": "/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "@litertjs/core": "/node_modules/@litertjs/core/dist/index.js",
    "@litertjs/wasm-utils": "/node_modules/@litertjs/wasm-utils/dist/index.js",
}
PAGE = f"""<!doctype html><link rel="icon" href="data:,">
<script type="importmap">{json.dumps({"imports": IMPORTS})}</script>"""
ARGUMENTS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
# Time limit for everything but the measurement itself; then the browser is killed.
SPARE_SECONDS = 60


def chromium() -> str | None:
    """Path of the installed Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


class Browser(Device):
    """This machine's Chromium, with a new page for each artifact and repeat."""

    form = url = "browser"
    kinds = ("time", "outputs")
    runtimes = tuple(PACKAGES)

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._killed = False

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """The device, if the URL is `browser`."""
        return cls() if url == cls.url else None

    @classmethod
    def found(cls) -> list[str]:
        """`browser`, if Chromium is installed."""
        return [cls.url] if chromium() else []

    def open(self) -> None:
        """Start the server and the browser."""
        try:
            from playwright import sync_api
        except ImportError:
            raise KdedgeError(
                "playwright is not installed: pip install 'kdedge[devices]'"
            ) from None
        program = chromium()
        if program is None:
            raise KdedgeError("browser: Chromium is not installed: apt install chromium")
        if not NODE_MODULES.is_dir():
            raise KdedgeError(
                f"browser: {NODE_MODULES} is missing. In a checkout of kdedge: "
                "npm ci --prefix web_demo"
            )
        self._error, self._timeout = sync_api.Error, sync_api.TimeoutError
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        root = self._root = Path(self._stack.enter_context(folder))
        (root / "index.html").write_text(PAGE)
        (root / "agent.mjs").write_bytes(AGENT.read_bytes())
        (root / "node_modules").symlink_to(NODE_MODULES)
        handler = functools.partial(_Handler, directory=str(root))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._stack.callback(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.shutdown)
        self._address = f"http://127.0.0.1:{server.server_port}/"
        self._playwright = self._stack.enter_context(sync_api.sync_playwright())
        self._program = program
        self._start()
        self._stack.callback(self._stop)

    def close(self) -> None:
        """Stop the browser and the server, even if a page hangs."""
        self._stack.close()

    def environment(self) -> dict[str, Value]:
        """This machine, the browser, and the versions of both runtimes."""
        facts: dict[str, Value] = agent.machine(agent.read_files)
        facts["browser"] = f"Chromium {self._browser.version}, headless"
        for name, package in PACKAGES.items():
            manifest = json.loads((NODE_MODULES / package / "package.json").read_text())
            facts[name] = manifest["version"]
        facts |= self._ask("describe")
        return facts

    def state(self) -> dict[str, Value]:
        """The state of this machine, while the browser is idle."""
        return agent.state(agent.read_files)

    def run(self, subject: MeasuredModel, scenario: Scenario, kind: Kind) -> Any:
        """Measure in a new page."""
        model = self._root / "model"
        model.unlink(missing_ok=True)
        model.symlink_to(subject.model.resolve())
        inputs = subject.labelled if kind == "outputs" else subject.inputs
        assert inputs is not None
        request = {
            "kind": kind,
            "format": subject.format,
            "threads": subject.threads,
            "batch": subject.batch,
            "inputs": {name: array.tolist() for name, array in inputs.inputs.items()},
            **scenario.model_dump(exclude={"name", "kind", "repeats"}),
        }
        answer = self._ask("answer", request, limit_seconds=scenario.limit_seconds)
        runtime = answer["runtime"]
        version = json.loads((NODE_MODULES / PACKAGES[runtime] / "package.json").read_text())
        return answer | {"runtime": {"name": runtime, "version": version["version"]}}

    def _ask(self, function: str, *arguments: Any, limit_seconds: float = 30) -> Any:
        """Call a function of agent.mjs in a new page.

        Raises:
            DeviceLostError: the browser went away.
            KdedgeError: the function failed, or `limit_seconds` are over.
        """
        # Not awaited here: `evaluate` has no time limit, `wait_for_function` has one.
        program = (
            "(given) => { import('/agent.mjs')"
            f".then((agent) => agent.{function}(...given))"
            ".catch((error) => ({ error: String(error) }))"
            ".then((answer) => { globalThis.answer = answer; }); }"
        )
        if self._killed:
            self._start()
        try:
            with self._limit(limit_seconds + SPARE_SECONDS), self._browser.new_context() as context:
                try:
                    page = context.new_page()
                    page.goto(self._address)
                    page.evaluate(program, list(arguments))
                    # Checking disturbs the measurement: only once a second.
                    answer = page.wait_for_function(
                        "globalThis.answer", polling=1000, timeout=1000 * limit_seconds
                    ).json_value()
                except self._timeout:
                    # Closing the context could wait forever for a page that hangs.
                    self._kill()
                    raise
        except self._error as error:
            if self._killed:
                raise hangs(limit_seconds) from None
            if self._browser.is_connected():
                raise KdedgeError(f"browser: {error.message.splitlines()[0]}") from None
            raise DeviceLostError(f"browser went away: {error.message.splitlines()[0]}.") from None
        if "error" in answer:
            raise KdedgeError(answer["error"])
        return answer

    def _start(self) -> None:
        # A browser that is killed then leaves nothing in the system's temporary folder.
        environment: dict[str, str | float | bool] = {**os.environ, "TMPDIR": str(self._root)}
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=self._program, args=ARGUMENTS, env=environment
            )
            session = self._browser.new_browser_cdp_session()
            processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        except self._error as error:
            raise KdedgeError(f"browser: {self._program} does not start: {error.message}") from None
        # Playwright makes the browser the leader of a process group.
        self._group = next(one["id"] for one in processes if one["type"] == "browser")
        self._killed = False

    def _stop(self) -> None:
        with self._limit(SPARE_SECONDS), contextlib.suppress(self._error):
            self._browser.close()

    @contextlib.contextmanager
    def _limit(self, seconds: float) -> Iterator[None]:
        """Kill the browser after `seconds`; whatever waits for it then fails."""
        timer = threading.Timer(seconds, self._kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill(self) -> None:
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._group, signal.SIGKILL)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        # Without these two, a page has no threads and a clock of only 100 microseconds.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        # Each run serves another model at the same address.
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass

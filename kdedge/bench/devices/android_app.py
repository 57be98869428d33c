"""Measures inside an app on an Android device, which must have android_demo's BenchmarkActivity.

The app measures the models in its assets on the bundle's sample texts, with its own tokenizer, and
writes a JSON file, which is read through adb.
"""

import json
import time
from typing import Any, Self

from kdedge.bench import agent
from kdedge.bench.devices.adb import FORM, Adb
from kdedge.bench.devices.device import Device, Kind, MeasuredModel, hangs
from kdedge.bench.report.model import ACCELERATORS, Value
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError
from kdedge.files import sha256

FORMAT_VERSION = 1


class AndroidApp(Device):
    """An Android device with such an app.

    The option `app` is the app's package name. The option `accelerator` is the processor that the
    app should use. Only LiteRT models run on others than the CPU.

    Args:
        adb: the connection.
        package: package name of the app, for instance `org.kdedge.demo`.
        accelerator: `cpu`, `gpu` or `npu`.
    """

    form = FORM
    own_inputs = True
    kinds = ("time", "text")
    # The app's own folder, which adb may read.
    files = "/sdcard/Android/data/{package}/files"

    def __init__(self, adb: Adb, package: str, accelerator: str = "cpu") -> None:
        self._adb, self._package, self.url = adb, package, adb.url
        self._accelerator = accelerator
        if accelerator != "cpu":
            self.formats = ("litert",)
        self._result = f"{self.files.format(package=package)}/benchmark.json"

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """The device of `adb://SERIAL`, if the option is given."""
        adb = Adb.from_url(url)
        if adb is None or "app" not in options:
            return None
        accelerator = options.pop("accelerator", "cpu")
        if accelerator not in ACCELERATORS:
            allowed = ", ".join(ACCELERATORS)
            raise KdedgeError(f"--accelerator: there is no {accelerator!r}. Allowed: {allowed}.")
        return cls(adb, options.pop("app"), accelerator)

    def open(self) -> None:
        """Connect and check that the app is installed."""
        self._adb.open()
        found = self._adb.execute("pm", "path", self._package).stdout
        # One line for each split APK.
        self._apk = found.splitlines()[0].removeprefix("package:") if found else ""
        if not self._apk:
            raise KdedgeError(
                f"--app: {self._package} is not installed on {self.url}. Fill android_demo with "
                "`python -m converters.to_android BUNDLE`, build it and install it there."
            )

    def close(self) -> None:
        """Disconnect; `run` has stopped the app."""
        self._adb.close()

    def environment(self) -> dict[str, Value]:
        """Facts about the device from the kernel and Android, and which APK is installed."""
        checksum = self._adb.execute("sha256sum", self._apk).stdout[:64]
        return self._adb.environment() | {
            "app": self._package,
            "SHA-256 of the APK": checksum,
            "processor asked for": self._accelerator.upper(),
        }

    def state(self) -> dict[str, Value]:
        """The state that the kernel reports."""
        return agent.state(self._adb.read)

    def run(self, subject: MeasuredModel, scenario: Scenario, kind: Kind) -> Any:
        """Start the activity in a new process, wait for its result and read it."""
        self._checked("am", "force-stop", self._package)
        self._checked("rm", "-f", self._result)
        # The checksum names the model, so that the app measures exactly this file.
        extras = (
            *("--es", "artifact", sha256(subject.model)),
            *("--ei", "count", scenario.min_count, "--ef", "seconds", scenario.min_seconds),
            *("--ei", "warmup", scenario.warmup_count),
            *("--ef", "warmup_seconds", scenario.warmup_seconds),
            *("--ei", "threads", subject.threads),
            *("--es", "accelerator", self._accelerator),
        )
        activity = f"{self._package}/.BenchmarkActivity"
        try:
            self._checked("am", "start", "-W", "-n", activity, *map(str, extras))
            measured = scenario.warmup_seconds + scenario.min_seconds
            result = self._wait(measured, scenario.limit_seconds)
        finally:
            self._adb.execute("am", "force-stop", self._package)
        return self._answer(result, scenario, kind)

    def _wait(self, seconds: float, limit_seconds: float) -> str:
        """The activity's result, which takes at least `seconds`."""
        end = time.monotonic() + limit_seconds
        # Checking would disturb the measurement.
        time.sleep(seconds)
        while time.monotonic() < end:
            running = not self._adb.execute("pidof", self._package).status
            if not (done := self._adb.execute("cat", self._result)).status:
                return done.stdout
            if not running:
                raise KdedgeError(f"{self._package} ended without a result; `adb logcat` says more")
            if "denied" in done.stderr:
                raise KdedgeError(f"its result can't be read: {done.stderr.strip()}")
            time.sleep(1)
        raise hangs(limit_seconds)

    def _answer(self, text: str, scenario: Scenario, kind: Kind) -> dict[str, Any]:
        try:
            result = json.loads(text)
            if "error" in result:
                raise KdedgeError(f"{self._package}: {result['error']}")
            if result["format_version"] != FORMAT_VERSION:
                raise KdedgeError(
                    f"{self._package} writes format_version {result['format_version']} and this "
                    f"kdedge reads {FORMAT_VERSION}. Take both of one version."
                )
            if len(result["infer_ns"]) < scenario.min_count:
                raise KdedgeError(
                    f"{self._package} measured {len(result['infer_ns'])} of {scenario.min_count} "
                    "inferences."
                )
            # Apps of older versions know only the CPU.
            placement = result.get("accelerator", {"used": "cpu", "reason": "the app is too old"})
            placement |= {"asked": self._accelerator}
            if kind == "text":
                pairs = zip(result["tokenize_ns"], result["infer_ns"], strict=True)
                return {
                    "tokenize_ns": result["tokenize_ns"],
                    "end_to_end_ns": [tokenize + infer for tokenize, infer in pairs],
                    "runtime": result["runtime"],
                    "placement": placement,
                }
            return {
                "load_ns": result["load_ns"],
                "first_inference_ns": result["first_inference_ns"],
                "samples_ns": result["infer_ns"],
                "peak_rss_bytes": None,
                "runtime": result["runtime"],
                "placement": placement,
            }
        except (ValueError, TypeError, KeyError) as error:
            raise KdedgeError(
                f"{self._package} wrote no result of a benchmark ({error!r}): {text[:200]}"
            ) from None

    def _checked(self, *command: str) -> None:
        """Run a command that must succeed; old versions of `am` fail with status 0."""
        done = self._adb.execute(*command)
        output = done.stdout + done.stderr
        if done.status or "Error" in output:
            last = (output.strip().splitlines() or [f"exit status {done.status}"])[-1]
            raise KdedgeError(f"`{' '.join(command[:2])}` failed on {self.url}: {last}")

"""An app with android_demo's BenchmarkActivity, on an Android device: what its users feel.

It measures the models of the bundle in its assets over that bundle's sample texts, tokenizing them
itself, and writes a JSON file that is fetched from there.
"""

import json
import time
from typing import Any, Self

from kdedge.bench import agent
from kdedge.bench.devices.adb import FORM, Adb
from kdedge.bench.devices.device import Device, Kind, Subject, hangs
from kdedge.bench.report.model import Value
from kdedge.bench.scenario import Scenario
from kdedge.errors import KdedgeError
from kdedge.files import sha256

FORMAT_VERSION = 1


class AndroidApp(Device):
    """A device on which such an app is installed. The option `app` is its package.

    Args:
        adb: how it is reached.
        package: of the app, such as `org.kdedge.demo`.
    """

    form = FORM
    kinds = ("time", "text")
    # The app's own folder, which adb may read.
    files = "/sdcard/Android/data/{package}/files"

    def __init__(self, adb: Adb, package: str) -> None:
        self._adb, self._package, self.url = adb, package, adb.url
        self._result = f"{self.files.format(package=package)}/benchmark.json"

    @classmethod
    def from_url(cls, url: str, options: dict[str, Any]) -> Self | None:
        """Of `adb://SERIAL` with the option."""
        adb = Adb.from_url(url)
        return cls(adb, options.pop("app")) if adb and "app" in options else None

    def open(self) -> None:
        """Connect and look for the app."""
        self._adb.open()
        found = self._adb.execute("pm", "path", self._package).stdout
        # With split APKs a line each.
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
        """What the kernel and Android say, and which APK is installed."""
        checksum = self._adb.execute("sha256sum", self._apk).stdout[:64]
        return self._adb.environment() | {"app": self._package, "SHA-256 of the APK": checksum}

    def state(self) -> dict[str, Value]:
        """What the kernel says."""
        return agent.state(self._adb.read)

    def run(self, subject: Subject, scenario: Scenario, kind: Kind) -> Any:
        """Start the activity in a fresh process, wait for its result and read it."""
        self._checked("am", "force-stop", self._package)
        self._checked("rm", "-f", self._result)
        # As the agent: that texts take their time is known from fewer of them.
        min_seconds = scenario.min_seconds if kind == "time" else 0
        # The model's checksum: whatever it is called there, it is this very file.
        extras = (
            *("--es", "artifact", sha256(subject.model)),
            *("--ei", "count", scenario.min_count, "--ef", "seconds", min_seconds),
            *("--ei", "warmup", scenario.warmup_count),
            *("--ef", "warmup_seconds", scenario.warmup_seconds),
            *("--ei", "threads", subject.threads),
        )
        activity = f"{self._package}/.BenchmarkActivity"
        try:
            self._checked("am", "start", "-W", "-n", activity, *map(str, extras))
            said = self._wait(scenario.warmup_seconds + min_seconds, scenario.limit_seconds)
        finally:
            self._adb.execute("am", "force-stop", self._package)
        return self._answer(said, scenario, kind)

    def _wait(self, seconds: float, limit_seconds: float) -> str:
        """The activity's result, which takes so many seconds at least."""
        end = time.monotonic() + limit_seconds
        # Looking takes time from what is measured.
        time.sleep(seconds)
        while time.monotonic() < end:
            lives = not self._adb.execute("pidof", self._package).status
            if not (done := self._adb.execute("cat", self._result)).status:
                return done.stdout
            if not lives:
                raise KdedgeError(f"{self._package} ended without a result; `adb logcat` says more")
            if "denied" in done.stderr:
                raise KdedgeError(f"its result can't be read: {done.stderr.strip()}")
            time.sleep(1)
        raise hangs(limit_seconds)

    def _answer(self, text: str, scenario: Scenario, kind: Kind) -> dict[str, Any]:
        try:
            said = json.loads(text)
            if "error" in said:
                raise KdedgeError(f"{self._package}: {said['error']}")
            if said["format_version"] != FORMAT_VERSION:
                raise KdedgeError(
                    f"{self._package} writes format_version {said['format_version']} and this "
                    f"kdedge reads {FORMAT_VERSION}. Take both of one version."
                )
            if len(said["infer_ns"]) < scenario.min_count:
                raise KdedgeError(
                    f"{self._package} measured {len(said['infer_ns'])} of {scenario.min_count} "
                    "inferences."
                )
            if kind == "text":
                pairs = zip(said["tokenize_ns"], said["infer_ns"], strict=True)
                return {
                    "tokenize_ns": said["tokenize_ns"],
                    "end_to_end_ns": [tokenize + infer for tokenize, infer in pairs],
                    "runtime": said["runtime"],
                }
            return {
                "load_ns": said["load_ns"],
                "first_inference_ns": said["first_inference_ns"],
                "samples_ns": said["infer_ns"],
                "peak_rss_bytes": None,
                "runtime": said["runtime"],
            }
        except (ValueError, TypeError, KeyError) as error:
            raise KdedgeError(
                f"{self._package} wrote no result of a benchmark ({error!r}): {text[:200]}"
            ) from None

    def _checked(self, *command: str) -> None:
        """Run a command that must succeed; old versions of `am` fail with status 0."""
        done = self._adb.execute(*command)
        said = done.stdout + done.stderr
        if done.status or "Error" in said:
            last = (said.strip().splitlines() or [f"exit status {done.status}"])[-1]
            raise KdedgeError(f"`{' '.join(command[:2])}` failed on {self.url}: {last}")

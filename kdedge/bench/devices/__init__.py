"""The devices that a bundle can be measured on, each behind the same few methods."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from kdedge.bench.agent import PACKAGES
from kdedge.bench.devices.adb import Adb, adb_states
from kdedge.bench.devices.android_app import AndroidApp
from kdedge.bench.devices.benchmark_model import BenchmarkModel
from kdedge.bench.devices.browser import PACKAGES as BROWSER_PACKAGES
from kdedge.bench.devices.browser import Browser, chromium
from kdedge.bench.devices.device import Device as Device
from kdedge.bench.devices.device import DeviceLostError as DeviceLostError
from kdedge.bench.devices.device import Kind as Kind
from kdedge.bench.devices.device import Subject as Subject
from kdedge.bench.devices.local import Local
from kdedge.bench.devices.remote import CopiedAgent
from kdedge.bench.devices.ssh import Ssh
from kdedge.errors import KdedgeError

ALLOWED = "local, ssh://USER@HOST:PORT, adb://SERIAL, browser"


def device_of(
    url: str,
    setup: bool = False,
    benchmark_model: Path | None = None,
    app: str | None = None,
) -> Device:
    """The device of that URL; nothing is connected yet.

    Args:
        url: `local`, `browser`, `adb://SERIAL`, or `ssh://USER@HOST:PORT`, where USER and PORT may
            be left out as with `ssh`.
        setup: whether a virtual environment may be made on an `ssh://` device that has no runtime.
        benchmark_model: TensorFlow Lite's program of that name, built for the `adb://` device.
            Without it and `app`, the device's own Python is used.
        app: package of an app with android_demo's benchmark, installed on the `adb://` device.

    Raises:
        KdedgeError: a URL of another form, no file `benchmark_model`, or an app beside it.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        raise KdedgeError(f"device: {url!r}: {error}. Allowed: {ALLOWED}.") from None
    bare = not (parts.path or parts.query or parts.fragment or parts.password)
    if url == "local":
        return Local()
    if url == "browser":
        return Browser()
    if parts.scheme == "ssh" and parts.hostname and bare:
        return CopiedAgent(Ssh(url, parts), setup)
    # A serial may hold a colon (HOST:PORT), and its case counts, so that it is not parsed.
    if parts.scheme == "adb" and (serial := url.partition("://")[2]):
        adb = Adb(url, serial)
        if app and benchmark_model:
            raise KdedgeError(f"--app: {app} beside --benchmark-model; one of the two is needed.")
        if app:
            return AndroidApp(adb, app)
        if benchmark_model is None:
            return CopiedAgent(adb, setup=False)
        if not benchmark_model.is_file():
            raise KdedgeError(f"benchmark_model: {benchmark_model}: no such file.")
        return BenchmarkModel(adb, benchmark_model)
    raise KdedgeError(f"device: {url!r}. Allowed: {ALLOWED}.")


def reachable() -> list[str]:
    """URLs of what can be found without being told where to look.

    Raises:
        KdedgeError: adb is installed and adbutils is not, or its server can't be started.
    """
    serials = adb_states() if shutil.which("adb") else {}
    return ["local", *(f"adb://{serial}" for serial in serials), *["browser"] * bool(chromium())]


def look_at(url: str) -> tuple[str, str, str, str]:
    """CPU, cores, memory in MB and runtimes with versions of a device.

    Raises:
        KdedgeError: it can't be reached, or nothing can be measured there.
    """
    with device_of(url) as device:
        facts = device.environment()
    runtimes = [f"{name} {facts[name]}" for name in (*PACKAGES, *BROWSER_PACKAGES) if name in facts]
    cpu, cores, memory = (str(facts.get(name, "")) for name in ("CPU", "cores", "memory, MB"))
    return cpu, cores, memory, ", ".join(runtimes)

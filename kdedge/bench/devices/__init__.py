"""The devices that bundles can be measured on, by URL."""

from typing import Any

from kdedge.bench.devices.adb import AndroidPython
from kdedge.bench.devices.android_app import AndroidApp
from kdedge.bench.devices.benchmark_model import BenchmarkModel
from kdedge.bench.devices.browser import Browser
from kdedge.bench.devices.device import Device as Device
from kdedge.bench.devices.device import DeviceLostError as DeviceLostError
from kdedge.bench.devices.device import Kind as Kind
from kdedge.bench.devices.device import MeasuredModel as MeasuredModel
from kdedge.bench.devices.local import Local
from kdedge.bench.devices.ssh import Board
from kdedge.errors import KdedgeError

# The first one that accepts a URL is taken, so those that need an option come first.
DEVICES: tuple[type[Device], ...] = (
    Local, Board, BenchmarkModel, AndroidApp, AndroidPython, Browser,
)  # fmt: skip


def devices_of(*urls: str, **options: Any) -> list[Device]:
    """The device of each URL; nothing is connected yet.

    Args:
        urls: each in the `form` of one of `DEVICES`.
        options: options of the devices, see their classes; None and False are ignored.

    Raises:
        KdedgeError: a URL in no such form, an option that none of these devices uses, or an invalid
            value.
    """
    given = {name: value for name, value in options.items() if value}
    devices = []
    unused = set(given)
    for url in urls:
        left = dict(given)
        devices.append(_device(url, left))
        unused &= set(left)
    if unused:
        name = min(unused)
        beside = "".join(f" beside {_flag(other)}" for other in sorted(set(given) - unused))
        raise KdedgeError(
            f"{_flag(name)}: {given[name]}{beside} is not used by {', '.join(urls)}. Leave it out."
        )
    return devices


def device_of(url: str, **options: Any) -> Device:
    """The device of one URL; see `devices_of`."""
    return devices_of(url, **options)[0]


def _device(url: str, options: dict[str, Any]) -> Device:
    """The device of a URL; removes the options that it uses from `options`."""
    why = ""
    try:
        for kind in DEVICES:
            if device := kind.from_url(url, options):
                return device
    except ValueError as error:
        why = f": {error}"
    allowed = ", ".join(dict.fromkeys(kind.form for kind in DEVICES))
    raise KdedgeError(f"device: {url!r}{why}. Allowed: {allowed}.")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def find_devices() -> list[str]:
    """URLs of all devices that can be found automatically.

    Raises:
        KdedgeError: a program that searches for devices does not run.
    """
    return [url for kind in DEVICES for url in kind.found()]


def describe_device(url: str) -> tuple[str, str, str, str]:
    """A device's CPU, cores, memory in MB, and runtimes with their versions.

    Raises:
        KdedgeError: it can't be reached, or nothing can be measured there.
    """
    with device_of(url) as device:
        facts = device.environment()
    runtimes = [f"{name} {facts[name]}" for name in device.runtimes if name in facts]
    cpu, cores, memory = (str(facts.get(name, "")) for name in ("CPU", "cores", "memory, MB"))
    return cpu, cores, memory, ", ".join(runtimes)

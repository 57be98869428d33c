"""The devices that a bundle can be measured on, each behind the same few methods."""

from typing import Any

from kdedge.bench.devices.adb import AndroidPython
from kdedge.bench.devices.android_app import AndroidApp
from kdedge.bench.devices.benchmark_model import BenchmarkModel
from kdedge.bench.devices.browser import Browser
from kdedge.bench.devices.device import Device as Device
from kdedge.bench.devices.device import DeviceLostError as DeviceLostError
from kdedge.bench.devices.device import Kind as Kind
from kdedge.bench.devices.device import Subject as Subject
from kdedge.bench.devices.local import Local
from kdedge.bench.devices.ssh import Board
from kdedge.errors import KdedgeError

# A URL's device is the first that says so: one that needs an option stands before one that doesn't.
DEVICES: tuple[type[Device], ...] = (
    Local, Board, BenchmarkModel, AndroidApp, AndroidPython, Browser,
)  # fmt: skip


def devices_of(*urls: str, **options: Any) -> list[Device]:
    """The device of each URL; nothing is connected yet.

    Args:
        urls: each of the `form` of one of `DEVICES`.
        options: for those devices that make use of them, as their classes say; None and False are
            left out.

    Raises:
        KdedgeError: a URL of another form, an option of no use to any of these devices, or one
            whose value can't be used.
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
            f"{_flag(name)}: {given[name]}{beside} is of no use to {', '.join(urls)}. Leave it out."
        )
    return devices


def device_of(url: str, **options: Any) -> Device:
    """The device of one URL, as `devices_of`."""
    return devices_of(url, **options)[0]


def _device(url: str, options: dict[str, Any]) -> Device:
    """Takes out of the options what the device makes use of."""
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


def reachable() -> list[str]:
    """URLs of what can be found without being told where to look.

    Raises:
        KdedgeError: a program that looks for devices doesn't run.
    """
    return [url for kind in DEVICES for url in kind.found()]


def look_at(url: str) -> tuple[str, str, str, str]:
    """CPU, cores, memory in MB and runtimes with versions of a device.

    Raises:
        KdedgeError: it can't be reached, or nothing can be measured there.
    """
    with device_of(url) as device:
        facts = device.environment()
    runtimes = [f"{name} {facts[name]}" for name in device.runtimes if name in facts]
    cpu, cores, memory = (str(facts.get(name, "")) for name in ("CPU", "cores", "memory, MB"))
    return cpu, cores, memory, ", ".join(runtimes)

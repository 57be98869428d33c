"""URLs of devices, facts about this machine, and measurements in a real Chromium."""

import ast
import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from bench_parts import BRIEF, make_bundle, make_subject
from conftest import ROOT
from typer.testing import CliRunner

from kdedge.bench import agent
from kdedge.bench import devices as kinds
from kdedge.bench.devices import (
    Device,
    browser,
    describe_device,
    device_of,
    devices_of,
    find_devices,
)
from kdedge.bench.devices.device import agent_program, npz
from kdedge.bench.devices.local import Local
from kdedge.bench.run import bench_bundles
from kdedge.bench.scenario import Scenario
from kdedge.cli import app
from kdedge.errors import KdedgeError
from kdedge.tasks import Classification
from kdedge.text.encoder import Encoded

TASK = Classification(label_names=("bad", "good"))


@pytest.mark.parametrize(
    "url",
    [
        "local",
        "browser",
        "ssh://pi@board:2222",
        "ssh://board",
        "ssh://[::1]:22",
        "adb://a:5555",
        "adb://usb:1-4",
    ],
)
def test_urls_of_devices(url: str) -> None:
    assert device_of(url).url == url


@pytest.mark.parametrize(
    "url",
    ["", "locale", "ssh://", "ssh:board", "ssh://board/folder", "ssh://pi:secret@board", "adb://",
     "ssh://board:port", "ssh://board:99999", "http://board", "usb://1", "usb://a:b"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(KdedgeError) as caught:
        device_of(url)
    assert repr(url) in str(caught.value)
    assert "Allowed: local, ssh://USER@HOST:PORT, adb://SERIAL, browser." in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("local", {"setup": True}, "--setup: True is not used by local"),
        ("browser", {"app": "org.kdedge.demo"}, "--app: org.kdedge.demo is not used by browser"),
        ("adb://1", {"setup": True}, "--setup: True is not used by adb://1"),
        ("adb://1", {"accelerator": "gpu"}, "--accelerator: gpu is not used by adb://1"),
        ("ssh://a", {"benchmark_model": Path("m")}, "--benchmark-model: m is not used by ssh://a"),
        ("local", {"colour": "red"}, "--colour: red is not used by local"),
    ],
)
def test_an_option_that_the_device_does_not_know(
    url: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(KdedgeError, match=message):
        device_of(url, **options)
    assert device_of(url, **dict.fromkeys(options)).url == url


def test_an_option_is_for_those_devices_that_know_it() -> None:
    found = devices_of("local", "ssh://board", "adb://1", setup=True, app="org.kdedge.demo")
    assert [type(device).__name__ for device in found] == ["Local", "Board", "AndroidApp"]


def test_a_new_kind_of_device_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Toy(Local):
        form, url = "toy://COLOUR", "toy://red"

        @classmethod
        def from_url(cls, url: str, options: dict[str, Any]) -> "Toy | None":
            return cls() if url == cls.url and options.pop("colour", None) != "blue" else None

        def environment(self) -> dict[str, str | int | float]:
            return {"CPU": "a toy", "cores": 3, "LiteRT": "2.1"}

    monkeypatch.setattr(kinds, "DEVICES", (*kinds.DEVICES, Toy))
    device: Device = device_of("toy://red", colour="red")
    assert isinstance(device, Toy)
    assert describe_device("toy://red") == ("a toy", "3", "", "LiteRT 2.1")
    assert "toy://red" in find_devices()
    with pytest.raises(KdedgeError, match="browser, toy://COLOUR"):
        device_of("toy://green")


def test_command_line_refuses_a_device_before_any_work(tmp_path: Path) -> None:
    given = ["bench", "no-bundle", "--report", str(tmp_path), "--device", "usb://1"]
    refused = CliRunner().invoke(app, given)
    assert refused.exit_code == 2
    assert "device: 'usb://1'. Allowed: local" in refused.output


def test_a_device_may_be_named_once(onnx_file: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "nano", {"onnx-float32": onnx_file})
    twice = [device_of("local"), device_of("local")]
    with pytest.raises(KdedgeError, match="local, local. Name each only once"):
        bench_bundles([bundle], tmp_path / "report", BRIEF, devices=twice)


def test_a_bundle_without_an_artifact_for_the_device(onnx_file: Path, tmp_path: Path) -> None:
    program = tmp_path / "benchmark_model"
    program.touch()
    device = device_of("adb://1", benchmark_model=program)
    bundle = make_bundle(tmp_path / "bundle", "nano", {"onnx-float32": onnx_file})
    with pytest.raises(KdedgeError, match="adb://1 runs only litert models"):
        bench_bundles([bundle], tmp_path / "report", BRIEF, devices=[device])


def test_the_agent_is_python_3_9_and_stands_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(agent_program())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert "kdedge/engines.py" in files
    for file, content in files.items():
        tree = ast.parse(content, feature_version=(3, 9))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
        others = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
        if file == "kdedge/text/words.py":
            # The agent imports it only where texts are to be tokenized.
            assert {name.partition(".")[0] for name in others} == {"tokenizers"}
        else:
            assert others <= {"numpy", "numpy.typing", "kdedge.engines", "kdedge.bench.agent"}


def test_the_agent_is_the_same_bytes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = agent_program()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert agent_program() == first


def ask_agent(*command: str | Path, what: str) -> dict[str, object]:
    done = subprocess.run([*command, what], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.fixture
def agent_pyz(tmp_path: Path) -> Path:
    path = tmp_path / "agent.pyz"
    path.write_bytes(agent_program())
    return path


def test_the_agent_describes_its_machine(agent_pyz: Path) -> None:
    facts = ask_agent(sys.executable, agent_pyz, what="environment")
    assert facts["cores"] == Path("/proc/cpuinfo").read_text().count("processor\t")
    assert {"CPU", "memory, MB", "OS", "Python", "LiteRT", "ONNX Runtime"} <= set(facts)
    assert {"load", "busy, %"} <= set(ask_agent(sys.executable, agent_pyz, what="state"))
    installed = ask_agent(sys.executable, "-m", "kdedge.bench.agent", what="environment")
    assert installed == facts


def test_the_agent_needs_no_kdedge(
    agent_pyz: Path, onnx_file: Path, encoded: Encoded, tmp_path: Path
) -> None:
    (tmp_path / "texts.npz").write_bytes(npz(encoded))
    request = {"kind": "outputs", "model": str(onnx_file), "format": "onnx", "threads": 1}
    (tmp_path / "request.json").write_text(
        json.dumps(request | {"inputs": str(tmp_path / "texts.npz")})
    )
    # Without `site`, packages are found and the .pth file that leads to this checkout is not read.
    done = subprocess.run(
        [sys.executable, "-S", agent_pyz, tmp_path / "request.json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(np.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    answer = json.loads(done.stdout)
    assert answer.get("outputs") == (encoded.ids * encoded.mask).tolist(), answer


# Part of /proc/cpuinfo of a Raspberry Pi 4.
PI = {
    "/proc/cpuinfo": (
        "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
        "CPU implementer\t: 0x41\n\nprocessor\t: 1\nFeatures\t: fp asimd\n\n"
        "Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
    ),
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "/proc/meminfo": "MemTotal:        3882332 kB\nMemFree:         2000000 kB\n",
    "/proc/loadavg": "0.52 0.58 0.59 1/257 12345\n",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor": "ondemand\nondemand\n",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq": "600000\n1500000\n",
    "/sys/class/thermal/thermal_zone*/temp": "48686\n51234\n",
    "/sys/class/power_supply/*/capacity": "87\n",
    "/sys/class/power_supply/*/status": "Discharging\n",
}


def test_what_a_board_says(monkeypatch: pytest.MonkeyPatch) -> None:
    # 300 ticks between the two, of which 200 idle and 10 waiting for the disk: 90 of 300 busy.
    stat = iter(
        ["cpu  100 0 50 800 20 0 0 0 7 0\ncpu0 1", "cpu  160 0 80 1000 30 0 0 0 9 0\ncpu0 1"]
    )
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def read(pattern: str) -> str:
        return next(stat) if pattern == "/proc/stat" else PI.get(pattern, "")

    assert agent.machine(read) == {
        "CPU": "Raspberry Pi 4 Model B Rev 1.4",
        "CPU features": "asimd",
        "cores": 2,
        "memory, MB": 3975,
        "governor": "ondemand",
    }
    assert agent.state(read) == {
        "load": 0.52,
        "frequency, MHz": 1500,
        "hottest sensor, °C": 51.234,
        "battery, %": 87,
        "battery": "Discharging",
        "busy, %": 30,
    }
    assert agent.machine(lambda pattern: "") == agent.state(lambda pattern: "") == {}


@pytest.fixture(scope="session")
def web() -> None:
    """A Chromium and the browser's runtimes."""
    pytest.importorskip("playwright.sync_api")
    if not browser.chromium():
        pytest.skip("Chromium is not installed: apt install chromium")
    if not browser.NODE_MODULES.is_dir():
        npm = shutil.which("npm")
        if not npm:
            pytest.skip("npm is not installed")
        command = [npm, "ci", "--prefix", str(ROOT / "web_demo")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm ci fails: {done.stderr[-500:]}")


@pytest.fixture
def exported(tiny_model: Any, tmp_path: Path) -> Path:
    """The tiny model as a bundle has it: LiteRT.js takes no open batch."""
    from kdedge.export.litert.convert import to_litert

    path = tmp_path / "exported.tflite"
    path.write_bytes(to_litert(tiny_model, TASK, 8))
    return path


def test_bench_in_a_browser(web: None, exported: Path, onnx_file: Path, tmp_path: Path) -> None:
    models = {"litert-float32": exported, "onnx-float32": onnx_file}
    bundle = make_bundle(tmp_path / "bundle", "nano", models)
    for threads in (1, 2):
        report = bench_bundles(
            [bundle],
            tmp_path / f"report {threads}",
            BRIEF.model_copy(update={"threads": threads}),
            devices=[device_of("browser")],
        )
        assert [m.name for m in report.measurements] == ["litert-float32", "onnx-float32"]
        assert all(len(r.samples_ns) == 5 for m in report.measurements for r in m.repeats)
        facts = report.environments["browser"]
        packages = json.loads((ROOT / "web_demo/package.json").read_text())["dependencies"]
        assert facts["ONNX Runtime Web"] == packages["onnxruntime-web"]
        assert facts["LiteRT.js"] == packages["@litertjs/core"]
        assert facts["cross-origin isolated"] == "yes"
        # Without isolation it is 100.
        assert facts["clock resolution, µs"] == 5


def test_the_browser_names_what_fails(web: None, onnx_file: Path, tmp_path: Path) -> None:
    broken = {"litert": tmp_path / "broken.tflite", "onnx": tmp_path / "broken.onnx"}
    for path in broken.values():
        # The identifier of LiteRT files is there.
        path.write_bytes(b"no  TFL3" if path.suffix == ".tflite" else b"no model")
    models = {f"{name}-int8": path for name, path in broken.items()}
    bundle = make_bundle(tmp_path / "bundle", "nano", models | {"onnx-float32": onnx_file})
    with pytest.raises(KdedgeError) as caught:
        bench_bundles([bundle], tmp_path / "report", BRIEF, devices=[device_of("browser")])
    for name in models:
        assert f"{name}: on browser: " in str(caught.value)
    assert "onnx-float32: " not in str(caught.value)


SPINS = "export async function answer(request) {\n  while (request.format === 'litert');"


def spin(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the page spin instead of measuring LiteRT models, for 2 seconds."""
    program = browser.AGENT.read_text()
    spinning = program.replace("export async function answer(request) {", SPINS)
    (folder / "agent.mjs").write_text(spinning)
    monkeypatch.setattr(browser, "AGENT", folder / "agent.mjs")
    monkeypatch.setattr(Scenario, "limit_seconds", 2)


def chromiums() -> list[psutil.Process]:
    """The processes of the browsers that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        # Helpers of a browser come and go.
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name().startswith("chrom"):
                found.append(process)
    return found


def ended(processes: list[psutil.Process]) -> bool:
    """Whether all processes end; a killed one takes a moment."""
    for _ in range(100):
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [process for process in processes if process.is_running()]
            processes = [p for p in processes if p.status() != psutil.STATUS_ZOMBIE]
        if not processes:
            return True
        time.sleep(0.1)
    return False


def test_a_page_that_hangs_is_given_up(
    web: None, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spin(monkeypatch, tmp_path)
    measured = make_subject("a", onnx_file, tmp_path)
    with device_of("browser") as device:
        first = chromiums()
        with pytest.raises(KdedgeError, match="not done after 2 s, and was stopped"):
            device.run(replace(measured, format="litert"), BRIEF, "time")
        assert first and ended(first)
        # The next one gets a browser again.
        monkeypatch.setattr(Scenario, "limit_seconds", 60)
        assert len(device.run(measured, BRIEF, "time")["samples_ns"]) == BRIEF.min_count
        second = chromiums()
    assert second and ended(second)


@pytest.mark.slow
def test_pages_that_hang_on_a_busy_machine(
    web: None, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spin(monkeypatch, tmp_path)
    subject = replace(make_subject("a", onnx_file, tmp_path), format="litert")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(10)]
    try:
        for _ in range(10):
            with device_of("browser") as device:
                started = chromiums()
                with pytest.raises(KdedgeError, match="not done after 2 s, and was stopped"):
                    device.run(subject, BRIEF, "time")
            assert started and ended(started)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_browser_that_does_nothing_any_more_is_ended(
    web: None, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "SPARE_SECONDS", 2)
    monkeypatch.setattr(Scenario, "limit_seconds", 2)
    # While it measures, and when it is to be closed.
    for measures in (True, False):
        with device_of("browser") as device:
            started = chromiums()
            for process in started:
                process.suspend()
            if measures:
                with pytest.raises(KdedgeError, match="not done after 2 s, and was stopped"):
                    device.run(make_subject("a", onnx_file, tmp_path), BRIEF, "time")
        assert started and ended(started)


def test_the_browser_without_its_packages(web: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "NODE_MODULES", Path("/nowhere/node_modules"))
    with (
        pytest.raises(KdedgeError, match="npm ci --prefix web_demo"),
        device_of("browser"),
    ):
        pass


def test_list_of_devices() -> None:
    listed = CliRunner().invoke(app, ["devices", "local"])
    assert listed.exit_code == 0, listed.output
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith(" local")]
    assert "LiteRT 2" in row and "ONNX Runtime 1" in row
    refused = CliRunner().invoke(app, ["devices", "local", "ssh://127.0.0.1:1"])
    assert refused.exit_code == 2
    assert "ssh://127.0.0.1:1" in refused.output and "local" in refused.output

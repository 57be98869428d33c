"""Android devices: the output of benchmark_model, and Debian's adbd driven by the real adb."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from bench_parts import make_bundle
from conftest import ROOT

from kdedge.bench.devices import device_of
from kdedge.bench.devices.benchmark_model import read_output
from kdedge.bench.report.model import BenchReport
from kdedge.errors import KdedgeError
from kdedge.text.encoder import TextEncoder

# Output of several versions of the program; profilers and headings are left out if not needed.
# TensorFlow Lite 1.12, on an embedded board.
OF_2018 = """Initialized session in 4.452ms
Running benchmark for 1 iterations
count=1 curr=146161

Running benchmark for 50 iterations
count=50 first=137789 curr=137254 min=137079 max=143416 avg=137722 std=896

Average inference timings in us: Warmup: 146161, Init: 4452, no stats: 137722
"""
# With --enable_op_profiling, whose counts are of single operators and of bytes.
OF_2019 = """INFO: Initialized TensorFlow Lite runtime.
Initialized session in 1.892ms
Running benchmark for at least 1 iterations and at least 0.5 seconds
count=6 first=91810 curr=85097 min=84834 max=91810 avg=86184.3 std=2519

Running benchmark for at least 50 iterations and at least 1 seconds
count=50 first=118810 curr=114219 min=88216 max=129193 avg=115062 std=7678

Average inference timings in us: Warmup: 86184.3, Init: 1892, Inference: 115062
Timings (microseconds): count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929
Memory (bytes): count=0
"""
# https://github.com/tensorflow/tensorflow/issues/42507
OF_2020 = """Initialized session in 0.855ms.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, \
Inference (avg): 33209.4
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE
Peak memory footprint (MB): init=0 overall=12.8672
"""
# A slow model: one warm-up run, and a mean in scientific notation.
OF_2023 = """INFO: Initialized session in 6.418ms.
INFO: count=1 curr=1041765

INFO: count=50 first=977738 curr=964908 min=911877 max=1112273 avg=971535 std=39112

INFO: Inference timings in us: Init: 6418, First inference: 1041765, \
Warmup (avg): 1.04176e+06, Inference (avg): 971535
INFO: Memory footprint delta from the start of the tool (MB): init=6.14844 overall=109.848
"""
# With percentiles, through logcat.
OF_2025 = """07-08 15:37:34.700 I/tflite  ( 6071): Initialized session in 110.85ms.
07-08 15:37:35.254 I/tflite  ( 6071): count=2 first=268586 curr=250828 min=250828 max=268586 \
avg=259707 std=8879 p5=250828 median=268586 p95=268586
07-08 15:37:37.708 I/tflite  ( 6071): count=10 first=237758 curr=237183 min=216081 max=264534 \
avg=244240 std=13396 p5=216081 median=245871 p95=264534
07-08 15:37:37.709 I/tflite  ( 6071): Inference timings in us: Init: 110850, \
First inference: 268586, Warmup (avg): 259707, Inference (avg): 244240
07-08 15:37:37.709 I/tflite  ( 6071): Memory footprint delta from the start of the tool (MB): \
init=64.8047 overall=89.4453
"""
# LiteRT's own program, which is built from the same code.
LITERT = """INFO: Initialized session in 4.478ms.
INFO: count=1055 first=1033 curr=473 min=443 max=1033 avg=465.319 std=18 p5=459 median=463 p95=478

INFO: count=2112 first=463 curr=459 min=442 max=979 avg=464.545 std=13 p5=460 median=462 p95=478

INFO: [./litert/tools/benchmark_litert_model.h:81]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: 4.48 ms
INFO: [./litert/tools/benchmark_litert_model.h:84] Warmup (first):       1.03 ms
INFO: [./litert/tools/benchmark_litert_model.h:86] Warmup (avg):         0.47 ms (1055 runs)
INFO: [./litert/tools/benchmark_litert_model.h:88] Inference (avg):      0.46 ms (2112 runs)
INFO: [./litert/tools/benchmark_litert_model.h:114] Init footprint:       8.94 MB
"""
# LiteRT's program in Python, which prints only the table.
LITERT_TABLE = """ BENCHMARK RESULTS
Model initialization:  45.32 ms
Warmup (first):        120.45 ms
Warmup (avg):          98.76 ms (5 runs)
Inference (avg):       85.23 ms (50 runs)
Inference (median):    84.50 ms
Inference (p95):       91.00 ms
"""
ALL_SAME = """Initialized session in 1ms.
count=4 curr=100(all same)
Inference timings in us: Init: 1000, First inference: 100, Warmup (avg): 100, Inference (avg): 100
"""
FAILED = """INFO: Loaded model model.tflite
ERROR: Failed to apply GPU delegate.
Benchmarking failed.
"""


@pytest.mark.parametrize(
    ("output", "load", "first", "count", "mean", "median", "p95", "memory"),
    [
        (OF_2018, 4452, 146161, 50, 137722, None, None, None),
        (OF_2019, 1892, 91810, 50, 115062, None, None, None),
        (OF_2020, 855, 49060, 50, 33209.4, None, None, 13492237),
        (OF_2023, 6418, 1041765, 50, 971535, None, None, 115183976),
        (OF_2025, 110850, 268586, 10, 244240, 245871, 264534, 93790195),
        (LITERT, 4478, 1033, 2112, 464.545, 462, 478, None),
        (LITERT_TABLE, 45320, 120450, 50, 85230, 84500, 91000, None),
        (ALL_SAME, 1000, 100, 4, 100, None, None, None),
    ],
)
def test_all_forms_of_output(
    output: str,
    load: float,
    first: float,
    count: int,
    mean: float,
    median: float | None,
    p95: float | None,
    memory: int | None,
) -> None:
    """Times are in microseconds, as the program prints them."""
    answer = read_output(output)
    assert answer["load_ns"] == 1000 * load
    assert answer["first_inference_ns"] == 1000 * first
    assert answer["samples_ns"] == []
    summary = answer["summary"]
    assert summary["count"] == count
    assert summary["mean_ns"] == pytest.approx(1000 * mean)
    assert summary["median_ns"] == (median and pytest.approx(1000 * median))
    assert summary["p95_ns"] == (p95 and pytest.approx(1000 * p95))
    # 2 ** 20 times the printed number.
    assert summary["memory_rise_bytes"] == memory


@pytest.mark.parametrize(
    ("output", "status", "message"),
    [
        (FAILED, 0, "Benchmarking failed."),
        (OF_2020, 1, "exit status 1"),
        ("/data/local/tmp/benchmark_model: not executable: 64-bit ELF file", 126, "64-bit ELF"),
        ("", 0, "it printed nothing"),
        (OF_2020.partition("count=50")[0], 0, "count=15"),
    ],
)
def test_what_is_no_measurement(output: str, status: int, message: str) -> None:
    with pytest.raises(KdedgeError, match=message):
        read_output(output, status)


# In place of the user's benchmark_model: keeps its flags and the files they name.
PROGRAM = """#!/bin/sh
case "$1" in --help) echo "{flags}" >&2; exit 1;; esac
echo run >> {kept}/runs
echo "$@" > {kept}/flags
for flag in "$@"; do case "$flag" in --input_layer_value_files=*)
    for pair in $(echo "${{flag#*=}}" | tr , ' '); do cp "${{pair#*:}}" "{kept}/${{pair%%:*}}"; done
esac; done
if [ -e {kept}/cut ]; then kill -9 "$(cat {kept}/adbd.pid)"; sleep 60; fi
if [ -e {kept}/hang ]; then echo $$ > {kept}/hung; exec sleep 60; fi
cat {kept}/output
"""
FLAGS = (
    "--num_runs --min_secs --max_secs --warmup_runs --warmup_min_secs --num_threads --graph "
    "--input_layer --input_layer_shape --input_layer_value_files"
)
# A plain Linux has no /data/local/tmp.
KDEDGE = """import os, sys
from kdedge.bench.devices.adb import Adb
from kdedge.bench.devices.android_app import AndroidApp
from kdedge.bench.scenario import Scenario
from kdedge.cli import app
if os.path.exists("hang"): Scenario.limit_seconds = 3
Adb.scratch, AndroidApp.files = sys.argv.pop(1), sys.argv.pop(1)
app()"""
SERIAL = "127.0.0.1:15555"
URL = f"adb://{SERIAL}"


class Phone:
    """An adbd with a benchmark_model, and kdedge beside it."""

    def __init__(self, adbd: Path, folder: Path, bundle: Path) -> None:
        self.adbd, self.folder, self.bundle = adbd, folder, bundle
        self.report = folder / "report"
        self.install(FLAGS)
        (folder / "output").write_text(LITERT)
        (folder / "scratch").mkdir()
        (folder / "bin").mkdir()

    def install(self, flags: str) -> None:
        (self.folder / "benchmark_model").write_text(PROGRAM.format(flags=flags, kept=self.folder))

    def kdedge(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        with_adbd = [ROOT / "tests/clients/with_adbd.sh", self.adbd, SERIAL]
        return subprocess.run(
            ["unshare", "--net", "--map-root-user", *with_adbd]
            + [sys.executable, "-c", KDEDGE, str(self.folder / "scratch")]
            + [str(self.folder / "files"), *arguments],
            cwd=self.folder,
            env=os.environ
            | {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    def bench(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        given = ["--device", URL, "--tier", "quick", "--report", str(self.report)]
        return self.kdedge("bench", str(self.bundle), *given, *arguments)


@pytest.fixture(scope="session")
def adbd() -> Path:
    for program in ("adb", "unshare", "ip"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: apt install adb util-linux iproute2")
    alone = subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True)
    if alone.returncode:
        pytest.skip(f"no network of its own: {alone.stderr.decode().strip()}")
    folder = ROOT / ".clients" / "adbd"
    if not (folder / "adbd").exists():
        # Left over from an interrupted installation.
        shutil.rmtree(folder, ignore_errors=True)
        install = [ROOT / "tests/clients/install_adbd.sh", folder]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no adbd can be unpacked: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture
def phone(adbd: Path, tflite: Path, onnx_file: Path, tmp_path: Path) -> Phone:
    models = {"litert-float32": tflite, "onnx-float32": onnx_file}
    return Phone(adbd, tmp_path, make_bundle(tmp_path / "bundle", "nano", models))


def program(phone: Phone) -> list[str]:
    return ["--benchmark-model", str(phone.folder / "benchmark_model")]


@pytest.mark.clients
def test_benchmark_model_on_a_device(phone: Phone) -> None:
    done = phone.bench(*program(phone))
    assert done.returncode == 0, done.stderr
    report = BenchReport.load(phone.report / "results.json")
    # benchmark_model can't run ONNX files.
    (measured,) = report.measurements
    assert (measured.name, measured.device) == ("litert-float32", URL)
    assert measured.repeats_p50_ms == (0.462, 0.462, 0.462)
    assert (measured.p90_ms, measured.p50_is_mean) == (None, False)
    facts = report.environments[URL]
    assert facts["inputs"] == "one sample text"
    assert {"CPU", "cores", "memory, MB", "OS", "load before", "benchmark_model"} <= set(facts)

    flags = (phone.folder / "flags").read_text().split()
    for flag in ("--num_runs=64", "--min_secs=0.5", "--warmup_runs=16", "--num_threads=1"):
        assert flag in flags
    assert "--input_layer_shape=1,8:1,8:1,8" in flags
    text = TextEncoder.load(phone.bundle).encode(["good film"], 8).inputs
    for name, array in text.items():
        np.testing.assert_array_equal(np.fromfile(phone.folder / name, np.int32), array[0], name)
    assert not list((phone.folder / "scratch").iterdir())


@pytest.mark.clients
def test_an_old_benchmark_model(phone: Phone) -> None:
    phone.install("--num_runs --num_threads --graph")
    (phone.folder / "output").write_text(OF_2018)
    done = phone.bench(*program(phone))
    # It stopped at its own 50 runs.
    assert done.returncode == 2
    assert "ran 50 of 64 inferences" in done.stderr

    (phone.folder / "output").write_text(OF_2018.replace("count=50", "count=64"))
    done = phone.bench(*program(phone))
    assert done.returncode == 0, done.stderr
    assert "138 (mean)" in done.stdout
    report = BenchReport.load(phone.report / "results.json")
    assert report.measurements[0].p50_is_mean
    assert report.environments[URL]["inputs"] == "random numbers"
    assert len((phone.folder / "flags").read_text().split()) == 3


@pytest.mark.clients
def test_a_program_that_hangs_is_given_up(phone: Phone) -> None:
    (phone.folder / "hang").touch()
    done = phone.bench(*program(phone))
    assert done.returncode == 2
    assert "not done after 3 s, and was stopped" in done.stderr
    assert not psutil.pid_exists(int((phone.folder / "hung").read_text()))


@pytest.mark.clients
def test_a_device_that_goes_away_is_resumed(phone: Phone) -> None:
    (phone.folder / "cut").touch()
    done = phone.bench(*program(phone))
    assert done.returncode == 2, done.stderr
    assert f"{URL} went away" in done.stderr and "0 of 3 runs are kept" in done.stderr
    (phone.folder / "cut").unlink()
    done = phone.bench(*program(phone))
    assert done.returncode == 0, done.stderr
    assert len((phone.folder / "runs").read_text().splitlines()) == 4


@pytest.mark.clients
def test_the_agent_where_the_device_has_a_python(phone: Phone) -> None:
    done = phone.bench()
    assert done.returncode == 2
    assert "`python3` there has numpy" in done.stderr and "--benchmark-model" in done.stderr
    python = phone.folder / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = phone.bench()
    assert done.returncode == 0, done.stderr
    report = BenchReport.load(phone.report / "results.json")
    assert [m.name for m in report.measurements] == ["litert-float32", "onnx-float32"]
    assert all(len(r.samples_ns) >= 64 for m in report.measurements for r in m.repeats)
    assert not list((phone.folder / "scratch").iterdir())
    listed = phone.kdedge("devices")
    assert URL in listed.stdout and "ONNX Runtime 1" in listed.stdout


@pytest.mark.clients
def test_devices_and_programs_that_are_not_there(phone: Phone) -> None:
    done = phone.kdedge("devices", "adb://no-such")
    assert done.returncode == 2
    assert f"adb://no-such is not there. adb has: {SERIAL} (device)" in done.stderr
    broken = phone.folder / "broken"
    broken.write_bytes(b"\x7fELF no program")
    done = phone.bench("--benchmark-model", str(broken))
    assert done.returncode == 2
    assert "does not run on" in done.stderr


# Stand for Android's programs on the device, with android_demo installed. `am` starts the activity
# as the real one does, and the activity takes a while and writes what AppTest says that it writes.
ANDROID = {
    "pm": """#!/bin/sh
[ "$1 $2" = "path org.kdedge.demo" ] || exit 1
echo package:{kept}/base.apk
""",
    "pidof": """#!/bin/sh
[ "$1" = org.kdedge.demo ] && [ -e {kept}/alive ]
""",
    "am": """#!{python}
import json, pathlib, subprocess, sys
kept = pathlib.Path("{kept}")
command = sys.argv[1:]
with open(kept / "am", "a") as file:
    print(json.dumps(command), file=file)
if command == ["force-stop", "org.kdedge.demo"]:
    (kept / "alive").unlink(missing_ok=True)
    sys.exit()
assert command[:4] == ["start", "-W", "-n", "org.kdedge.demo/.BenchmarkActivity"], command
if (kept / "no_activity").exists():
    print("Error type 3\\nError: Activity class {{org.kdedge.demo/org.kdedge.demo."
          "BenchmarkActivity}} does not exist.")
    sys.exit()
print("Starting: Intent {{ cmp=org.kdedge.demo/.BenchmarkActivity (has extras) }}\\nStatus: ok")
kinds = {{"--es": str, "--ei": int, "--ef": float}}
triples = zip(*[iter(command[4:])] * 3, strict=True)
extras = {{name: kinds[kind](value) for kind, name, value in triples}}
if (kept / "crash").exists():
    sys.exit()
(kept / "alive").touch()
if (kept / "hang").exists():
    sys.exit()
result = json.loads((kept / "result").read_text())
if "artifact" in result:
    result["artifact_sha256"] = extras["artifact"]
    for times in ("tokenize_ns", "infer_ns"):
        result[times] = (result[times] * extras["count"])[: extras["count"]]
(kept / "new").write_text(json.dumps(result))
subprocess.Popen(f"sleep 1.5; mv {kept}/new {kept}/files/benchmark.json", shell=True,
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
""",
}


@pytest.fixture
def app_phone(phone: Phone) -> Phone:
    for name, text in ANDROID.items():
        script = phone.folder / "bin" / name
        script.write_text(text.format(kept=phone.folder, python=sys.executable))
        script.chmod(0o755)
    (phone.folder / "base.apk").write_bytes(b"an APK")
    (phone.folder / "files").mkdir()
    shutil.copy(ROOT / "tests" / "golden" / "benchmark.json", phone.folder / "result")
    return phone


@pytest.mark.clients
def test_the_demo_app(app_phone: Phone) -> None:
    done = app_phone.bench("--app", "org.kdedge.demo")
    assert done.returncode == 0, done.stderr
    report = BenchReport.load(app_phone.report / "results.json")
    assert [m.name for m in report.measurements] == ["litert-float32", "onnx-float32"]
    first = report.measurements[0]
    assert [len(repeat.samples_ns) for repeat in first.repeats] == [64] * 3
    # 64 of 0.20, 0.21 ... 0.39, 0.20 ... ms, after 0.040, 0.041 ... 0.059, 0.040 ... ms.
    assert first.p50_ms == pytest.approx(0.29)
    assert first.tokenize_ms == pytest.approx(0.049)
    assert first.text_ms == pytest.approx(0.339)
    assert first.load_ms == 31 and first.first_inference_ms == 0.9
    assert "Tokenization takes 0.0490 ms of the 0.339" in " ".join(done.stdout.split())
    facts = report.environments[URL]
    assert facts["app"] == "org.kdedge.demo" and facts["LiteRT"] == "2.16.1"
    assert facts["SHA-256 of the APK"] == hashlib.sha256(b"an APK").hexdigest()

    commands = [json.loads(line) for line in (app_phone.folder / "am").read_text().splitlines()]
    starts = [command for command in commands if command[0] == "start"]
    # Each in a fresh process: three repeats of each model, of inference and of text to outputs.
    assert len(starts) == 12 and len(commands) == 36
    expected = (
        f"--es artifact {first.sha256} --ei count 64 --ef seconds 0.5 --ei warmup 16 "
        "--ef warmup_seconds 0.2 --ei threads 1 --es accelerator cpu"
    )
    assert starts[0][4:] == expected.split()
    assert not (app_phone.folder / "alive").exists()
    assert (first.used, first.placement) == (("cpu",), "")


ON_GPU = {"asked": "gpu", "used": "gpu", "share": 0.775, "reason": None}
FELL_BACK = {"asked": "gpu", "used": "cpu", "share": None, "reason": "its library is missing"}


@pytest.mark.clients
@pytest.mark.parametrize(
    ("ran", "used", "words"),
    [
        (ON_GPU, "gpu", "on the GPU, which took 77.5% of the operators"),
        (FELL_BACK, "cpu", "on the CPU instead of the GPU: its library is missing"),
        (None, "cpu", "on the CPU instead of the GPU: the app is too old"),
    ],
)
def test_the_report_says_which_processor_ran(
    app_phone: Phone, ran: dict[str, Any] | None, used: str, words: str
) -> None:
    result = json.loads((app_phone.folder / "result").read_text()) | {"accelerator": ran}
    if ran is None:
        del result["accelerator"]
    (app_phone.folder / "result").write_text(json.dumps(result))
    done = app_phone.bench("--app", "org.kdedge.demo", "--accelerator", "gpu", "--markdown")
    assert done.returncode == 0, done.stderr
    assert f"| litert-float32 ({words}) |" in done.stdout
    assert words in (app_phone.report / "report.html").read_text()
    report = BenchReport.load(app_phone.report / "results.json")
    # Only LiteRT runs on other processors than the CPU.
    (measured,) = report.measurements
    assert measured.used == (used,)
    assert measured.repeats[0].placement == measured.texts[0].placement
    assert report.environments[URL]["processor asked for"] == "GPU"
    assert '"--es", "accelerator", "gpu"' in (app_phone.folder / "am").read_text()


@pytest.mark.clients
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result", '{"error": "org.kdedge.BundleException: no artifact"}', "no artifact"),
        ("result", '{"format_version": 2}', "format_version 2"),
        ("result", '{"format_version": 1}', "no result of a benchmark"),
        (
            "result",
            '{"format_version": 1, "infer_ns": "%s", "accelerator": 7}' % ("-" * 64),
            "'int'",
        ),
        ("no_activity", "", "does not exist"),
        ("crash", "", "ended without a result"),
        ("hang", "", "not done after 3 s, and was stopped"),
    ],
)
def test_an_app_that_measures_nothing(
    app_phone: Phone, file: str, content: str, message: str
) -> None:
    (app_phone.folder / file).write_text(content)
    done = app_phone.bench("--app", "org.kdedge.demo")
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.clients
def test_no_such_app(app_phone: Phone) -> None:
    done = app_phone.bench("--app", "org.example")
    assert done.returncode == 2
    assert "org.example is not installed" in done.stderr


def test_two_programs_at_once() -> None:
    with pytest.raises(KdedgeError, match="--app: org.kdedge.demo beside --benchmark-model"):
        device_of(URL, benchmark_model=Path(__file__), app="org.kdedge.demo")


def test_an_accelerator_that_there_is_not() -> None:
    with pytest.raises(KdedgeError, match="--accelerator: there is no 'tpu'. Allowed: cpu, gpu, n"):
        device_of(URL, app="org.kdedge.demo", accelerator="tpu")


def test_no_such_benchmark_model(tmp_path: Path) -> None:
    missing: Any = tmp_path / "benchmark_model"
    with pytest.raises(KdedgeError, match="benchmark_model: .*: no such file"):
        device_of(URL, benchmark_model=missing)

"""Injects faults for real and counts what is lost, wrong or crashed.

    python benchmarks/reliability.py kills --tries 20       # of each stage; hours on 2 cores
    python benchmarks/reliability.py flips --tries 1000     # of a shard, a student and a bundle
    python benchmarks/reliability.py fuzz --seconds 60      # of each reader; pip install atheris
    python benchmarks/reliability.py table

What is in the folder runs/reliability already is not tried again; `table` writes it to
benchmarks/results/reliability.json and reliability.md.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "runs" / "reliability"
# What each stage of a run leaves; teacher and student are exported by the same code.
STAGES = {
    "teach": "teacher",
    "label": "soft_labels",
    "distill": "student",
    "export": "bundle",
    "bench": "results.json",
}
EPOCHS = 3
app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def kills(tries: int = 20) -> None:
    """`kill -9` at a random moment of each stage, then the same command again."""
    WORK.mkdir(parents=True, exist_ok=True)
    _tiny_recipe(WORK)
    _import_once()
    whole = WORK / "undisturbed"
    if not (whole / "measured.json").is_file():
        shutil.rmtree(whole, ignore_errors=True)
        _finish(whole)
        measured = {}
        for stage in STAGES:
            again = _without(whole, stage)
            start = time.monotonic()
            _finish(again)
            measured[stage] = {"seconds": time.monotonic() - start, "work": _work(again)}
            if differing := _differences(_made(again), _made(whole)):
                sys.exit(f"{stage} twice gives two results: {differing}")
        (whole / "measured.json").write_text(json.dumps(measured))
    measured = json.loads((whole / "measured.json").read_text())
    expected = _made(whole)
    for number in range(tries):
        for stage in STAGES:
            if not _recorded("kills", stage, number):
                result = _kill(whole, expected, stage, number, **measured[stage])
                _record("kills", stage, number, result)


@app.command()
def flips(tries: int = 1000) -> None:
    """A bit flipped at random in a file of a store, a student or a bundle, which is then loaded."""
    from kdedge import KdedgeError, SoftLabels, Student, load_bundle

    if not (WORK / "undisturbed" / "measured.json").is_file():
        sys.exit("flips needs what kills makes: python benchmarks/reliability.py kills")
    loaders: dict[str, tuple[str, Callable[[Path], object]]] = {
        "store": ("soft_labels", _load_store(SoftLabels)),
        "student": ("student", Student.load),
        "bundle": ("bundle", load_bundle),
    }
    for what, (name, load) in loaders.items():
        if _recorded("flips", what, tries):
            continue
        folder = WORK / "flipped"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(WORK / "undisturbed" / name, folder)
        load(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        rng, used, crashed = random.Random(what), [], []
        start = time.monotonic()
        for _ in range(tries):
            # Each file as often as the others, for the small ones say what the large ones are.
            path = rng.choice(files)
            content = path.read_bytes()
            bit = rng.randrange(8 * len(content))
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                load(folder)
                used.append(f"{path.name}, bit {bit}")
            except KdedgeError:
                pass
            except Exception as error:
                crashed.append(f"{path.name}, bit {bit}: {error!r}")
            path.write_bytes(content)
        load(folder)
        _record(
            "flips",
            what,
            tries,
            {"used": used, "crashed": crashed, "seconds": time.monotonic() - start},
        )
        print(what, tries, "used:", used[:5], "crashed:", crashed[:5], flush=True)


@app.command()
def fuzz(seconds: int = 60) -> None:
    """Feed each reader what atheris finds, guided by coverage; 10 s and 1 GB are the limits."""
    import atheris

    from kdedge.cli.common import load_tensorflow

    load_tensorflow()
    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=["kdedge"], enable_loader_override=False):
        from benchmarks.readers import READERS, RUNTIMES
    for name in READERS | RUNTIMES:
        if not _recorded("fuzz", name, seconds):
            result = _fuzz_one(name, seconds)
            _record("fuzz", name, seconds, result)
            print(name, {k: v for k, v in result.items() if k != "said"}, flush=True)


def _fuzz_one(name: str, seconds: int) -> dict[str, Any]:
    import atheris

    from benchmarks.readers import READERS, RUNTIMES, SEEDS
    from kdedge import KdedgeError

    work = WORK / "fuzz" / name.replace(" ", "_")
    shutil.rmtree(work, ignore_errors=True)
    (work / "seeds").mkdir(parents=True)
    for number, seed in enumerate(SEEDS[name]):
        (work / "seeds" / str(number)).write_bytes(seed)
    here = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20
    log = work / "log"

    def read(content: bytes) -> None:
        folder = work / "read"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with contextlib.suppress(KdedgeError):
            (READERS | RUNTIMES)[name](content, folder)

    child = os.fork()
    if not child:
        file = os.open(log, os.O_CREAT | os.O_WRONLY)
        os.dup2(file, 1)
        os.dup2(file, 2)
        limits = [
            f"-max_total_time={seconds}", "-timeout=10", f"-rss_limit_mb={here + 1024}",
            "-print_final_stats=1", "-max_len=20000", f"-artifact_prefix={work}/",
        ]  # fmt: skip
        atheris.Setup([name, *limits, str(work / "seeds")], read)
        atheris.Fuzz()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    said = log.read_text(errors="replace")
    count = re.search(r"number_of_executed_units: (\d+)", said)
    crashed = status != 0
    result = {"executions": int(count[1]) if count else 0, "seconds": seconds, "crashed": crashed}
    return result | ({"said": said[-3000:]} if crashed else {})


def _load_store(kind: Any) -> Callable[[Path], object]:
    def load(folder: Path) -> None:
        store = kind(folder)
        store.encoder()
        store.token_vectors()

    return load


def _kill(
    whole: Path, expected: dict[str, str], stage: str, number: int, seconds: float, work: int
) -> dict[str, Any]:
    rng, finished = random.Random(f"{stage} {number}"), True
    for _ in range(5):
        out = _without(whole, stage)
        moment = rng.uniform(0, seconds)
        child, start = _start(out), time.monotonic()
        finished = False
        while not finished and time.monotonic() - start < moment:
            time.sleep(0.01)
            finished = os.waitpid(child, os.WNOHANG)[0] != 0
        if not finished:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        # Faster than it was before: too late for a kill.
        seconds = time.monotonic() - start
    half = _half_files(out, expected)
    saved = _saved(out, stage, work)
    (out / "work").unlink(missing_ok=True)
    code, said = _finish(out, check=False)
    again = _work(out)
    kept = work if f"{stage}: done already" in said else saved
    result = {
        "moment, s": round(moment, 2),
        "finished before": finished,
        "crashed": code != 0,
        "lost": again > work - kept,
        "wrong": half + (_differences(_made(out), expected) if code == 0 else []),
        "saved": saved,
        "done again": again,
    }
    if code or result["wrong"] or result["lost"]:
        result["said"] = said[-2000:]
    print(stage, number, {k: v for k, v in result.items() if k != "said"}, flush=True)
    return result


def _tiny_recipe(folder: Path) -> None:
    """A recipe of seconds: a BERT of 2 layers and 32 units with random weights, 400 texts."""
    if not (folder / "bert").exists():
        code = (
            "import conftest, pathlib, sys; folder = pathlib.Path(sys.argv[1]); "
            "conftest.write_reviews(folder / 'texts.csv'); conftest.make_tiny_bert(folder / 'bert')"
        )
        subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=ROOT / "tests")
    (folder / "tiny.toml").write_text(f"""
        name = "tiny"
        data = {{ path = "texts.csv" }}
        teach = {{ pretrained = "{folder / "bert"}", epochs = 2, batch_size = 8, max_length = 24 }}
        label = {{ augmented = 1000, batch_size = 8 }}
        distill = {{ student = "nano", epochs = {EPOCHS}, batch_size = 16, max_length = 24 }}
        bench = {{ tier = "quick" }}
        [export]
        artifacts = ["litert-float32", "litert-int8", "onnx-float32"]
        lengths = [24]
        max_accuracy_drop = 50
        teacher_artifacts = ["litert-int8"]
    """)


def _import_once() -> None:
    """What a run needs, so that a try costs no start of TensorFlow; nothing of it is run yet."""
    from kdedge.cli.common import load_tensorflow

    load_tensorflow()
    import kdedge.bench.measure as measure
    import kdedge.labels.store as soft_labels
    import kdedge.pipeline  # noqa: F401
    import kdedge.teachers.label as labelling
    import kdedge.training.resumable as resumable

    # Often, so that a kill in the middle leaves something to go on from.
    resumable.SECONDS_BETWEEN_CHECKPOINTS = 0.2
    labelling.TEXTS_A_SHARD = 128
    _count_steps(resumable)
    _count_calls(soft_labels.SoftLabels, "add")
    _count_calls(measure, "_checked")


def _count_steps(resumable: Any) -> None:
    """Write a byte to `work` in the run's folder for each step of a training."""
    shown = resumable.progress

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Any]:
        with shown(*arguments) as advance:

            def advance_and_count(count: int, /, note: str = "") -> None:
                _worked()
                advance(count, note)

            yield advance_and_count

    resumable.progress = watched


def _count_calls(owner: Any, name: str) -> None:
    """Write a byte to `work` in the run's folder for each call that succeeded."""
    function = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        _worked()
        return result

    setattr(owner, name, counted)


def _worked() -> None:
    with Path(os.environ["RELIABILITY_OUT"], "work").open("ab") as file:
        file.write(b".")


def _start(out: Path) -> int:
    """`kdedge run` in a process and a process group of its own."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        log = os.open(f"{out}.log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["RELIABILITY_OUT"] = str(out)
        from kdedge.cli import app as kdedge

        kdedge(["run", str(WORK / "tiny.toml"), "--out", str(out)])
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        os._exit(code)


def _finish(out: Path, check: bool = True) -> tuple[int, str]:
    _, status = os.waitpid(_start(out), 0)
    code = os.waitstatus_to_exitcode(status)
    said = Path(f"{out}.log").read_text()
    if check and code:
        sys.exit(said)
    return code, said


def _without(whole: Path, stage: str) -> Path:
    """A copy of a whole run in which one stage has not been done."""
    out = WORK / "try"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(whole, out)
    (out / "work").unlink(missing_ok=True)
    result = out / STAGES[stage]
    shutil.rmtree(result) if result.is_dir() else result.unlink()
    stages = json.loads((out / "stages.json").read_text())
    del stages[stage]
    (out / "stages.json").write_text(json.dumps(stages))
    return out


def _made(out: Path) -> dict[str, str]:
    """SHA-256 of all that a run made, but for what holds times, names of the day and the like."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file():
            for content in _contents(path):
                found[name] = _sha256(content)
    return found


def _contents(path: Path) -> Iterator[bytes]:
    """What of a file is the same in each run; nothing of one that is all times."""
    if path.name in ("work", ".lock", "stages.json", "measured.json", "report.html"):
        return
    if path.suffix == ".svg":
        return
    if path.name == "results.json":
        report = json.loads(path.read_text())
        kept = [
            [m["name"], m["score"], m["length"], len(m["repeats"])] for m in report["measurements"]
        ]
        yield json.dumps([kept, report["failures"]]).encode()
    else:
        yield path.read_bytes()


@app.command()
def table() -> None:
    """Write what was found to benchmarks/results/."""
    rows = []
    for stage in STAGES:
        found = [r for r in _records("kills") if r["what"] == stage and not r["finished before"]]
        rows.append(
            {
                "fault": f"kill -9 in {stage}, then the same command",
                "tried": len(found),
                "lost": sum(r["lost"] for r in found),
                "wrong": sum(bool(r["wrong"]) for r in found),
                "crashed": sum(r["crashed"] for r in found),
            }
        )
    for r in _records("flips"):
        rows.append(
            {
                "fault": f"bit flipped in a {r['what']}",
                "tried": r["number"],
                "lost": "",
                "wrong": len(r["used"]),
                "crashed": len(r["crashed"]),
            }
        )
    for r in _records("fuzz"):
        rows.append(
            {
                "fault": f"fuzzed: {r['what']}, {r['seconds']} s",
                "tried": r["executions"],
                "lost": "",
                "wrong": "",
                "crashed": int(r["crashed"]),
            }
        )
    kinds = {kind: _records(kind) for kind in ("kills", "flips", "fuzz")}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"rows": rows, **kinds}, indent=2) + "\n"
    (RESULTS / "reliability.json").write_text(text, encoding="utf-8")
    columns = ("fault", "tried", "lost", "wrong", "crashed")
    lines = [f"| {' | '.join(str(row[c]) for c in columns)} |" for row in rows]
    head = [f"| {' | '.join(columns)} |", "|---|---:|---:|---:|---:|"]
    (RESULTS / "reliability.md").write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def _half_files(out: Path, expected: dict[str, str]) -> list[str]:
    """Files under their final names that are not as in an undisturbed run, by their content."""
    wrong = []
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if not path.is_file() or any(part.startswith(".") for part in Path(name).parts):
            continue
        try:
            parts = list(_contents(path))
        except (OSError, ValueError, KeyError):
            wrong.append(f"{name} is half")
            continue
        for content in parts:
            # The list of a store's files grows as they come.
            growing = name == "soft_labels/checksums.sha256"
            if name in expected and expected[name] != _sha256(content) and not growing:
                wrong.append(f"{name} after the kill")
    return wrong


def _saved(out: Path, stage: str, work: int) -> int:
    """How much of the stage's work is kept: steps, shards, answers."""
    if stage == "label":
        return len(list((out / "soft_labels").glob("part-*")))
    if stage == "bench":
        return len(list((out / "measured").glob("*.json")))
    state = out / f".{STAGES[stage]}.checkpoints" / "state.json"
    if stage not in ("teach", "distill") or not state.is_file():
        return 0
    kept = json.loads(state.read_text())
    return int(kept["step"]) if stage == "teach" else len(kept["history"]) * work // EPOCHS


def _work(out: Path) -> int:
    """How many steps, shards or answers a run has made."""
    path = out / "work"
    return path.stat().st_size if path.exists() else 0


def _differences(made: dict[str, str], expected: dict[str, str]) -> list[str]:
    return sorted(k for k in made.keys() | expected.keys() if made.get(k) != expected.get(k))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _recorded(kind: str, what: str, number: int) -> bool:
    return any(r["what"] == what and r["number"] == number for r in _records(kind))


def _record(kind: str, what: str, number: int, result: dict[str, Any]) -> None:
    with (WORK / f"{kind}.jsonl").open("a") as file:
        file.write(json.dumps({"what": what, "number": number} | result) + "\n")


def _records(kind: str) -> list[dict[str, Any]]:
    path = WORK / f"{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


if __name__ == "__main__":
    app()

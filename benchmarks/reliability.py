"""Injects faults for real and counts what is lost, wrong or crashed.

    python benchmarks/reliability.py kills --tries 20       # of each stage; hours on 2 cores
    python benchmarks/reliability.py flips --tries 1000     # of a shard, a student and a bundle
    python benchmarks/reliability.py fuzz --seconds 60      # of each reader; pip install atheris
    python benchmarks/reliability.py table

What is in the folder runs/reliability already is not tried again. Works on a tiny recipe of its
own, unless --recipe names another.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import MOVIE_REVIEWS, ROOT, Figures, Setup, asked, cli, emptied, needed
from kdedge import KdedgeError
from kdedge.bench.report.tables import markdown

# What each stage of a run leaves; teacher and student are exported by the same code.
STAGES = {
    "teach": "teacher",
    "label": "soft_labels",
    "distill": "student",
    "export": "bundle",
    "bench": "results.json",
}
COLUMNS = ("fault", "tried", "lost", "wrong", "crashed")
# A recipe of seconds: a BERT of 2 layers and 32 units with random weights, 400 texts.
TINY = """
    name = "tiny"
    data = {{ path = "texts.csv" }}
    teach = {{ pretrained = "{bert}", epochs = 2, batch_size = 8, max_length = 24 }}
    label = {{ augmented = 1000, batch_size = 8 }}
    distill = {{ student = "nano", epochs = 3, batch_size = 16, max_length = 24 }}
    bench = {{ tier = "quick" }}
    [export]
    artifacts = ["litert-float32", "litert-int8", "onnx-float32"]
    lengths = [24]
    max_accuracy_drop = 50
    teacher_artifacts = ["litert-int8"]
"""


def main() -> None:
    """Inject the faults that were asked for, or write what was found."""
    kinds = {"kills": kills, "flips": flips, "fuzz": fuzz, "table": table}
    setup, given = asked("reliability", __doc__, "kinds", tries=0, seconds=60)
    if not given.kinds or {*given.kinds} - {*kinds}:
        raise KdedgeError(f"kinds: {' '.join(given.kinds) or 'none'}. Allowed: {', '.join(kinds)}.")
    setup.work.mkdir(parents=True, exist_ok=True)
    for kind in given.kinds:
        kinds[kind](setup, given)


def table(setup: Setup, given: Any) -> None:
    """Write what was found."""
    found = {kind: records(setup, kind) for kind in ("kills", "flips", "fuzz")}
    setup.keep(setup.about() | {"rows": rows(found)} | found, page)


def rows(found: dict[str, list[Figures]]) -> list[Figures]:
    """The table of what was tried."""
    lines: list[tuple[object, ...]] = []
    for stage in STAGES:
        tries = [r for r in found["kills"] if r["what"] == stage and not r["finished before"]]
        lost, wrong, crashed = (sum(map(bool, (r[key] for r in tries))) for key in COLUMNS[2:])
        fault = f"kill -9 in {stage}, then the same command"
        lines.append((fault, len(tries), lost, wrong, crashed))
    for r in found["flips"]:
        fault = f"bit flipped in a {r['what']}"
        lines.append((fault, r["number"], "", len(r["used"]), len(r["crashed"])))
    for r in found["fuzz"]:
        fault = f"fuzzed: {r['what']}, {r['seconds']} s"
        lines.append((fault, r["executions"], "", "", int(r["crashed"])))
    return [dict(zip(COLUMNS, line, strict=True)) for line in lines]


def page(result: Figures) -> str:
    """The table."""
    return markdown(COLUMNS, [[str(row[column]) for column in COLUMNS] for row in result["rows"]])


# Kills


def kills(setup: Setup, given: Any) -> None:
    """`kill -9` at a random moment of each stage, then the same command again."""
    run = Run(setup)
    whole = run.folder / "undisturbed"
    if not (whole / "measured.json").is_file():
        run.finish(emptied(whole))
        measured = {}
        for stage in STAGES:
            again, start = run.without(stage), time.monotonic()
            run.finish(again)
            measured[stage] = {"seconds": time.monotonic() - start, "work": work_of(again)}
            if differing := differences(made(again), made(whole)):
                sys.exit(f"{stage} twice gives two results: {differing}")
        (whole / "measured.json").write_text(json.dumps(measured))
    measured, expected = json.loads((whole / "measured.json").read_text()), made(whole)
    for number in range(given.tries or 20):
        for stage in STAGES:
            if not recorded(setup, "kills", stage, number):
                result = kill(run, expected, stage, number, **measured[stage])
                record(setup, "kills", stage, number, result)


class Run:
    """Runs of a recipe, in processes of their own that need no start of TensorFlow."""

    def __init__(self, setup: Setup) -> None:
        self.folder, self.recipe = setup.work, setup.path
        if self.recipe.resolve() == MOVIE_REVIEWS:
            self.recipe = tiny_recipe(setup.work)
        # What a run needs is imported once; nothing of it is run yet.
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
        count_steps(resumable)
        count_calls(soft_labels.SoftLabels, "add")
        # Of an answer that is kept.
        count_calls(measure, "write_text")

    def start(self, out: Path) -> int:
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

            kdedge(["run", str(self.recipe), "--out", str(out)])
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            os._exit(code)

    def finish(self, out: Path, check: bool = True) -> tuple[int, str]:
        """Run to the end; gives the exit status and what was said."""
        _, status = os.waitpid(self.start(out), 0)
        code, said = os.waitstatus_to_exitcode(status), Path(f"{out}.log").read_text()
        if check and code:
            sys.exit(said)
        return code, said

    def without(self, stage: str) -> Path:
        """A copy of the whole run in which one stage has not been done."""
        out = emptied(self.folder / "try")
        shutil.copytree(self.folder / "undisturbed", out)
        (out / "work").unlink(missing_ok=True)
        result = out / STAGES[stage]
        shutil.rmtree(result) if result.is_dir() else result.unlink()
        stages = json.loads((out / "stages.json").read_text())
        del stages[stage]
        (out / "stages.json").write_text(json.dumps(stages))
        return out


def kill(
    run: Run, expected: dict[str, str], stage: str, number: int, seconds: float, work: int
) -> Figures:
    """Kill a run once, finish it and say what came of it.

    Args:
        run: of the recipe.
        expected: what an undisturbed run made.
        stage: that is killed.
        number: of the try.
        seconds: that the stage takes.
        work: steps, shards or answers that it makes.
    """
    rng, finished = random.Random(f"{stage} {number}"), True
    for _ in range(5):
        out, moment = run.without(stage), rng.uniform(0, seconds)
        child, start, finished = run.start(out), time.monotonic(), False
        while not finished and time.monotonic() - start < moment:
            time.sleep(0.01)
            finished = os.waitpid(child, os.WNOHANG)[0] != 0
        if not finished:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        # Faster than it was before: too late for a kill.
        seconds = time.monotonic() - start
    half, saved = half_files(out, expected), saved_of(out, stage, work)
    (out / "work").unlink(missing_ok=True)
    code, said = run.finish(out, check=False)
    again, kept = work_of(out), work if f"{stage}: done already" in said else saved
    result = {
        "moment, s": round(moment, 2),
        "finished before": finished,
        "crashed": code != 0,
        "lost": again > work - kept,
        "wrong": half + (differences(made(out), expected) if code == 0 else []),
        "saved": saved,
        "done again": again,
    }
    print(stage, number, result, flush=True)
    doubtful = code or result["wrong"] or result["lost"]
    return result | ({"said": said[-2000:]} if doubtful else {})


def tiny_recipe(folder: Path) -> Path:
    """The recipe, with its teacher and its texts."""
    bert, recipe = folder / "bert", folder / "tiny.toml"
    if not bert.exists():
        code = (
            "import conftest, pathlib, sys; folder = pathlib.Path(sys.argv[1]); "
            "conftest.write_reviews(folder / 'texts.csv'); conftest.make_tiny_bert(folder / 'bert')"
        )
        subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=ROOT / "tests")
    recipe.write_text(TINY.format(bert=bert))
    return recipe


def count_steps(resumable: Any) -> None:
    """Write a byte to `work` in the run's folder for each step of a training."""
    shown = resumable.progress

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Any]:
        with shown(*arguments) as advance:

            def advance_and_count(count: int, /, note: str = "") -> None:
                worked()
                advance(count, note)

            yield advance_and_count

    resumable.progress = watched


def count_calls(owner: Any, name: str) -> None:
    """Write a byte to `work` in the run's folder for each call that succeeded."""
    function = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        worked()
        return result

    setattr(owner, name, counted)


def worked() -> None:
    """Count a step, a shard or an answer."""
    with Path(os.environ["RELIABILITY_OUT"], "work").open("ab") as file:
        file.write(b".")


def work_of(out: Path) -> int:
    """How many steps, shards or answers a run has made."""
    path = out / "work"
    return path.stat().st_size if path.exists() else 0


def saved_of(out: Path, stage: str, work: int) -> int:
    """How much of the stage's work is kept: steps, shards, answers."""
    if stage == "label":
        return len(list((out / "soft_labels").glob("part-*")))
    if stage == "bench":
        return len(list((out / "measured").glob("*.json")))
    state = out / f".{STAGES[stage]}.checkpoints" / "state.json"
    if stage not in ("teach", "distill") or not state.is_file():
        return 0
    kept = json.loads(state.read_text())
    if stage == "teach":
        return int(kept["step"])
    whole = json.loads((out.parent / "undisturbed" / "student" / "student.json").read_text())
    return len(kept["history"]) * work // len(whole["history"])


def made(out: Path) -> dict[str, str]:
    """SHA-256 of all that a run made, but for what holds times, names of the day and the like."""
    return {
        str(path.relative_to(out)): hashlib.sha256(content).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and (content := same_each_time(path)) is not None
    }


def same_each_time(path: Path) -> bytes | None:
    """What of a file is the same in each run, if anything is."""
    times = ("work", ".lock", "stages.json", "measured.json", "report.html")
    if path.name in times or path.suffix == ".svg":
        return None
    if path.name == "results.json":
        report = json.loads(path.read_text())
        figures = ([m["name"], m["score"], m["length"]] for m in report["measurements"])
        return json.dumps([*figures, report["failures"]]).encode()
    return path.read_bytes()


def half_files(out: Path, expected: dict[str, str]) -> list[str]:
    """Files under their final names that are not as in an undisturbed run, by their content."""
    wrong = []
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if not path.is_file() or any(part.startswith(".") for part in Path(name).parts):
            continue
        try:
            content = same_each_time(path)
        except (OSError, ValueError, KeyError):
            wrong.append(f"{name} is half")
            continue
        # The list of a store's files grows as they come.
        if content is None or name not in expected or name == "soft_labels/checksums.sha256":
            continue
        if expected[name] != hashlib.sha256(content).hexdigest():
            wrong.append(f"{name} after the kill")
    return wrong


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names of what is not the same."""
    return sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))


# Bits


def flips(setup: Setup, given: Any) -> None:
    """A bit flipped at random in a file of a store, a student or a bundle, which is then loaded."""
    from kdedge import SoftLabels, Student, load_bundle

    def load_store(folder: Path) -> None:
        store = SoftLabels(folder)
        store.encoder()
        store.token_vectors()

    whole = setup.work / "undisturbed"
    needed(whole / "measured.json", "python benchmarks/reliability.py kills")
    loaders: dict[str, tuple[str, Callable[[Path], object]]] = {
        "store": ("soft_labels", load_store),
        "student": ("student", Student.load),
        "bundle": ("bundle", load_bundle),
    }
    tries = given.tries or 1000
    for what, (name, load) in loaders.items():
        if not recorded(setup, "flips", what, tries):
            folder = emptied(setup.work / "flipped")
            shutil.copytree(whole / name, folder)
            record(setup, "flips", what, tries, flipped(folder, load, tries, random.Random(what)))


def flipped(
    folder: Path, load: Callable[[Path], object], tries: int, rng: random.Random
) -> Figures:
    """Flip a bit and load, as often as that; which flips went unnoticed, and which crashed."""
    load(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    used, crashed, start = [], [], time.monotonic()
    for _ in range(tries):
        # Each file as often as the others, for the small ones say what the large ones are.
        path = rng.choice(files)
        content = path.read_bytes()
        bit = rng.randrange(8 * len(content))
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            load(folder)
            used.append(f"{path.name}, bit {bit}")
        except KdedgeError:
            pass
        except Exception as error:
            crashed.append(f"{path.name}, bit {bit}: {error!r}")
        path.write_bytes(content)
    load(folder)
    return {"used": used, "crashed": crashed, "seconds": time.monotonic() - start}


# Files that a fuzzer makes


def fuzz(setup: Setup, given: Any) -> None:
    """Feed each reader what atheris finds, guided by coverage; 10 s and 1 GB are the limits."""
    import atheris

    from kdedge.cli.common import load_tensorflow

    load_tensorflow()
    with atheris.instrument_imports(include=["kdedge"], enable_loader_override=False):
        from benchmarks.readers import READERS, RUNTIMES
    for name in READERS | RUNTIMES:
        if not recorded(setup, "fuzz", name, given.seconds):
            result = fuzzed(setup, name, given.seconds)
            record(setup, "fuzz", name, given.seconds, result)


def fuzzed(setup: Setup, name: str, seconds: int) -> Figures:
    """How often a reader was fed in a process of its own, and whether that crashed."""
    import atheris

    from benchmarks.readers import READERS, RUNTIMES, SEEDS

    work = emptied(setup.work / "fuzz" / name.replace(" ", "_"))
    (work / "seeds").mkdir(parents=True)
    for number, seed in enumerate(SEEDS[name]):
        (work / "seeds" / str(number)).write_bytes(seed)
    here = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20
    log = work / "log"

    def read(content: bytes) -> None:
        folder = emptied(work / "read")
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
    executions, crashed = int(count[1]) if count else 0, status != 0
    result = {"executions": executions, "seconds": seconds, "crashed": crashed}
    return result | ({"said": said[-3000:]} if crashed else {})


# What was tried


def recorded(setup: Setup, kind: str, what: str, number: int) -> bool:
    """Whether it was tried already."""
    return any(r["what"] == what and r["number"] == number for r in records(setup, kind))


def record(setup: Setup, kind: str, what: str, number: int, result: Figures) -> None:
    """Keep what came of a try."""
    with (setup.work / f"{kind}.jsonl").open("a") as file:
        file.write(json.dumps({"what": what, "number": number} | result) + "\n")


def records(setup: Setup, kind: str) -> list[Figures]:
    """All tries of a kind."""
    path = setup.work / f"{kind}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


if __name__ == "__main__":
    cli(main)

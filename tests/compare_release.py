"""Compares what release 0.1.0 and the working tree write, on this machine.

    python tests/compare_release.py                # the quick recipe and each preset, in both
    python tests/compare_release.py --out DIR      # keeps the release's side for the next time
    python tests/compare_release.py --twice        # the tree's quick recipe twice: equal bytes?

Needs git, the commit of the release and an interpreter with kdedge's dev extra. Exits with 1 if
anything differs that is not in EXPECTED.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file

COMMIT = "9809e561b361ba298d5ddbe4f23e75ec1381275e"
ROOT = Path(__file__).resolve().parent.parent

# What may differ, as "what: how" in the table, and why; CHANGELOG.md explains it to users.
EXPECTED = {
    "*/student.keras: metadata.json: date_saved: *": "Keras writes when a model was saved",
    "*/student.keras: config.json: *.module: kdedge.students.layers -> kdedge.layers.*": (
        "moved; Keras finds a layer by its registered name, which stays"
    ),
    "*/student.keras: config.json: *.shared_object_id: *": "an address in memory",
    "*/student.json: settings.losses: absent -> {}": "a setting that 0.1.0 lacks",
    "*: format_version: *": "they name their task",
    "*: task.name: absent -> classification": "they name their task",
    "*/manifest.json: *.score.metric: absent -> accuracy": "they name their task's metric",
    "*/manifest.json: artifacts.*.p50_ms: *": "a timing",
    "*/manifest.json: defaults.*: *": "0.1.0 chose them by p50_ms",
}

# JSON keys that 0.1.0 has under another name: file -> (regular expression, present name).
RENAMED = {
    "store.json": [("^label_names", "task.label_names")],
    "student.json": [("^label_names", "task.label_names")],
    "manifest.json": [("^labels", "task.label_names"), (r"\baccuracy\b", "score")],
}

PRESETS = ("nano", "micro", "mini", "mini-cut")
FEW = "litert-float32,litert-int8,onnx-float32,onnx-int8"
# What 0.1.0 runs, in a folder of its side's own, beside which are bert/ and reviews.csv.
COMMANDS = {
    "quick": "run {tree}/recipes/quick.toml --out quick",
    "teach": "teach ../reviews.csv --pretrained ../bert --epochs 1 --max-length 24 --out teacher",
    "label": "label ../reviews.csv --teacher teacher --out soft_labels",
    **{
        f"distill {preset}": f"distill ../reviews.csv --soft-labels soft_labels --epochs 1 "
        f"--student {preset} --out {preset}/student"
        + (" --teacher teacher" if preset == "mini-cut" else "")
        for preset in PRESETS
    },
    "compress": "compress nano/student --soft-labels soft_labels --method pruning-clustering "
    "--clusters 8 --out compressed/student",
    **{
        f"export {name}": f"export {name}/student --max-accuracy-drop 100 --out {name}/bundle "
        f"--artifacts {'all' if name == 'nano' else FEW}"
        for name in (*PRESETS, "compressed")
    },
}
# What the working tree runs instead. It trains other teachers than 0.1.0 (CHANGELOG.md), so its
# students learn from the release's soft labels, and those that need a teacher have the release's.
CHANGED = {
    name: command.replace("soft_labels", "../release/soft_labels").replace(
        "--teacher teacher", "--teacher ../release/teacher"
    )
    for name, command in COMMANDS.items()
    if name.startswith(("distill", "compress"))
}

# The files of each side that are compared. Teachers, soft labels and whole runs differ.
FOLDERS = tuple(
    f"{name}/{made}" for name in (*PRESETS, "compressed") for made in ("student", "bundle")
)
# Copies of what is compared.
LEFT_OUT = "checksums.sha256"
SECONDS = {"quick": 1800}
SECONDS_OF_OTHERS = 600

INPUTS = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from conftest import make_tiny_bert, write_reviews
write_reviews(Path("reviews.csv"))
make_tiny_bert(Path("bert"))
"""

Rows = Iterator[tuple[str, str]]
EQUAL = "equal"


def main() -> None:
    """Run what the command line asks for, print the table, and exit."""
    parser = argparse.ArgumentParser(description="Compare release 0.1.0 with the working tree.")
    parser.add_argument("--out", type=Path, help="folder to keep; default: a temporary one")
    parser.add_argument("--twice", action="store_true", help="the tree's quick recipe, twice")
    given = parser.parse_args()
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        sys.exit(twice(given.out.resolve()) if given.twice else side_by_side(given.out.resolve()))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(twice(Path(folder)) if given.twice else side_by_side(Path(folder)))


def side_by_side(out: Path) -> int:
    """Run both sides and print how they differ; 1 if it was not expected."""
    done = out / "release" / "done"
    if not done.is_file() or done.read_text() != json.dumps(COMMANDS):
        for name in ("tree-0.1.0", "release", "bert"):
            shutil.rmtree(out / name, ignore_errors=True)
        checkout(out / "tree-0.1.0")
        tests = str(out / "tree-0.1.0" / "tests")
        run(["-c", INPUTS, tests], out / "tree-0.1.0", out, "inputs", 300)
        run_all(COMMANDS, out / "tree-0.1.0", out / "release")
        done.write_text(json.dumps(COMMANDS))
    run_all({**COMMANDS, **CHANGED}, ROOT, out / "working")

    found = [
        row
        for folder in FOLDERS
        for row in folders(out / "release" / folder, out / "working" / folder, folder)
    ]
    width = max(len(what) for what, _ in found)
    unexpected = []
    for what, how in found:
        row = f"{what}: {how}"
        reason = next((why for pattern, why in EXPECTED.items() if fnmatch(row, pattern)), None)
        if how.startswith(EQUAL) or reason:
            print(f"{what:{width}}  {how}{f'  (expected: {reason})' if reason else ''}")
        else:
            unexpected.append(f"{what:{width}}  {how}")
    print(f"\n{len(found)} compared; {len(unexpected)} differ and are not expected to:")
    print("\n".join(unexpected) or "none")
    return 1 if unexpected else 0


def twice(out: Path) -> int:
    """Run the tree's quick recipe twice; 1 if the bundles' bytes differ."""
    command = {**COMMANDS, **CHANGED}["quick"]
    for side in ("first", "second"):
        run_all({"quick": command}, ROOT, out / side)
    differ = 0
    for made in ("student", "teacher_bundle", "bundle"):
        first, second = (out / side / "quick" / made for side in ("first", "second"))
        for name in sorted(files(first).keys() | files(second).keys()):
            a, b = files(first).get(name), files(second).get(name)
            equal = a and b and a.read_bytes() == b.read_bytes()
            differ += not equal and made == "bundle"
            print(f"{f'{made}/{name}':50}  {EQUAL if equal else 'DIFFERS'}")
    print(f"\nThe two bundles have {'other' if differ else 'equal'} bytes.")
    return 1 if differ else 0


def checkout(folder: Path) -> None:
    """Write the release's files to a new folder."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT], capture_output=True, timeout=120
    )
    if archive.returncode:
        sys.exit(f"{archive.stderr.decode()}git fetch --unshallow, or: git fetch origin {COMMIT}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as content:
        content.extractall(folder, filter="data")


def run_all(commands: dict[str, str], tree: Path, folder: Path) -> None:
    """Run commands of one side's kdedge in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    where = "import kdedge; print(kdedge.__file__)"
    run(["-c", where], tree, folder, "where", 60)
    if not Path((folder / "where.log").read_text().strip()).is_relative_to(tree):
        sys.exit(f"{folder}/where.log: this kdedge is not the one of {tree}.")
    program = "from kdedge.cli import app; app()"
    for name, command in commands.items():
        arguments = [part.format(tree=tree) for part in command.split()]
        limit = SECONDS.get(name, SECONDS_OF_OTHERS)
        run(["-c", program, *arguments], tree, folder, name, limit)


def run(arguments: list[str], tree: Path, folder: Path, name: str, limit: int) -> None:
    """Run Python with a tree's modules; at the limit it ends, with all that it started."""
    start, log = time.monotonic(), folder / f"{name.replace(' ', '-')}.log"
    environment = {**os.environ, "PYTHONPATH": str(tree), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=None if name == "where" else file,
            start_new_session=True,
        )
        try:
            status: int | str = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = f"not done after {limit} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(60)
    if status:
        sys.exit(f"{folder.name}: {name}: {status}\n{log.read_text()[-3000:]}")
    print(f"{folder.name}: {name}: {time.monotonic() - start:.0f} s", file=sys.stderr)


def files(folder: Path) -> dict[str, Path]:
    """The files below a folder by path; of shards without the checksum in the name."""
    return {
        re.sub(r"-[0-9a-f]{16}(?=\.parquet$)", "", path.relative_to(folder).as_posix()): path
        for path in folder.rglob("*")
        if path.is_file()
    }


def folders(old: Path, new: Path, what: str) -> Rows:
    """How two folders differ: (what, how) of each file, of JSON of each key that differs."""
    olds, news = files(old), files(new)
    if not olds and not news:
        yield what, "in neither"
    for name in sorted(olds.keys() | news.keys()):
        if name == LEFT_OUT:
            continue
        thing = f"{what}/{name}"
        if name not in news or name not in olds:
            yield thing, f"only in {'0.1.0' if name in olds else 'the working tree'}"
            continue
        a, b = olds[name], news[name]
        if a.suffix == ".json":
            yield from values(json.loads(a.read_bytes()), json.loads(b.read_bytes()), thing)
        elif a.suffix == ".keras":
            yield from models(a, b, thing)
        elif a.read_bytes() == b.read_bytes():
            yield thing, f"{EQUAL}, {a.stat().st_size} bytes"
        else:
            yield thing, f"{a.stat().st_size} -> {b.stat().st_size} bytes; {arrays(a, b)}"


def values(old: Any, new: Any, what: str) -> Rows:
    """How two JSON values differ, key by key; accuracy is always listed."""
    olds, news = flat(old), flat(new)
    for pattern, now in RENAMED.get(Path(what).name, ()):
        olds = {re.sub(pattern, now, key): value for key, value in olds.items()}
    differ = [key for key in {**olds, **news} if olds.get(key, "absent") != news.get(key, "absent")]
    for key in differ:
        yield f"{what}: {key}", f"{olds.get(key, 'absent')} -> {news.get(key, 'absent')}"
    if not differ:
        yield what, f"{EQUAL}, {len(olds)} keys"
    if "accuracy" in olds and "accuracy" not in differ:
        yield f"{what}: accuracy", f"{EQUAL}, {olds['accuracy']}"


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """A JSON value's leaves by key: artifacts.litert-int8.bytes."""
    if not isinstance(value, dict | list) or not value:
        return {key: value}
    pairs = (
        value.items()
        if isinstance(value, dict)
        else (
            (item["name"] if isinstance(item, dict) and "name" in item else i, item)
            for i, item in enumerate(value)
        )
    )
    leaves: dict[str, Any] = {}
    for name, item in pairs:
        leaves |= flat(item, f"{key}.{name}" if key else str(name))
    return leaves


def models(old: Path, new: Path, what: str) -> Rows:
    """How two .keras files differ, but for addresses in memory."""
    with zipfile.ZipFile(old) as a, zipfile.ZipFile(new) as b:
        for name in ("metadata.json", "config.json"):
            olds, news = (with_small_ids(file.read(name).decode()) for file in (a, b))
            yield from values(json.loads(olds), json.loads(news), f"{what}: {name}")
    yield f"{what}: weights", arrays(old, new)


def with_small_ids(config: str) -> str:
    """Number shared objects in the order they occur: Keras names them by memory address."""
    ids: dict[str, int] = {}
    return re.sub(
        r'(?<="shared_object_id": )\d+', lambda m: str(ids.setdefault(m[0], len(ids))), config
    )


def arrays(old: Path, new: Path) -> str:
    """How the arrays in two files differ."""
    olds, news = content(old), content(new)
    if olds.keys() != news.keys():
        return f"arrays {sorted(olds)} -> {sorted(news)}"
    if any(olds[name].shape != news[name].shape for name in olds):
        return f"shapes {[a.shape for a in olds.values()]} -> {[a.shape for a in news.values()]}"
    differ = [name for name in olds if not np.array_equal(olds[name], news[name])]
    if not differ:
        return f"{EQUAL}, {len(olds)} arrays"
    numbers = [name for name in differ if olds[name].dtype.kind in "fiu"]
    most = max(
        (np.abs(np.float64(olds[name]) - np.float64(news[name])).max() for name in numbers),
        default=None,
    )
    return f"{len(differ)} of {len(olds)} arrays differ, by up to {most}: {', '.join(differ[:3])}"


def content(path: Path) -> dict[str, Any]:
    """The arrays in a file by name; empty if that kind of file has none."""
    match path.suffix:
        case ".npy":
            return {"array": np.load(path, allow_pickle=False)}
        case ".safetensors":
            return dict(load_file(path))
        case ".parquet":
            table = pq.read_table(path)
            return {name: np.array(table[name].to_pylist()) for name in table.column_names}
        case ".keras":
            found: dict[str, Any] = {}

            def keep(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    found[name] = item[()]

            with zipfile.ZipFile(path) as archive:
                weights = BytesIO(archive.read("model.weights.h5"))
            with h5py.File(weights) as file:
                file.visititems(keep)
            return found
        case _:
            return {"bytes": np.frombuffer(path.read_bytes(), np.uint8)}


if __name__ == "__main__":
    main()

"""What the programs share: what they measure, where results are, and how known stale ones are.

A result says which commit and which command made it, and has a fingerprint of what it depends on:
the data, the recipe, and the code of the stages that it measures. `make figures-status` compares
that with what is here now.
"""

import ast
import hashlib
import io
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from kdedge import KdedgeError
from kdedge.bench.report.model import BenchReport
from kdedge.files import write_text
from kdedge.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from kdedge import Corpus

P, R = ParamSpec("P"), TypeVar("R")
Figures = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MOVIE_REVIEWS = ROOT / "recipes" / "movie_reviews.toml"
# The code that a figure depends on, by the stage that makes what is measured.
TEACHER = (
    "kdedge/recipe.py", "kdedge/text", "kdedge/tasks", "kdedge/labels", "kdedge/objectives",
    "kdedge/training", "kdedge/teach", "kdedge/teachers",
)  # fmt: skip
STUDENT = (*TEACHER, "kdedge/extensions.py", "kdedge/layers", "kdedge/students", "kdedge/distill")
FILES = (*STUDENT, "kdedge/compress", "kdedge/export", "kdedge/bundle", "kdedge/engines.py")
BENCH = (*FILES, *(f"kdedge/bench/{x}.py" for x in ("agent", "measure", "run", "scenario")))
STUDY = (*STUDENT, "benchmarks/study/training.py")
DEPENDS_ON = {
    "any_data": (*BENCH, "kdedge/defaults.py", "kdedge/check.py", "kdedge/pipeline.py"),
    "checking": ("kdedge/recipe.py", "kdedge/text", "kdedge/tasks", "kdedge/check.py"),
    "clients": (*FILES, "kdedge/runtime.py"),
    "conversions": BENCH,
    "distillation": STUDY,
    "distillation latency": BENCH,
    "movie_reviews": (*BENCH, "kdedge/pipeline.py"),
    "other_tasks": (*BENCH, "kdedge/defaults.py", "kdedge/check.py", "kdedge/pipeline.py"),
    "peers": BENCH,
    "reliability": (*BENCH, "kdedge/files.py", "kdedge/pipeline.py"),
    "robustness": STUDY,
    "roofline": BENCH,
    "scale": STUDENT,
    "throughput": TEACHER,
    "training_speed": STUDY,
    "unsure": (*FILES, "kdedge/runtime.py"),
    "trust": (*BENCH, "kdedge/bench/statistics.py"),
}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True)
class Setup:
    """What a program works on.

    Args:
        program: its name.
        path: of a recipe.
        data: labelled texts in place of the recipe's.
        run: what `kdedge run` left: teacher, soft_labels, teacher_bundle; None for runs/NAME.
    """

    program: str
    path: Path = MOVIE_REVIEWS
    data: Path | None = None
    run: Path | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the data that was asked for."""
        read = load_recipe(self.path)
        data = read.data.model_copy(update={"path": self.data or read.data.path})
        return read.model_copy(update={"data": data})

    def of(self, program: str) -> "Setup":
        """The same for another program, whose files this one uses."""
        return Setup(program, self.path, self.data, self.run)

    @property
    def name(self) -> str:
        """Of the program's files: with the recipe's name, unless that is the default."""
        same = self.path.resolve() == MOVIE_REVIEWS
        return self.program if same else f"{self.program}-{self.recipe.name}"

    @property
    def work(self) -> Path:
        """The folder of what the program keeps between its calls."""
        return ROOT / "runs" / self.name

    def made(self, name: str) -> Path:
        """A file or folder of the recipe's run."""
        run = (self.run or ROOT / "runs" / self.recipe.name).resolve()
        return needed(run / name, f"kdedge run {_relative(self.path)}")

    def corpus(self) -> "Corpus":
        """The recipe's corpus."""
        from kdedge.pipeline import read_corpus

        return read_corpus(self.recipe.data, self.recipe.seed)

    def about(self, table: str = "") -> Figures:
        """What each result says of itself; `table` where a program makes several."""
        given = (_relative(self.path), _relative(self.recipe.data.path))
        measured = digests((*DEPENDS_ON[table or self.program], *given), here)
        return {"command": command(), "commit": commit(), "measured": measured}

    def stored(self) -> Figures:
        """The results that are there."""
        path = RESULTS / f"{self.name}.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def keep(self, result: Figures, page: Callable[[Figures], str], picture: str = "") -> None:
        """Write the results as JSON, and the page that is made of them."""
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        write_text(RESULTS / f"{self.name}.json", text)
        # As it is read again later.
        write_text(RESULTS / f"{self.name}.md", written(self.name, json.loads(text), page))
        if picture:
            write_text(RESULTS / f"{self.name}.svg", picture)


def keep_rows(
    name: str,
    new: Iterable[Figures],
    key: Sequence[str],
    command_of: Callable[[list[Figures]], str],
    page: Callable[[Figures], str],
) -> None:
    """Write a table's stored rows with the new ones in the place of the old, and the page.

    Args:
        name: of the results.
        new: rows.
        key: fields by which rows are the same one, and are sorted.
        command_of: the command that makes such rows.
        page: what shows them.
    """
    path = RESULTS / f"{name}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = {tuple(one[field] for field in key): one for one in [*stored, *new]}
    kept = [rows[place] for place in sorted(rows)]
    result = {
        "command": command_of(kept),
        "commit": commit(),
        "measured": digests(DEPENDS_ON[name], here),
        "machine": machine(),
        "rows": kept,
    }
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    write_text(RESULTS / f"{name}.md", written(name, result, page))


def written(name: str, result: Figures, page: Callable[[Figures], str]) -> str:
    """A page with its head and what makes its figures doubtful."""
    made_by = f"Made by `{result['command']}`; " if "command" in result else ""
    text = f"{made_by}{name}.json has the rest.\n\n{page(result)}"
    if not result.get("valid", True):
        reasons = "".join(f"- {reason}\n" for reason in result["reasons"])
        text += f"\nThe latencies are not to be relied on:\n\n{reasons}"
    return text


def of_report(report: BenchReport) -> Figures:
    """What is kept of a benchmark's report besides its figures."""
    return {
        "scenario": report.scenario.model_dump(),
        "valid": report.valid,
        "reasons": report.reasons,
        "environment": report.environments["local"],
    }


def asked(program: str, text: str | None, words: str = "", **options: Any) -> tuple[Setup, Any]:
    """Read the command line: --recipe, --data, --run and what else a program takes.

    Args:
        program: its name.
        text: its docstring, of which the first line is shown.
        words: name of its list of words, if it takes one.
        options: defaults, of the type that they have; a tuple is one or more.
    """
    parser = ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--recipe", type=Path, default=MOVIE_REVIEWS)
    parser.add_argument("--data", type=Path, help="labelled texts in place of the recipe's")
    parser.add_argument("--run", type=Path, help="what `kdedge run` left; default: runs/NAME")
    if words:
        parser.add_argument(words, nargs="*")
    for name, default in options.items():
        kind = {"nargs": "+", "type": type(default[0])} if isinstance(default, tuple) else {}
        parser.add_argument(f"--{name}", default=default, **kind or {"type": type(default)})
    given: Namespace = parser.parse_args()
    return Setup(program, given.recipe, given.data, given.run), given


def cli(main: Callable[[], None]) -> None:
    """Run a program; errors are a line."""
    try:
        main()
    except KdedgeError as error:
        sys.exit(f"error: {error}")


def command() -> str:
    """The command that runs this program, from the project's folder."""
    return shlex.join(["python", _relative(Path(sys.argv[0])), *sys.argv[1:]])


def needed(path: Path, made_by: str) -> Path:
    """The path, which must be there.

    Raises:
        KdedgeError: it is not.
    """
    if not path.exists():
        raise KdedgeError(f"{path} is missing. `{made_by}` makes it.")
    return path


def emptied(folder: Path) -> Path:
    """The folder, which is no longer there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def machine() -> str:
    """For pages."""
    return f"{platform.machine()}, {os.cpu_count()} cores, no GPU used"


def memory_mb(name: str) -> float:
    """Of this process, as Linux has it: `VmHWM`, the most that it ever had, or `RssAnon`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def alone(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What a function gives in a process of its own, whose memory comes back."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(work, *args, **kwargs).result()


def once(path: Path, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Path:
    """The path, which `work` makes in a process of its own if it is not there."""
    if not path.exists():
        print(f"making {path}", file=sys.stderr, flush=True)
        alone(work, *args, **kwargs)
    return path


# Fingerprints


def commit() -> str:
    """Of the code that runs; `-dirty` where it has changes."""
    return _git("describe", "--always", "--dirty", "--abbrev=12").decode().strip()


def digests(paths: Iterable[str], read: Callable[[str], Mapping[str, bytes]]) -> dict[str, str]:
    """The first digits of a SHA-256 of each path.

    Args:
        paths: files or folders.
        read: gives a path's files with their contents. Of Python's the comments, docstrings and
            descriptions don't count, for they change no figure.
    """
    found = {}
    for path in paths:
        digest = hashlib.sha256()
        for name, content in sorted(read(path).items()):
            digest.update(name.encode() + (_code(content) if name.endswith(".py") else content))
        found[path] = digest.hexdigest()[:16]
    return found


def changed(part: Mapping[str, Any], paths: Iterable[str]) -> str:
    """What has changed since a result, in words; empty if nothing has.

    Args:
        part: a result with its fingerprint, `measured`, or at least the `commit` of its code.
        paths: that it depends on, where it has no fingerprint.
    """
    since = ""
    if "measured" in part:
        then = dict(part["measured"])
    elif "commit" in part:
        name = str(part["commit"])[:12]
        try:
            then = digests(paths, lambda path: _at(name, path))
        except subprocess.CalledProcessError:
            return f"no fingerprint, and commit {name} is not in this clone"
        since = f"since {name} "
    else:
        return "no fingerprint: made before they were kept"
    now = digests(then, here)
    names = [path.removeprefix("kdedge/") for path in then if then[path] != now[path]]
    return f"{since}{', '.join(names)} changed" if names else ""


def _relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


@cache
def _code(content: bytes) -> bytes:
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [k for k in node.keywords if k.arg not in ("description", "help")]
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree).encode()


@cache
def here(path: str) -> Mapping[str, bytes]:
    """A path's files with their contents, as they are now."""
    whole = ROOT / path
    files = whole.rglob("*.py") if whole.is_dir() else [whole] if whole.is_file() else []
    return {_relative(file): file.read_bytes() for file in files}


@cache
def _at(name: str, path: str) -> Mapping[str, bytes]:
    if not _git("ls-tree", "-r", "--name-only", name, "--", path):
        return {}
    with tarfile.open(fileobj=io.BytesIO(_git("archive", name, "--", path))) as files:
        wanted = [f for f in files if f.isfile() and (f.name.endswith(".py") or f.name == path)]
        return {one.name: reader.read() for one in wanted if (reader := files.extractfile(one))}


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout

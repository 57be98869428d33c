"""What all programs share: command line, paths, stored results, and detection of stale ones.

A result names the commit and the command that made it, and has a fingerprint of what it depends
on: the recipe, the data, and the code of the stages that it measures. `make figures-status`
compares the fingerprints with the present files; revalidate.py renews them after changes of the
code that change no figure.
"""

import ast
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from kdedge import KdedgeError
from kdedge.bench import agent
from kdedge.bench.report.model import BenchReport
from kdedge.files import write_text
from kdedge.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from kdedge import Corpus
    from kdedge.text.pairs import Text

P = ParamSpec("P")
R = TypeVar("R")
Figures = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MEASURED_TEXTS = 256
MOVIE_REVIEWS = ROOT / "recipes" / "movie_reviews.toml"
# The code that a figure depends on, by what is measured: a teacher, a student, exported files, ...
TEACHER = (
    "kdedge/recipe.py", "kdedge/defaults.py", "kdedge/text", "kdedge/tasks", "kdedge/labels",
    "kdedge/objectives", "kdedge/training", "kdedge/teach", "kdedge/teachers",
)  # fmt: skip
STUDENT = (*TEACHER, "kdedge/extensions.py", "kdedge/layers", "kdedge/students", "kdedge/distill")
FILES = (*STUDENT, "kdedge/compress", "kdedge/export", "kdedge/bundle", "kdedge/engines.py")
BENCH = (*FILES, *(f"kdedge/bench/{x}.py" for x in ("agent", "measure", "run", "scenario")))
RUN = (*BENCH, "kdedge/check.py", "kdedge/pipeline.py")
DEPENDS_ON = {
    "ablation": STUDENT,
    "any_data": RUN,
    "checkpoints": RUN,
    "checking": ("kdedge/recipe.py", "kdedge/text", "kdedge/tasks", "kdedge/check.py"),
    "clients": (*FILES, "kdedge/runtime.py"),
    "conversions": BENCH,
    "demo_time": RUN,
    "other_tasks": RUN,
    "peers": BENCH,
    "roofline": BENCH,
    "teaching": TEACHER,
    "text_in_clients": (
        *(f"web_demo/{x}.js" for x in ("classifier", "familiarity", "tasks", "words")),
        "android_demo/core/src/main/kotlin/org/kdedge/WordPieceTokenizer.kt",
    ),
    "text_to_answer": (*FILES, "kdedge/runtime.py"),
    "known_results": (*BENCH, "kdedge/bench/statistics.py"),
    "unsure": (*FILES, "kdedge/runtime.py"),
}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True)
class Setup:
    """The recipe, data and run that a program measures.

    Args:
        program: name of the program.
        path: path of the recipe.
        data: labelled texts in place of the recipe's.
        run: folder of a `kdedge run`: teacher, soft_labels, bundle; None for runs/NAME.
    """

    program: str
    path: Path = MOVIE_REVIEWS
    data: Path | None = None
    run: Path | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the data file of the command line if there is one."""
        read = load_recipe(self.path)
        data = read.data.model_copy(update={"path": self.data or read.data.path})
        return read.model_copy(update={"data": data})

    def for_program(self, program: str) -> "Setup":
        """The same setup for another program, to use its files."""
        return Setup(program, self.path, self.data, self.run)

    @property
    def name(self) -> str:
        """Name of the program's files: with the recipe's name, unless that is the default."""
        same = self.path.resolve() == MOVIE_REVIEWS
        return self.program if same else f"{self.program}-{self.recipe.name}"

    @property
    def work(self) -> Path:
        """The folder that the program keeps its intermediate files in."""
        return ROOT / "runs" / self.name

    def run_file(self, name: str) -> Path:
        """The path of a file or folder of the recipe's run; it must exist."""
        run = (self.run or ROOT / "runs" / self.recipe.name).resolve()
        return existing(run / name, f"kdedge run {_relative(self.path)}")

    def corpus(self) -> "Corpus":
        """The recipe's corpus."""
        from kdedge.check import read_corpus

        return read_corpus(self.recipe.data, self.recipe.seed)

    def texts(self) -> "tuple[Text, ...]":
        """Texts of the test split to measure latencies with."""
        return self.corpus().test.texts[:MEASURED_TEXTS]

    def student(self, preset: str) -> Path:
        """A student of that preset, distilled from the run's soft labels; trained only once."""
        folder = self.for_program("students").work / preset
        return make_once(folder, train_student, self, folder, student=preset)

    def about(self) -> Figures:
        """The command and the commit that made a result, and its fingerprint."""
        paths = (_relative(self.path), _relative(self.recipe.data.path))
        # Files that the repository does not have can't be compared later.
        inputs = [path for path in paths if not path.startswith(("/", "runs/"))]
        measured = fingerprints((*DEPENDS_ON[self.program], *inputs), present_files)
        return {"command": command(), "commit": commit(), "measured": measured}

    def keep(self, result: Figures, page: Callable[[Figures], str]) -> None:
        """Write the result as JSON, and the page made from it."""
        _write(self.name, result, page)


def train_student(setup: Setup, out: Path, seed: int | None = None, **changes: Any) -> None:
    """Train a student on the run's soft labels.

    Args:
        setup: has the recipe and its run.
        out: folder of the student.
        seed: seed of weights and order; None for the recipe's.
        changes: settings that replace those of the recipe's `[distill]`.
    """
    from kdedge import SoftLabels
    from kdedge.distill.stage import distill_student
    from kdedge.recipe import Distill

    settings = Distill(**setup.recipe.distill.model_dump(exclude_unset=True) | changes)
    corpus, store = setup.corpus(), SoftLabels(setup.run_file("soft_labels"))
    seed = setup.recipe.seed if seed is None else seed
    distill_student(corpus, store, store.encoder(), settings, out, seed, setup.run_file("teacher"))


def keep_rows(
    name: str,
    new: Iterable[Figures],
    key: Sequence[str],
    command_of: Callable[[list[Figures]], str],
    page: Callable[[Figures], str],
) -> None:
    """Replace or add rows of a stored table, and write its page.

    Args:
        name: name of the results.
        new: the new rows.
        key: fields that identify a row; rows are sorted by them.
        command_of: the command that makes such rows.
        page: makes the page.
    """
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    # Each row has its own fingerprint, because rows can be made by different versions of the code.
    measured = fingerprints(DEPENDS_ON[name], present_files)
    new_rows = [{"measured": measured, **one} for one in new]
    rows = {tuple(one[field] for field in key): one for one in [*before["rows"], *new_rows]}
    ordered = [rows[place] for place in sorted(rows)]
    about = {"command": command_of(ordered), "machine": machine()}
    about |= {key: before[key] for key in ("same_files",) if key in before}
    _write(name, {**about, "rows": ordered}, page)


def _write(name: str, result: Figures, page: Callable[[Figures], str]) -> None:
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_text(RESULTS / f"{name}.json", text)
    # Read back first, so that the page is the one that pages.py makes later.
    write_text(RESULTS / f"{name}.md", page_text(name, json.loads(text), page))


def page_text(name: str, result: Figures, page: Callable[[Figures], str]) -> str:
    """The text of a page: its command, its tables, and reasons why latencies are not reliable."""
    text = f"Made by `{result['command']}`; {name}.json has the rest."
    if checks := result.get("same_files"):
        text += (
            f" The code has changed since commit {checks[0]['from']}; that of {checks[-1]['to']} "
            "writes the same files with small recipes (benchmarks/revalidate.py)."
        )
    text += f"\n\n{page(result)}"
    if not result.get("valid", True):
        reasons = "".join(f"- {reason}\n" for reason in result["reasons"])
        text += f"\nThe latencies are not reliable:\n\n{reasons}"
    return text


def report_figures(report: BenchReport) -> Figures:
    """The part of a benchmark's report that is stored besides the figures."""
    return {
        "scenario": report.scenario.model_dump(),
        "valid": report.valid,
        "reasons": report.reasons,
        "environment": report.environments["local"],
    }


def read_command_line(
    program: str, text: str | None, words: str = "", **options: Any
) -> tuple[Setup, Any]:
    """Read the command line: --recipe, --data, --run, and a program's own options.

    Args:
        program: name of the program.
        text: its docstring; --help shows the first line.
        words: name of a list of arguments, if the program takes one.
        options: default value of each option, which also sets its type; an option with a tuple
            takes one or more values.
    """
    parser = ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--recipe", type=Path, default=MOVIE_REVIEWS)
    parser.add_argument("--data", type=Path, help="labelled texts in place of the recipe's")
    parser.add_argument("--run", type=Path, help="folder of a `kdedge run`; default: runs/NAME")
    if words:
        parser.add_argument(words, nargs="*")
    for name, default in options.items():
        several = isinstance(default, tuple)
        kind, nargs = type(default[0] if several else default), "+" if several else None
        parser.add_argument(f"--{name}", default=default, type=kind, nargs=nargs)
    given: Namespace = parser.parse_args()
    return Setup(program, given.recipe, given.data, given.run), given


def checkout(folder: str) -> Path:
    """The folder of a checkout of release 0.1.0, as `--baseline` names it.

    Raises:
        KdedgeError: it is none.
    """
    if not folder or not (Path(folder) / "kdedge").is_dir():
        raise KdedgeError("--baseline: name the folder of a checkout of release 0.1.0.")
    return Path(folder).resolve()


def cli(main: Callable[[], None]) -> None:
    """Run a program; a KdedgeError is shown as one line."""
    try:
        main()
    except KdedgeError as error:
        sys.exit(f"error: {error}")


def command() -> str:
    """The command that runs this program, from the project's folder."""
    return shlex.join(["python", _relative(Path(sys.argv[0])), *sys.argv[1:]])


def existing(path: Path, made_by: str) -> Path:
    """Check that a path exists, and return it.

    Raises:
        KdedgeError: it does not.
    """
    if not path.exists():
        raise KdedgeError(f"{path} is missing. `{made_by}` makes it.")
    return path


def machine() -> str:
    """A short description of this machine, for pages; some CPUs have instructions for int8."""
    facts = agent.machine(agent.read_files)
    parts = (platform.machine(), facts.get("CPU"), facts.get("CPU features"))
    return f"{', '.join(filter(None, parts))}, {os.cpu_count()} cores, no GPU used"


def memory_mb(name: str) -> float:
    """A memory figure of this process in MB, by its Linux name; `VmHWM` is the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def in_own_process(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function in a new process, so that its memory is freed, and return its result."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(work, *args, **kwargs).result()


def make_once(path: Path, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Path:
    """If the path is missing, let `work` write it in a process of its own; returns the path."""
    if not path.exists():
        print(f"making {path}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        in_own_process(work, *args, **kwargs)
    return path


# Fingerprints


def commit() -> str:
    """The commit of the code that runs; `-dirty` if other files than results have changes."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "-uno", "--", ".", ":(exclude)benchmarks/results")
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def fingerprints(
    paths: Iterable[str], read: Callable[[str], Mapping[str, bytes]]
) -> dict[str, str]:
    """The first digits of a SHA-256 of the content of each path.

    Args:
        paths: files or folders.
        read: returns the files of a path with their contents. In Python files, comments,
            docstrings, descriptions and messages of errors don't count: they change no figure.
    """
    found = {}
    for path in paths:
        digest = hashlib.sha256()
        for name, content in sorted(read(path).items()):
            digest.update(name.encode() + (_code(content) if name.endswith(".py") else content))
        found[path] = digest.hexdigest()[:16]
    return found


def changed_paths(result: Mapping[str, Any]) -> list[str]:
    """The paths that have changed since a result, or one of its rows, was made."""
    paths: dict[str, None] = {}
    for part in [result] if "measured" in result else result["rows"]:
        then = part["measured"]
        now = fingerprints(then, present_files)
        paths |= dict.fromkeys(path for path in then if then[path] != now[path])
    return [path.removeprefix("kdedge/") for path in paths]


def _relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


@cache
def _code(content: bytes) -> bytes:
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [k for k in node.keywords if k.arg not in ("description", "help")]
            if isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
                node.args, node.keywords = [], []
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.unparse(tree).encode()


@cache
def present_files(path: str) -> Mapping[str, bytes]:
    """The present files of a path, with their contents."""
    whole = ROOT / path
    files = whole.rglob("*.py") if whole.is_dir() else [whole] if whole.is_file() else []
    return {_relative(file): file.read_bytes() for file in files}

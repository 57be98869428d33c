"""Shows that changes of the code change no figure, and says so in the stored results.

    python benchmarks/revalidate.py COMMIT any_data other_tasks

Runs the small recipes with the code of COMMIT and with the present code. If teachers, soft labels,
students and exported files have the same bytes, the fingerprints that the named results have from
COMMIT are replaced by the present ones, and the results name both commits. This says nothing about
the time that the code takes.
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.common import RESULTS, ROOT, cli, commit, fingerprints, present_files
from benchmarks.pages import PAGES, page_texts
from kdedge import KdedgeError
from kdedge.files import sha256, write_text

# One for each task, and one with pairs of texts.
RECIPES = ("quick", "topics", "stars", "questions")
# Files with weights, labels, texts or token ids; others have times, or the commit.
KINDS = {".h5", ".keras", ".npy", ".onnx", ".parquet", ".safetensors", ".tflite", ".txt"}
LIMIT_SECONDS = 1800
WORK = ROOT / "runs" / "revalidate"


def main() -> None:
    """Run both, compare, and mark the results."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("commit", help="whose fingerprints the results have")
    parser.add_argument("results", nargs="+", choices=PAGES, metavar="NAME", help=", ".join(PAGES))
    options = parser.parse_args()
    present = commit()
    if present.endswith("-dirty"):
        raise KdedgeError("Commit first: the results will name the commit that was compared.")
    old = _git("rev-parse", "--short=12", options.commit).decode().strip()
    if not (WORK / old).exists():
        _git("worktree", "add", "--detach", str(WORK / old), old)
    for recipe in RECIPES:
        digests = [_run(WORK / old, old, recipe), _run(ROOT, present, recipe)]
        if different := sorted(dict(digests[0].items() ^ digests[1].items())):
            raise KdedgeError(f"{recipe}: {', '.join(different)} differ: measure again.")
        print(f"{recipe}: {len(digests[0])} files are the same")
    for name in options.results:
        mark(name, old, present)
    for page, text in page_texts().items():
        write_text(RESULTS / page, text)


def _run(tree: Path, code: str, recipe: str) -> dict[str, str]:
    """The digests of the files that a run with the code in `tree` writes, by their paths."""
    out = WORK / f"{recipe}-{code}"
    program = ["-c", "from kdedge.cli import app; app()", "run"]
    subprocess.run(
        [sys.executable, *program, str(tree / "recipes" / f"{recipe}.toml"), "--out", str(out)],
        check=True,
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        timeout=LIMIT_SECONDS,
    )
    files = (path for path in out.rglob("*") if path.suffix in KINDS)
    return {str(path.relative_to(out)): sha256(path) for path in files}


def mark(name: str, old: str, present: str) -> None:
    """Replace the fingerprints that a result has from `old`."""
    path = RESULTS / f"{name}.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    for part in [result] if "measured" in result else result["rows"]:
        measured = part["measured"]
        then = fingerprints(measured, partial(_files, old))
        now = fingerprints(measured, present_files)
        part["measured"] = {
            key: now[key] if value == then[key] else value for key, value in measured.items()
        }
    result["same_files"] = [*result.get("same_files", ()), {"from": old, "to": present}]
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _files(old: str, path: str) -> Mapping[str, bytes]:
    """The files of a path in a commit, with their contents."""
    names = _git("ls-tree", "-r", "--name-only", old, path).decode().splitlines()
    whole = [name for name in names if name == path or name.endswith(".py")]
    return {name: _git("show", f"{old}:{name}") for name in whole}


if __name__ == "__main__":
    cli(main)

"""Cells: what the tables of distillation are made of.

A cell is one training, with a name and a seed, done in a process of its own (trainings.py). Its
result is kept in the work folder as cells/NAME-seedN.json, and a cell whose file is there, made
with the same settings, is not done again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kdedge.recipe import Distill, Label, Mixture

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WORK = ROOT / "runs" / "distillation"
RUN = ROOT / "runs" / "movie_reviews"
SEEDS = (1, 2, 3)


class Cell(BaseModel):
    """One training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seed: int
    kind: Literal[
        "student",
        "attacked",
        "two teachers",
        "one task",
        "two tasks",
        "few",
        "tfidf",
        "static",
        "stock",
        "tinybert",
    ] = "student"
    distill: dict[str, Any] = {}
    # The transfer set: all of the store, so many of its texts, or the corpus with so many made
    # anew.
    texts: int | None = None
    made: int | None = None
    mixture: dict[str, int] = {}
    # And those of unlabelled.py.
    unlabelled: bool = False
    labelled: int | None = None
    keep: bool = False
    bundle: bool = False
    teacher: Path = RUN / "teacher"
    soft_labels: Path = RUN / "soft_labels"

    @property
    def settings(self) -> Distill:
        """The whole [distill] section."""
        return Distill(**self.distill)

    @property
    def rules(self) -> Mixture:
        """How texts are made anew."""
        return (
            Mixture(**{rule: 0 for rule in Mixture.model_fields} | self.mixture)
            if (self.mixture)
            else Label().mixture
        )

    @property
    def job(self) -> dict[str, Any]:
        """Everything that the result depends on, but the code."""
        said = self.model_dump(mode="json", exclude={"keep", "bundle"})
        return said | {"distill": self.settings.model_dump(), "mixture": self.rules.model_dump()}

    def path(self, work: Path) -> Path:
        """Where its result is."""
        return work / "cells" / f"{self.name.replace(' ', '-')}-seed{self.seed}.json"

    def folder(self, work: Path, kind: str) -> Path:
        """Where it keeps a student or a bundle."""
        return work / kind / self.path(work).stem


def seeded(seeds: Iterable[int], **arguments: Any) -> list[Cell]:
    """A cell for each seed."""
    return [Cell(seed=seed, **arguments) for seed in seeds]


def do(cells: Sequence[Cell], work: Path) -> list[str]:
    """Do the cells that are not done, one after the other.

    Returns:
        The names of those that failed.
    """
    failed = []
    for number, cell in enumerate(cells, 1):
        if done(cell, work):
            continue
        print(f"[{number}/{len(cells)}] {cell.name}, seed {cell.seed}", file=sys.stderr, flush=True)
        program = Path(__file__).with_name("trainings.py")
        command = [sys.executable, program, work, cell.model_dump_json()]
        if subprocess.run(command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}).returncode:
            failed.append(f"{cell.name}, seed {cell.seed}")
    return failed


def done(cell: Cell, work: Path) -> bool:
    """Whether its result is there, and what it was to keep."""
    kept = [kind for kind in ("keep", "bundle") if getattr(cell, kind)]
    folders = {"keep": "students", "bundle": "bundles"}
    path = cell.path(work)
    return (
        path.is_file()
        and json.loads(path.read_text(encoding="utf-8"))["job"] == cell.job
        and all(cell.folder(work, folders[kind]).is_dir() for kind in kept)
    )


def kept(work: Path) -> list[dict[str, Any]]:
    """The results that are there."""
    paths = (work / "cells").glob("*.json")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def by_name(ones: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Each name's results, in the order of their seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(ones, key=lambda one: int(one["job"]["seed"])):
        found.setdefault(one["job"]["name"], []).append(one)
    return found


def commit() -> str:
    """Of the code that runs; `-dirty` where it has changes."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

"""The grid: what is trained for each table of the study, as records."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from benchmarks.common import Setup, alone
from kdedge.recipe import Distill, Label, Mixture, Recipe

SEEDS = (1, 2, 3)
Kind = Literal[
    "student", "attacked", "two teachers", "one task", "two tasks", "few", "tfidf", "static",
    "stock", "tinybert",
]  # fmt: skip


class Cell(BaseModel):
    """One training: all that its result depends on, besides data, teacher and code.

    Attributes:
        name: of its row.
        seed: of weights and order.
        kind: how it is done; see `training`.
        distill: the student's settings.
        texts: the transfer set is this many texts of the stored ones; None for all.
        made: the transfer set is the corpus and this many augmented texts; None for what is stored.
        mixture: how those are made.
        unlabelled: whether the texts of unlabelled.py come on top.
        labelled: labels that there are; None for all.
        bundle: whether it leaves a bundle, to be measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seed: int = SEEDS[0]
    kind: Kind = "student"
    distill: Distill
    texts: int | None = None
    made: int | None = None
    mixture: Mixture = Mixture()
    unlabelled: bool = False
    labelled: int | None = None
    bundle: bool = False

    def seeded(self, seed: int) -> "Cell":
        """The same with another seed, and without a bundle."""
        return self.model_copy(update={"seed": seed, "bundle": self.bundle and seed == self.seed})

    def folder(self, work: Path, kind: str) -> Path:
        """Where it keeps its student, bundle or store."""
        return work / kind / f"{self.name.replace(' ', '-')}-seed{self.seed}"

    def path(self, work: Path) -> Path:
        """Where its result is."""
        return work / "cells" / f"{self.folder(work, '').name}.json"

    def job(self) -> dict[str, Any]:
        """As it is stored."""
        return self.model_dump(mode="json", exclude={"bundle"})


class Target(NamedTuple):
    """Least retention in percent, least speed-up, most megabytes of the int8 .tflite."""

    retention: float
    faster: int
    megabytes: float


TARGETS = {
    "nano": Target(94.0, 300, 1.0),
    "micro": Target(96.5, 80, 1.5),
    "mini-cut": Target(98.5, 6, 8.0),
}
# Of 1.2e-3, 2e-3 and 3e-3 the rate that does best on the valid split with so many steps.
LONGER = {"learning_rate": 1.2e-3}
# What rivals of the students are called in their table.
PEERS = {
    "no teacher": "the same micro without a teacher, on the labels alone",
    "stock": "the same micro, all of BERT's word pieces, by keras.distillation.Distiller, live "
    "teacher, 4 epochs of the train split",
    "static": "static embeddings as model2vec's, of the teacher's token vectors, logistic "
    "regression",
    "tfidf": "TF-IDF and logistic regression, in scikit-learn",
    "tinybert": "the shape of TinyBERT-4, 4 layers of 312, from scratch: 2 epochs of 24,000 soft "
    "labels",
}
ONE_SEED = ("static", "tfidf", "tinybert")
# A small budget. The adversaries and the matching of layers need all word pieces of the teacher.
MADE, EPOCHS, BERTS = 16_000, 4, 30_522
NO_TEACHER = {"alpha": 0.0, "feature_weight": 0.0, "from_teacher": False}
# One change each of [distill].
METHODS: dict[str, dict[str, Any]] = {
    "no soft labels: alpha 0": {"alpha": 0.0},
    "soft labels only: alpha 1": {"alpha": 1.0},
    "alpha 0.5": {"alpha": 0.5},
    "alpha from 1 to 0.5": {"alpha": 1.0, "alpha_end": 0.5},
    "temperature 1": {"temperature": 1.0},
    "temperature 4": {"temperature": 4.0},
    "temperature from 4 to 1": {"temperature": 4.0, "temperature_end": 1.0},
    "adaptive weights": {"adaptive_weights": True},
    "no sentence vectors": {"feature_weight": 0.0},
    "not from the teacher's token vectors": {"from_teacher": False},
    "linear decay": {"learning_rate_decay": "linear"},
    "exponential decay": {"learning_rate_decay": "exponential"},
    "constant learning rate": {"learning_rate_decay": "constant"},
    "typos": {"typos": 0.5},
    "adversary: substitution": {"adversary": "substitution"},
    "adversary: generator": {"adversary": "generator"},
    "adversary: prompt": {"adversary": "prompt"},
    "prompt: task": {"prompt": "task"},
    "prompt: soft label": {"prompt": "soft-label"},
}
LAYER_METHODS = {
    "hidden states": {"hidden_weight": 1.0},
    "attention maps": {"attention_weight": 1.0},
    "hidden states and attention maps": {"hidden_weight": 1.0, "attention_weight": 1.0},
}
# Texts of the transfer set: epochs. A small set is seen more often, so that what is measured is
# texts and not steps.
CURVE = {2_000: 96, 8_000: 48, 24_000: 16}
FEW = (100, 500, 2000)


class Grid(NamedTuple):
    """The first seed's cells of each table, by row; the first row of an ablation is its base."""

    main: dict[str, Cell]
    peers: dict[str, Cell]
    ablation: dict[str, Cell]
    tasks: dict[str, Cell]
    layers: dict[str, Cell]
    curve: dict[str, Cell]
    few: dict[str, Cell]
    robustness: dict[str, Cell]

    def cells(self, parts: Iterable[str], seeds: Iterable[int]) -> list[Cell]:
        """The cells of some tables, each once."""
        rows = {n: cell for part in parts for n, cell in getattr(self, part).items()}
        return [
            cell.seeded(seed)
            for cell in rows.values()
            for seed in ([*seeds][:1] if cell.name in ONE_SEED else seeds)
        ]


def grid_of(recipe: Recipe) -> Grid:
    """All that is trained, on top of what the recipe says of its student."""
    given = recipe.distill.model_dump(exclude_unset=True)

    def cell(name: str, distill: dict[str, Any], **how: Any) -> Cell:
        return Cell(name=name, distill=Distill(**given | distill), **how)

    def rows(*cells: Cell) -> dict[str, Cell]:
        return {one.name: one for one in cells}

    nano, micro, mini, mini_cut = (
        {"student": name} for name in ("nano", "micro", "mini", "mini-cut")
    )
    small: dict[str, Any] = micro | {"epochs": EPOCHS, "vocabulary": BERTS}
    layers = small | mini
    some: dict[str, Any] = {"made": MADE}
    shown: dict[str, Any] = {"bundle": True}
    reviews, more = shown | {"unlabelled": True}, {"made": 100_000}
    # As many steps as the base: without its augmented texts, and with a third more texts.
    longer, shorter = small | {"epochs": 3 * EPOCHS}, small | {"epochs": 3 * EPOCHS // 4}
    near_words = Label().mixture.model_copy(update={"neighbours": 3})
    main = rows(
        cell("nano with reviews, more made", nano | {"epochs": 6}, **reviews, **more),
        cell("micro", micro | {"epochs": 8}, **shown),
        cell("micro with reviews", micro | LONGER | {"epochs": 9}, **reviews),
        cell("micro with reviews, more made", micro | LONGER | {"epochs": 6}, **reviews, **more),
        cell("mini-cut with reviews, more made", mini_cut | {"epochs": 4}, **reviews, **more),
    )
    ablation = rows(
        cell("base", small, **some),
        *(cell(name, small | changed, **some) for name, changed in METHODS.items()),
        cell("texts of the substitution, labelled once", shorter, kind="attacked", **some),
        cell("two teachers", small, kind="two teachers", **some),
        cell("no made texts", longer, made=0),
        *(
            cell(f"only {rule}", small, mixture=Mixture(**_alone(rule)), **some)
            for rule in ("drop", "crop", "splice", "mask", "typos", "neighbours")
        ),
    )
    typos, generator = METHODS["typos"], METHODS["adversary: generator"]
    return Grid(
        main=main,
        peers=rows(
            cell("no teacher", micro | NO_TEACHER, made=0, **shown),
            cell("stock", micro | {"epochs": 4}, kind="stock", **shown),
            cell("static", {}, kind="static", **shown),
            cell("tfidf", {}, kind="tfidf"),
            cell("tinybert", {"epochs": 2}, kind="tinybert", texts=24_000, **shown),
        ),
        ablation=ablation,
        tasks=rows(*(cell(kind, small, kind=kind, **some) for kind in ("one task", "two tasks"))),
        layers=rows(
            cell("mini base", layers, **some),
            *(cell(name, layers | changed, **some) for name, changed in LAYER_METHODS.items()),
        ),
        curve=rows(
            *(
                cell(f"curve {texts}", micro | {"epochs": epochs}, texts=texts)
                for texts, epochs in CURVE.items()
            ),
            main["micro"],
            main["micro with reviews"],
        ),
        few=rows(*(cell(f"few {n}", micro, kind="few", labelled=n) for n in FEW)),
        robustness=rows(
            ablation["base"],
            ablation["typos"],
            cell("typos, made texts with near words", small | typos, mixture=near_words, **some),
            ablation["adversary: generator"],
            cell("typos, and the generator", small | typos | generator, **some),
            ablation["adversary: substitution"],
        ),
    )


def _alone(rule: str) -> dict[str, int]:
    return {name: int(name == rule) for name in Mixture.model_fields}


def do(cells: list[Cell], setup: Setup) -> list[str]:
    """Do the cells that are not done, each in a process of its own.

    Returns:
        The names of those that failed.
    """
    from benchmarks.study.training import train

    failed = []
    for number, cell in enumerate(cells, 1):
        if not done(cell, setup):
            name = f"{cell.name}, seed {cell.seed}"
            print(f"[{number}/{len(cells)}] {name}", file=sys.stderr, flush=True)
            try:
                alone(train, cell, setup)
            except Exception as error:
                print(f"{name}: {error!r}", file=sys.stderr, flush=True)
                failed.append(name)
    return failed


def done(cell: Cell, setup: Setup) -> bool:
    """Whether its result is there, of the same settings, data, recipe and code."""
    path = cell.path(setup.work)
    if not path.is_file():
        return False
    said = json.loads(path.read_text(encoding="utf-8"))
    return bool(said["job"] == cell.job() and said["measured"] == setup.about()["measured"])


def kept(work: Path) -> list[dict[str, Any]]:
    """The results that are there."""
    paths = (work / "cells").glob("*.json")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

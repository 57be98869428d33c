"""Simple baselines on the same splits, which the report shows beside teacher and student."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from kdedge.files import write_text
from kdedge.progress import progress
from kdedge.teach.linear import FITS, fit_tfidf
from kdedge.text.corpus import Corpus

TFIDF = "TF-IDF with a linear model"
PROBE = "pretrained vectors with a linear model"


class Baseline(BaseModel):
    """A simple model and its metrics."""

    model_config = ConfigDict(frozen=True)

    name: str
    valid: dict[str, float] = Field(description="the task's metrics on the valid split")
    test: dict[str, float] = Field(description="the task's metrics on the test split")


def write_baselines(corpus: Corpus, notes: dict[str, Any], out: Path) -> None:
    """Fit the TF-IDF baseline, add the probe of a teacher's notes, and write `out`.

    Args:
        corpus: TF-IDF is fitted on its train split.
        notes: notes of a teacher; without a probe, only TF-IDF is written.
        out: JSON file to write.
    """
    found = []
    if corpus.task.name in FITS:
        with progress("fitting TF-IDF", 1, "models") as advance:
            found.append(_tfidf(corpus))
            advance(1)
    if probe := notes.get("probe"):
        probe = probe.get("apart", probe)
        found.append(Baseline(name=PROBE, valid=probe["valid"], test=probe["test"]))
    stored = [baseline.model_dump() for baseline in found]
    write_text(out, json.dumps(stored, indent=2) + "\n")


def read_baselines(path: Path) -> Sequence[Baseline]:
    """Read what `write_baselines` wrote."""
    return TypeAdapter(tuple[Baseline, ...]).validate_json(path.read_bytes())


def _tfidf(corpus: Corpus) -> Baseline:
    logits_of = fit_tfidf(corpus.task, corpus.train.texts, corpus.train.labels)
    task, valid, test = corpus.task, corpus.valid, corpus.test
    on_valid, on_test = (task.outputs(logits_of(split.texts)) for split in (valid, test))
    task = task.tuned(on_valid, valid.labels)
    return Baseline(
        name=TFIDF,
        valid=task.measures(on_valid, valid.labels),
        test=task.measures(on_test, test.labels),
    )

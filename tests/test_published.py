"""The published tables are what the programs make of the figures beside them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from benchmarks import (
    clients,
    conversions,
    distillation,
    peers,
    reliability,
    robustness,
    roofline,
    scale,
    throughput,
    training_speed,
    trust,
)

RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    "clients": clients._table,
    "conversions": conversions._table,
    "peers": peers.table,
    "robustness": robustness.table,
    "roofline": roofline._table,
    "scale": scale._table,
    "throughput": throughput._table,
    "training_speed": training_speed.table,
    "trust": trust.page,
}


def figures(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def published(name: str) -> str:
    return (RESULTS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str) -> None:
    assert PAGES[name](figures(name)) == published(f"{name}.md")


def test_page_of_distillation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("json", "md"):
        shutil.copy(RESULTS / f"distillation.{kind}", tmp_path)
    monkeypatch.setattr(distillation, "RESULTS", tmp_path)
    distillation.write(tmp_path, None)
    for kind in ("json", "md"):
        name = f"distillation.{kind}"
        assert (tmp_path / name).read_text() == published(name)


def test_page_of_reliability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability, "RESULTS", tmp_path)
    monkeypatch.setattr(reliability, "_records", figures("reliability").__getitem__)
    reliability.table()
    for kind in ("json", "md"):
        name = f"reliability.{kind}"
        assert (tmp_path / name).read_text() == published(name)


def test_picture_of_peers() -> None:
    assert peers.picture(figures("peers")).decode() == published("peers.svg")


def test_picture_of_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    scale._draw(figures("scale")["points"])
    drawn = (tmp_path / "scale.svg").read_text()
    # Which identifiers its parts have is by chance in what was published.
    ids = r'(?<=[#"])[mp][0-9a-f]{10}(?=[")])'
    assert re.sub(ids, "", drawn) == re.sub(ids, "", published("scale.svg"))

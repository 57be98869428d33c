"""Labelling on Ray gives the same as without it, whichever process dies."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_soft_labels import texts
from typer.testing import CliRunner

from kdedge import KdedgeError, SoftLabels, load_teacher
from kdedge.cli import app
from kdedge.labels.index import TextIndex, read_missing
from kdedge.tasks import Classification
from kdedge.teachers.label import label_texts
from kdedge.teachers.on_ray import actor_share, label_on_ray, within
from kdedge.teachers.teacher import Teacher
from kdedge.text.readers import Format, TextFiles

NAMES = ("bad", "good")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of 6,000 texts, of which 500 are in two."""
    folder, many = tmp_path_factory.mktemp("texts"), texts(6000)
    pq.write_table(pa.table({"text": many[:2500]}), folder / "a.parquet")
    rows = "".join(json.dumps({"text": text}) + "\n" for text in many[2000:4000])
    (folder / "b.jsonl").write_text(rows)
    (folder / "c.csv").write_text("text\n" + "\n".join(many[4000:]) + "\n")
    return folder


@pytest.fixture(scope="module")
def load(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> partial[Teacher]:
    """Loads a teacher with a head; without one, each process would make its own."""
    saved = tmp_path_factory.mktemp("teacher") / "saved"
    load_teacher(tiny_bert, task=Classification(label_names=NAMES)).save_pretrained(saved)
    return partial(load_teacher, saved)


def same(one: SoftLabels, other: SoftLabels) -> None:
    assert one.texts == other.texts
    for mine, theirs in zip(one.lookup(one.texts), other.lookup(one.texts), strict=True):
        assert mine is not None and theirs is not None
        np.testing.assert_allclose(mine, theirs, atol=1e-5 if mine.dtype == np.float32 else 2e-3)


def test_files_are_read_as_they_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("id;t\n1;trčs\n2;\n3;bon\n".encode("iso8859-2"))
    texts = TextFiles(path, "t", Format("iso8859-2", ";"), "skip")
    assert [*texts] == ["trčs", "bon"]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda index: index))
    index = TextIndex()
    index.add(["bon"])
    (read,) = read_missing({"file": [str(path)]}, texts, index, 10)
    assert read["text"].tolist() == ["trčs"]


def test_a_wait_for_labels_ends() -> None:
    assert list(within(5.0, iter("abc"))) == ["a", "b", "c"]

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("of the source")

    with pytest.raises(ValueError, match="of the source"):
        list(within(5.0, broken()))
    never = threading.Event()
    with pytest.raises(KdedgeError, match=r"no labels came for 0 s.*run the same command again"):
        list(within(0.1, (never.wait() for _ in range(1))))
    never.set()


def test_each_actor_has_a_share_that_fits_on_a_machine() -> None:
    def nodes(*cpus: int, gpus: int = 0) -> list[dict[str, object]]:
        here = {"GPU": gpus} if gpus else {}
        return [{"Alive": True, "Resources": {"CPU": float(n), **here}} for n in cpus]

    assert actor_share(nodes(2), 1) == (2, 0)
    assert actor_share(nodes(2), 2) == (1, 0)
    # Twice 4 on one and once 4 on the other; 6 each would leave the third without a place.
    assert actor_share(nodes(8, 4), 3) == (4, 0)
    assert actor_share(nodes(8, gpus=2), 2) == (4, 1)
    assert actor_share(nodes(8, gpus=1), 2) == (4, 0)
    assert actor_share([*nodes(8), {"Alive": False, "Resources": {"CPU": 64.0}}], 1) == (8, 0)
    with pytest.raises(KdedgeError, match="--actors: 3; each needs a CPU, and this Ray has 2"):
        actor_share(nodes(1, 1), 3)


def test_without_ray_it_says_what_to_install(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "t.txt").write_text("good\n")
    arguments = [str(tmp_path / "t.txt"), "--teacher", str(tiny_bert), "--out", str(tmp_path / "s")]
    result = CliRunner().invoke(app, ["label", *arguments, "--engine", "ray"])
    assert result.exit_code == 2
    assert "pip install 'kdedge[ray]'" in result.output
    for wrong in (["--engine", "dask"], ["--actors", "2"]):
        assert CliRunner().invoke(app, ["label", *arguments, *wrong]).exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("actors", [1, 2])
def test_the_same_store(actors: int, load: partial[Teacher], folder: Path, tmp_path: Path) -> None:
    here = label_texts(load(), TextFiles(folder), tmp_path / "local")
    # Some of the texts are labelled already.
    label_texts(load(), texts(100), tmp_path / "ray")
    there = label_on_ray(load, TextFiles(folder), tmp_path / "ray", actors=actors)
    same(here, there)
    same(here, SoftLabels(tmp_path / "ray"))


@pytest.mark.slow
def test_every_actor_labels_a_part_of_a_single_file(load: partial[Teacher], tmp_path: Path) -> None:
    sentences = [f"{text} is a film as long as most" for text in texts(8192)]
    (tmp_path / "t.txt").write_text("\n".join(sentences) + "\n")
    busy: set[int] = set()

    def watch() -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    # The name of a Ray process while its actor labels.
                    if "MapWorker(MapBatches(_Teacher)).submit" in " ".join(process.cmdline()):
                        busy.add(process.pid)
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    label_on_ray(load, TextFiles(tmp_path / "t.txt"), tmp_path / "ray", batch_size=1, actors=2)
    assert len(busy) == 2


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["MapWorker", "read_missing"])
def test_a_killed_process_is_replaced(
    victim: str, load: partial[Teacher], folder: Path, tmp_path: Path
) -> None:
    here = label_texts(load(), TextFiles(folder), tmp_path / "local", batch_size=1)
    killed: list[int] = []

    def kill() -> None:
        # As soon as one of them works.
        while not killed:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    title = " ".join(process.cmdline())
                    if title.startswith("ray::") and victim in title and not killed:
                        process.kill()
                        killed.append(process.pid)
            time.sleep(0.02)

    threading.Thread(target=kill, daemon=True).start()
    there = label_on_ray(load, TextFiles(folder), tmp_path / "ray", batch_size=1, actors=2)
    assert killed
    same(here, there)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_no_ray_at_an_address(address: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("good\n")
    texts = TextFiles(tmp_path / "t.txt")
    with pytest.raises(KdedgeError, match=f"--address: no Ray answers at {address}"):
        label_on_ray(partial(load_teacher, "no"), texts, tmp_path / "s", address=address)

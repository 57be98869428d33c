"""The command line as a user meets it; the whole job is in test_pipeline.py and test_docs.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kdedge.cli import app

COMMANDS = (
    "run teach label average-labels import-labels attack distill compress export bench devices "
    "predict inspect sign verify"
).split()


def kdedge(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def refusal(*arguments: object, stdin: str | bytes | None = None) -> str:
    """What a command says that fails: one error, no traceback."""
    result = kdedge(*arguments, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_loads_no_tensorflow(command: list[str]) -> None:
    program = (
        "import sys; from kdedge.cli import app; "
        f"app({[*command, '--help']!r}, standalone_mode=False); "
        "heavy = {'tensorflow', 'keras', 'transformers', 'numpy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "Usage" in said.stdout
    if not command:
        assert all(name in said.stdout for name in COMMANDS)


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
    said = kdedge("predict", quick_run / "bundle", "--json", "--artifact", "onnx-int8", "gut 🎬")
    row = json.loads(said.stdout)
    assert row["text"] == "gut 🎬"
    assert row["label"] in row["probabilities"]
    assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_predict_refuses(quick_run: Path, tmp_path: Path) -> None:
    bundle = quick_run / "bundle"
    assert "one of the two" in refusal("predict", bundle, "x", "--file", tmp_path / "t.txt")
    assert "no such file" in refusal("predict", bundle, "--file", tmp_path / "t.txt")
    assert "not UTF-8" in refusal("predict", bundle, stdin=b"caf\xe9\n")
    assert "standard input, line 2" in refusal("predict", bundle, stdin="x\n\ny\n")
    assert "is no bundle" in refusal("predict", tmp_path, "x")
    assert "has no 'best'" in refusal("predict", bundle, "x", "--artifact", "best")


def test_inspect(quick_run: Path, tmp_path: Path) -> None:
    said = kdedge("inspect", quick_run / "bundle")
    assert said.exit_code == 0
    for part in ("litert-int8", "onnx-float32", "negative, positive", "files are as exported"):
        assert part in said.output
    assert "is no bundle" in refusal("inspect", tmp_path)


# Refusals come before any long work


def test_recipes_are_checked_first(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    assert "no such recipe" in refusal("run", recipe)
    recipe.write_text('name = "r"\n[data]\npath = "none.csv"\n[teach]\nepoch = 1\n')
    said = refusal("run", recipe)
    assert "teach.epoch: unknown key. Known here: pretrained, epochs" in said
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
    assert "Allowed: nano, micro, mini" in refusal(*store, tmp_path, "--student", "huge")
    assert "not a student" in refusal("export", tmp_path, "--out", out)
    assert "is no bundle" in refusal("bench", tmp_path, "--report", out)
    assert "no 'fast'. Allowed: quick" in refusal("bench", tmp_path, "--report", out,
                                                   "--tier", "fast")  # fmt: skip
    labels = ("import-labels", data, "--labels", "a,b", "--out", out, "--tokenizer")
    assert "neither a column logits" in refusal(*labels, tiny_bert)
    assert "no tokenizer" in refusal(*labels, tmp_path)
    assert not out.exists()


def test_labels_of_any_teacher_make_a_student(tmp_path: Path, tiny_bert: Path) -> None:
    rows = [{"text": f"{w} {i}", "probabilities": p} for i in range(20)
            for w, p in (("good", [0.1, 0.9]), ("bad", [0.8, 0.2]))]  # fmt: skip
    (tmp_path / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = tmp_path / "d.csv"
    data.write_text("text,label\n" + "".join(f"{r['text']},{r['text'].split()[0]}\n" for r in rows))
    labels = ("--labels", "bad,good", "--tokenizer", tiny_bert, "--max-length", 12)
    said = kdedge("import-labels", tmp_path / "theirs.jsonl", *labels, "--out", tmp_path / "soft")
    assert said.exit_code == 0, said.output
    said = kdedge("distill", data, "--soft-labels", tmp_path / "soft", "--student", "nano",
                  "--epochs", 30, "--out", tmp_path / "student")  # fmt: skip
    assert said.exit_code == 0, said.output
    notes = json.loads((tmp_path / "student" / "student.json").read_text())
    assert notes["teacher_accuracy"] == notes["accuracy"] == 1.0

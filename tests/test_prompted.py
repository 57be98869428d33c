"""A masked-language model as a teacher: its arithmetic, on a small random one."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from bert_in_numpy import bert_in_numpy, gelu, linear, norm
from conftest import TINY, WORDS, make_tiny_bert, write_checkpoint
from typer.testing import CliRunner

from kdedge import KdedgeError, SoftLabels
from kdedge.cli import app
from kdedge.teachers.label import label_texts
from kdedge.teachers.prompted import load_prompted_teacher

PATTERNS = ["{text} it w [MASK]", "[MASK] is the film {text}"]
VERBALIZERS = {"bad": ["awful", "bad"], "good": ["great"]}
TEXTS = ["good film", "a very bad plot and the actor is not good"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(8)
    encoder = tmp_path_factory.mktemp("encoder") / "bert"
    sizes = {"max_position_embeddings": 32}
    tensors = make_tiny_bert(encoder, scale=0.5, **sizes)
    head = "cls.predictions.transform"
    tensors |= {
        f"{head}.dense.weight": rng.normal(0, 0.5, (32, 32)).astype(np.float32),
        f"{head}.dense.bias": rng.normal(0, 0.5, 32).astype(np.float32),
        f"{head}.LayerNorm.weight": rng.normal(1, 0.5, 32).astype(np.float32),
        f"{head}.LayerNorm.bias": rng.normal(0, 0.5, 32).astype(np.float32),
        "cls.predictions.bias": rng.normal(0, 0.5, len(WORDS)).astype(np.float32),
    }
    folder = tmp_path_factory.mktemp("mlm") / "bert"
    write_checkpoint(folder, TINY | sizes | {"architectures": ["BertForMaskedLM"]}, tensors)
    return folder


def by_hand(folder: Path, text: str) -> np.ndarray:
    """Logits of both patterns, [2, 2], by the formulas, one text without padding."""
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    logits = []
    for pattern in PATTERNS:
        # `it` is no word here: its pieces are `i` and `##t`.
        words = pattern.replace("{text}", text).replace("it", "i ##t").split()
        ids = [WORDS.index(word) for word in ["[CLS]", *words, "[SEP]"]]
        state = bert_in_numpy(tensors, ids, layers=2, heads=2)[ids.index(WORDS.index("[MASK]"))]
        state = gelu(linear(tensors, state, "cls.predictions.transform.dense"))
        state = norm(tensors, state, "cls.predictions.transform")
        scores = tensors["embeddings.word_embeddings.weight"] @ state
        scores += tensors["cls.predictions.bias"]
        awful, bad, great = (scores[WORDS.index(word)] for word in ("awful", "bad", "great"))
        logits.append([(awful + bad) / 2, great])
    return np.array(logits)


def test_class_logits_are_those_of_the_verbalizers_in_the_blank(folder: Path) -> None:
    teacher = load_prompted_teacher(
        folder, PATTERNS, VERBALIZERS, pattern_weights=[3.0, 1.0], max_length=16
    )
    assert teacher.task.output_names == ("bad", "good")
    outputs = teacher.run(teacher.encoder.encode(TEXTS).inputs)
    for text, logits in zip(TEXTS, outputs["logits"], strict=True):
        first, second = by_hand(folder, text)
        assert np.abs(first - second).max() > 0.02
        np.testing.assert_allclose(logits, 0.75 * first + 0.25 * second, atol=1e-4)
    assert outputs["pooled"].shape == (2, 32)


def test_it_labels_as_any_teacher_does(folder: Path, tmp_path: Path) -> None:
    teacher = load_prompted_teacher(folder, PATTERNS, VERBALIZERS, max_length=16)
    # A text may hold a [MASK] of its own.
    store = label_texts(teacher, [*TEXTS, "[MASK] film"], tmp_path / "s")
    np.testing.assert_allclose(
        store.lookup(TEXTS[:1])[0][0], by_hand(folder, TEXTS[0]).mean(0), atol=1e-4
    )
    assert store.token_vectors().shape == (len(WORDS), 32)
    other = load_prompted_teacher(folder, PATTERNS[:1], VERBALIZERS, max_length=16)
    assert other.fingerprint != teacher.fingerprint


def test_the_command_labels_by_patterns(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('text\ngood film\n" "\n')
    out = tmp_path / "s"
    arguments = ["label", str(tmp_path / "t.csv"), "--teacher", str(folder), "--out", str(out)]
    arguments += ["--max-length", "16", "--empty-texts", "skip"]
    for pattern in PATTERNS:
        arguments += ["--pattern", pattern]
    words = ["--verbalizer", "bad=awful", "--verbalizer", "bad=bad", "--verbalizer", "good=great"]
    result = CliRunner().invoke(app, arguments + words)
    assert result.exit_code == 0, result.output
    assert "empty texts left out: 1\n" in result.stderr
    labels = SoftLabels(out)
    assert labels.task.output_names == ("bad", "good")
    np.testing.assert_allclose(
        labels.lookup(["good film"])[0][0], by_hand(folder, "good film").mean(0), atol=1e-4
    )
    # Two of them are averaged by another command.
    average = ["average-labels", str(out), str(out), "--out", str(tmp_path / "mean")]
    result = CliRunner().invoke(app, average)
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(
        SoftLabels(tmp_path / "mean").lookup(["good film"])[0], labels.lookup(["good film"])[0]
    )
    for wrong in (["--verbalizer", "great"], []):
        result = CliRunner().invoke(app, arguments + wrong)
        assert result.exit_code == 2
        assert "--verbalizer" in result.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patterns": ["{text} w"]}, "each must have {text} and .MASK. once"),
        ({"patterns": []}, "at least one pattern"),
        ({"pattern_weights": [1.0]}, r"\[1.0\] for 2 patterns"),
        ({"verbalizers": {"bad": ["bad"]}}, "two classes are needed"),
        ({"verbalizers": {"bad": ["bad"], "good": ["it"]}}, "'it' of 'good' is 2 word pieces"),
        ({"verbalizers": {"bad": ["bad"], "good": ["?"]}}, "'.' of 'good' is 1 word pieces or unk"),
        ({"max_length": 30}, "30 tokens are 34 with the longest pattern; .* takes at most 32"),
    ],
)
def test_what_it_refuses(folder: Path, changes: dict, message: str) -> None:
    good = {"patterns": PATTERNS, "verbalizers": VERBALIZERS, "max_length": 16}
    with pytest.raises(KdedgeError, match=message):
        load_prompted_teacher(folder, **good | changes)


def test_a_model_without_a_masked_language_head(tiny_bert: Path) -> None:
    with pytest.raises(KdedgeError, match="a model for BertModel has no masked-language head"):
        load_prompted_teacher(tiny_bert, PATTERNS, VERBALIZERS)

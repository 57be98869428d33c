"""Ready-made teachers: class names, exchanged classes, ONNX files, and their students."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import sentencepiece
from conftest import WORDS, make_tiny_bert
from pydantic import ValidationError
from transformers import AutoTokenizer
from typer.testing import CliRunner

from kdedge import Corpus, KdedgeError, TextEncoder, load_bundle, load_teacher
from kdedge.cli import app
from kdedge.distill.plan import plan_of
from kdedge.distill.transfer_set import in_order_of_corpus
from kdedge.labels.store import SoftLabels
from kdedge.pipeline import run
from kdedge.recipe import Distill, Teach, load_recipe
from kdedge.tasks import Classification, MultiLabel
from kdedge.teach.ready import write_teacher
from kdedge.teach.stage import finetune
from kdedge.teachers.bert import read_notes
from kdedge.teachers.checkpoints import content_of
from kdedge.teachers.classes import (
    best_order,
    counts_of,
    label_names,
    order_of,
    suggested_map,
    swap_warning,
)
from kdedge.teachers.label import label_texts, run_teacher
from kdedge.teachers.load import load_any_teacher
from kdedge.text.splits import Split

DATAS = Classification(label_names=("NEGATIVE", "POSITIVE"))
TEXTS = [f"{a} {b} {c}" for a in ("good", "bad") for b in ("film", "plot") for c in ("is", "not")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of two classes with a large head, so that it gives both answers."""
    folder = tmp_path_factory.mktemp("checkpoint") / "bert"
    make_tiny_bert(folder)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    rng = np.random.default_rng(5)
    tensors["classifier.weight"] = rng.normal(size=(2, 32)).astype(np.float32) * 20
    tensors["classifier.bias"] = np.zeros(2, np.float32)
    if not any(name.startswith("bert.") for name in tensors):
        tensors = {
            name if name.startswith("classifier") else f"bert.{name}": tensor
            for name, tensor in tensors.items()
        }
    tensors["bert.pooler.dense.weight"] = rng.normal(size=(32, 32)).astype(np.float32)
    tensors["bert.pooler.dense.bias"] = np.zeros(32, np.float32)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with_classes(folder, folder / "a", "a", "b")
    middle = run_teacher(load_teacher(folder / "a", max_length=16), TEXTS, 8)["logits"].mean(0)
    tensors["classifier.bias"] = -middle
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    shutil.rmtree(folder / "a")
    return folder


def with_classes(checkpoint: Path, folder: Path, *names: str) -> Path:
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def answers(source: Path) -> list[str]:
    """The checkpoint's own answers, as names of its classes."""
    teacher = load_teacher(source, max_length=16)
    logits = run_teacher(teacher, TEXTS, 8)["logits"]
    return [teacher.task.label_of(row) for row in logits.argmax(1)]


def corpus_of(labels: list[str], task: Classification = DATAS) -> Corpus:
    split = Split(tuple(TEXTS), task.numbers(labels, "test"))
    return Corpus(task, split, split, split)


AS_IT_IS = Teach(teacher="named below", max_length=16)


def ready_teacher(source: Path, corpus: Corpus, out: Path, **names: str) -> Any:
    settings = AS_IT_IS.model_copy(update={"teacher": str(source)})
    return write_teacher(corpus, settings, names, out)


def test_classes_go_by_name(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = with_classes(checkpoint, tmp_path / "reversed", "POSITIVE", "NEGATIVE")
    labels = answers(source)
    assert {*labels} == {"NEGATIVE", "POSITIVE"}
    corpus = corpus_of(labels)
    teacher = ready_teacher(source, corpus, tmp_path / "teacher")
    logits = run_teacher(teacher, TEXTS, 8)["logits"]
    assert [DATAS.label_of(row) for row in logits.argmax(1)] == labels
    assert "accuracy 100.0% on 8 texts of the valid split" in capsys.readouterr().err
    notes = read_notes(tmp_path / "teacher")
    assert notes["classes"] == {"NEGATIVE": "NEGATIVE", "POSITIVE": "POSITIVE"}
    assert (notes["accuracy"], notes["history"]) == (1.0, [])
    # The logits are the checkpoint's own, in the other order, to the last bit.
    own = run_teacher(load_teacher(source, max_length=16), TEXTS, 8)["logits"]
    np.testing.assert_array_equal(logits, own[:, ::-1])
    store = label_texts(teacher, TEXTS, tmp_path / "s")
    assert store.task == DATAS
    np.testing.assert_array_equal(store.lookup(TEXTS)[0], logits)


def test_fine_tuning_begins_with_what_the_checkpoint_says(checkpoint: Path, tmp_path: Path) -> None:
    source = with_classes(checkpoint, tmp_path / "reversed", "POSITIVE", "NEGATIVE")
    teacher = load_teacher(source, task=DATAS, max_length=16)
    logits = run_teacher(teacher, TEXTS, 8)["logits"]
    assert [DATAS.label_of(row) for row in logits.argmax(1)] == answers(source)
    # With this learning rate, an epoch changes almost nothing.
    settings = Teach(pretrained=str(source), epochs=1, learning_rate=1e-9, max_length=16)
    trained = finetune(corpus_of(answers(source)), settings, tmp_path / "teacher", seed=0)
    np.testing.assert_allclose(run_teacher(trained, TEXTS, 8)["logits"], logits, atol=1e-3)


def test_a_map_of_names(checkpoint: Path, tmp_path: Path) -> None:
    source = with_classes(checkpoint, tmp_path / "numbered", "LABEL_0", "LABEL_1")
    answered = answers(source)
    names = {"LABEL_0": "POSITIVE", "LABEL_1": "NEGATIVE"}
    corpus = corpus_of([names[name] for name in answered])
    with pytest.raises(KdedgeError) as refused:
        ready_teacher(source, corpus, tmp_path / "teacher")
    # Guessed from its answers, against the order of the names.
    note = "  # guessed from its answers to 8 texts: check it"
    assert f'[data.labels]\nLABEL_0 = "POSITIVE"{note}\nLABEL_1 = "NEGATIVE"' in str(refused.value)
    assert "line: --map LABEL_0=POSITIVE,LABEL_1=NEGATIVE" in str(refused.value)
    teacher = ready_teacher(source, corpus, tmp_path / "teacher", **names)
    logits = run_teacher(teacher, TEXTS, 8)["logits"]
    assert (logits.argmax(1) == corpus.valid.labels).all()
    # A store that was labelled before is read in the data's order too.
    old = label_texts(load_teacher(source, max_length=16), TEXTS, tmp_path / "s")
    assert old.task.output_names == ("LABEL_0", "LABEL_1")
    with pytest.raises(KdedgeError, match='LABEL_0 = "POSITIVE"  # guessed'):
        in_order_of_corpus(old, corpus, {})
    store = in_order_of_corpus(old, corpus, names)
    assert store.task == DATAS
    np.testing.assert_array_equal(store.lookup(TEXTS)[0], logits)
    # Labels that are added are read as they were given, and stored in the store's order.
    store.add(["the actor"], np.array([[1, 2]], np.float32), np.zeros((1, 32), np.float16))
    assert store.lookup(["the actor"])[0].tolist() == [[1, 2]]
    assert SoftLabels(tmp_path / "s").lookup(["the actor"])[0].tolist() == [[2, 1]]


def test_a_store_with_the_names_of_the_data(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = with_classes(checkpoint, tmp_path / "teacher", "NEGATIVE", "POSITIVE")
    store = label_texts(load_teacher(source, max_length=16), TEXTS, tmp_path / "s")
    assert in_order_of_corpus(store, corpus_of(answers(source)), {}) is store
    assert "look exchanged" not in capsys.readouterr().err
    other = {"NEGATIVE": "POSITIVE", "POSITIVE": "NEGATIVE"}
    wrong = corpus_of([other[name] for name in answers(source)])
    assert in_order_of_corpus(store, wrong, {}) is store
    assert "classes look exchanged: 100.0% of the answers" in capsys.readouterr().err
    mapped = in_order_of_corpus(store, wrong, other)
    np.testing.assert_array_equal(mapped.lookup(TEXTS)[0], store.lookup(TEXTS)[0][:, ::-1])
    assert "look exchanged" not in capsys.readouterr().err
    with pytest.raises(KdedgeError, match="bad: .* has no such class"):
        in_order_of_corpus(store, wrong, {"bad": "NEGATIVE"})


def test_exchanged_classes_are_told(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = with_classes(checkpoint, tmp_path / "wrong", "NEGATIVE", "POSITIVE")
    other = {"NEGATIVE": "POSITIVE", "POSITIVE": "NEGATIVE"}
    ready_teacher(
        source, corpus_of([other[name] for name in answers(source)]), tmp_path / "teacher"
    )
    told = capsys.readouterr().err
    assert "accuracy 0.0% on 8 texts" in told
    assert "classes look exchanged: 100.0% of the answers would be right" in told
    assert '[data.labels]\n"POSITIVE" = "NEGATIVE"\n"NEGATIVE" = "POSITIVE"' in told


def test_other_classes_need_a_new_head(checkpoint: Path, tmp_path: Path) -> None:
    three = Classification(label_names=("a", "b", "c"))
    corpus = corpus_of(["a", "b", "c", "a", "b", "c", "a", "b"], three)
    source = with_classes(checkpoint, tmp_path / "two", "NEGATIVE", "POSITIVE")
    with pytest.raises(KdedgeError, match="--start probe"):
        ready_teacher(source, corpus, tmp_path / "teacher")
    settings = Teach(pretrained=str(source), epochs=1, max_length=16)
    with pytest.raises(KdedgeError, match=r"are NEGATIVE, POSITIVE, and the data's a, b, c.*start"):
        finetune(corpus, settings, tmp_path / "teacher", seed=0)
    anew = settings.model_copy(update={"start": "probe"})
    assert finetune(corpus, anew, tmp_path / "teacher", seed=0).task == three


# Names


@pytest.mark.parametrize(
    ("theirs", "ours", "lines"),
    [
        (("NEG", "POS"), ("negative", "positive"), ['NEG = "negative"', 'POS = "positive"']),
        (("Pos ", "neg"), ("neg", "pos"), ['"Pos " = "pos"', 'neg = "neg"']),
        (
            ("LABEL_0", "LABEL_1"),
            ("bad", "good"),
            [
                'LABEL_0 = "bad"  # guessed by the order only: check it',
                'LABEL_1 = "good"  # guessed by the order only: check it',
            ],
        ),
        (
            ("1 star", "good", "neutral"),
            ("bad", "fair", "good"),
            ['"1 star" = ""  # one of: bad, fair', 'good = "good"', 'neutral = ""  # one of: b'],
        ),
    ],
)
def test_a_map_is_guessed_by_names(
    theirs: tuple[str, ...], ours: tuple[str, ...], lines: list[str]
) -> None:
    assert "[data.labels]\n" + "\n".join(lines) in suggested_map(theirs, ours, None)


def test_orders() -> None:
    task = Classification(label_names=("a", "b", "c"))
    theirs = Classification(label_names=("c", "X", "b"))
    assert order_of(theirs, {"X": "a"}, task, "it") == [1, 2, 0]
    with pytest.raises(KdedgeError, match="Y: it has no such class. It has c, X, b"):
        order_of(theirs, {"Y": "a"}, task, "it")
    other = MultiLabel(label_names=theirs.label_names)
    with pytest.raises(KdedgeError, match="it: a teacher for multi-label, but the data's task is "):
        order_of(other, {}, task, "it")
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    # Texts of class 0 got 0 and 2, those of class 1 got 0 and 1.
    counts = counts_of(logits, np.array([0, 1, 1, 0], np.int32))
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert best_order(np.array([[1, 9, 0], [8, 2, 1], [0, 0, 5]])) == [1, 0, 2]
    many = np.roll(np.eye(9, dtype=np.int64), 1, axis=1) * 7 + 1
    assert best_order(many) == [(i - 1) % 9 for i in range(9)]


def test_numbers_of_labels() -> None:
    assert label_names({"id2label": {"10": "k", "9": "j"}}, "it") == ("j", "k")
    assert label_names({"label2id": {"pos": 1, "neg": 0}}, "it") == ("neg", "pos")
    assert label_names({}, "it") == ()
    with pytest.raises(KdedgeError, match="id2label must map numbers to names"):
        label_names({"id2label": {"a": "b"}}, "it")


def test_fine_tuning_settings_are_not_for_a_teacher_as_it_is() -> None:
    with pytest.raises(ValidationError, match="epochs, pretrained: only for fine-tuning"):
        Teach(teacher="x", pretrained="y", epochs=2)


def test_a_teacher_of_one_answer_does_not_look_exchanged() -> None:
    assert swap_warning(np.array([[30, 270], [0, 0]]), DATAS, ["a", "b"]) == ""
    told = swap_warning(np.array([[5, 260], [25, 10]]), DATAS, ["a", "b"])
    assert told.startswith("its classes look exchanged: 95.0% of the answers")
    assert '"b" = "NEGATIVE"\n"a" = "POSITIVE"' in told


# Word pieces of the student's own


def with_unigram(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with another tokenizer than it was made for, as XLM-R's is."""
    with_classes(checkpoint, folder, "NEGATIVE", "POSITIVE")
    (folder / "vocab.txt").unlink()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    settings = {"tokenizer_class": "XLMRobertaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_a_student_of_a_unigram_teacher_has_vectors_by_text(
    checkpoint: Path, tmp_path: Path
) -> None:
    teacher = load_teacher(with_unigram(checkpoint, tmp_path / "unigram"), max_length=16)
    assert teacher.encoder.pad_id == 1
    store = label_texts(teacher, TEXTS, tmp_path / "s")
    students = store.encoder()
    assert students.is_berts and not store.shares_tokens
    assert {"good", "film", "##m"} <= {*students.vocabulary}
    vectors = store.token_vectors()
    assert vectors is not None and vectors.shape == (len(students.vocabulary), 32)
    for piece, text in (("film", "film"), ("##m", "m"), ("[CLS]", "")):
        expected = run_teacher(teacher, [text], 1)["pooled"][0]
        np.testing.assert_allclose(vectors[students.vocabulary.index(piece)], expected, atol=2e-3)
    # What needs the same tokens is refused, before any training.
    corpus = corpus_of(["NEGATIVE", "POSITIVE"] * 4)
    for settings, named in (
        (Distill(student="mini", hidden_weight=1, max_length=16), "hidden_weight"),
        (Distill(student="mini-cut", max_length=16), "student = 'mini-cut'"),
        (Distill(adversary="substitution", max_length=16), "adversary = 'substitution'"),
    ):
        with pytest.raises(KdedgeError, match=f"{named}: teacher and student would have to read"):
            plan_of(corpus, store, students, settings, 0, tmp_path / "unigram")
    assert plan_of(corpus, store, students, Distill(max_length=16), 0, None).teacher_ids


# ONNX


def onnx_of(checkpoint: Path, folder: Path, *, named: bool = True) -> Path:
    """logits = sum over tokens of a table's row, of a size that shows which token it was."""
    from onnx import TensorProto, helper, numpy_helper, save

    folder.mkdir()
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    table = np.random.default_rng(0).normal(size=(len(WORDS), 2)).astype(np.float32)
    axes = numpy_helper.from_array(np.array([2]), "axes")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axes"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["real"]),
        helper.make_node("ReduceMean", ["real"], ["logits"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "tiny", inputs, [output], [numpy_helper.from_array(table, "table"), axes]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save(model, folder / "model.onnx")
    shutil.copy(checkpoint / "vocab.txt", folder)
    config = {"model_type": "bert", "vocab_size": len(WORDS)}
    if named:
        config["id2label"] = {"0": "POSITIVE", "1": "NEGATIVE"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "model.onnx"


def test_an_onnx_file_is_a_teacher(checkpoint: Path, tmp_path: Path) -> None:
    path = onnx_of(checkpoint, tmp_path / "onnx")
    own = load_any_teacher(path, max_length=16)
    assert own.task.output_names == ("POSITIVE", "NEGATIVE")
    ids = own.encoder.token_ids(["good film"])[0]
    table = np.random.default_rng(0).normal(size=(len(WORDS), 2)).astype(np.float32)
    expected = table[ids].mean(0)
    np.testing.assert_allclose(run_teacher(own, ["good film"], 8)["logits"][0], expected, 1e-5)
    corpus = corpus_of(["NEGATIVE", "POSITIVE"] * 4)
    teacher = ready_teacher(path, corpus, tmp_path / "teacher")
    logits = run_teacher(teacher, ["good film"], 8)["logits"]
    np.testing.assert_allclose(logits[0], expected[::-1], 1e-5)
    assert teacher.task == DATAS
    # Loaded from its folder, it is the same.
    again = load_any_teacher(tmp_path / "teacher", task=DATAS)
    np.testing.assert_array_equal(run_teacher(again, ["good film"], 8)["logits"], logits)
    store = label_texts(again, TEXTS, tmp_path / "s")
    assert not store.has_features and store.token_vectors() is None
    assert store.encoder().token_ids(TEXTS) == again.encoder.token_ids(TEXTS)
    # A second run adds what is missing.
    assert len(label_texts(again, [*TEXTS, "plot"], tmp_path / "s")) == len(TEXTS) + 1


def test_an_onnx_file_whose_classes_are_exchanged(checkpoint: Path, tmp_path: Path) -> None:
    path = onnx_of(checkpoint, tmp_path / "onnx")
    config = json.loads(path.with_name("config.json").read_text())
    # As optimum copies it from a teacher that kdedge fine-tuned.
    config |= {
        "label2id": {"POSITIVE": 0, "NEGATIVE": 1},
        "kdedge_task": Classification(label_names=("POSITIVE", "NEGATIVE")).model_dump(),
    }
    path.with_name("config.json").write_text(json.dumps(config))
    own = run_teacher(load_any_teacher(path, max_length=16), TEXTS, 8)["logits"]
    names = {"POSITIVE": "NEGATIVE", "NEGATIVE": "POSITIVE"}
    corpus = corpus_of(["NEGATIVE", "POSITIVE"] * 4)
    teacher = ready_teacher(path, corpus, tmp_path / "teacher", **names)
    assert teacher.task == DATAS
    np.testing.assert_array_equal(run_teacher(teacher, TEXTS, 8)["logits"], own)


def test_a_teacher_that_was_fine_tuned_again(checkpoint: Path, tmp_path: Path) -> None:
    load_teacher(checkpoint, task=DATAS, head="own").save_pretrained(tmp_path / "ours")
    # transformers keeps settings that it does not know.
    other = with_classes(tmp_path / "ours", tmp_path / "theirs", "POSITIVE", "NEGATIVE")
    with pytest.raises(KdedgeError, match="are POSITIVE, NEGATIVE by id2label, and NEGATIVE, POS"):
        load_teacher(other)


def test_a_teacher_is_known_by_its_content(checkpoint: Path, tmp_path: Path) -> None:
    for source in (
        with_classes(checkpoint, tmp_path / "bert", "NEGATIVE", "POSITIVE"),
        onnx_of(checkpoint, tmp_path / "onnx"),
    ):
        before = content_of(str(source))
        assert content_of(str(source)) == before
        folder = source if source.is_dir() else source.parent
        config = folder / "config.json"
        config.write_text(config.read_text().replace("POSITIVE", "positive"))
        assert content_of(str(source)) != before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unigram", "onnx"])
def test_from_a_teacher_as_it_is_to_a_bundle(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    if kind == "onnx":
        onnx_of(checkpoint, tmp_path / "onnx")
    else:
        with_unigram(checkpoint, tmp_path / "unigram")
    rows = [f"{text} {i},{'np'[i % 2]}" for i, text in enumerate(TEXTS * 25)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    teacher = {"onnx": "onnx/model.onnx", "unigram": "unigram"}[kind]
    (tmp_path / "r.toml").write_text(
        f"""
        name = "r"
        [data]
        path = "texts.csv"
        [data.labels]
        NEGATIVE = "n"
        POSITIVE = "p"
        [teach]
        teacher = "{teacher}"
        max_length = 16
        # The tiny vocabulary has no digits.
        max_unknown = 1
        [label]
        augmented = 0
        [distill]
        student = "nano"
        epochs = 1
        max_length = 16
        [export]
        lengths = [16]
        artifacts = ["onnx-float32"]
        teacher_artifacts = ["onnx-float32"]
        max_accuracy_drop = 50
        [bench]
        tier = "quick"
        """
    )
    out = tmp_path / "run"
    report = run(load_recipe(tmp_path / "r.toml"), out)
    assert any(m.is_teacher for m in report.measurements) == (kind == "unigram")
    bundle = TextEncoder.load(out / "bundle")
    assert bundle.is_berts
    theirs = AutoTokenizer.from_pretrained(out / "bundle")
    assert bundle.token_ids(TEXTS) == [theirs(text)["input_ids"] for text in TEXTS]
    assert load_bundle(out / "bundle").predict(["good film"])[0].label in ("n", "p")


@pytest.mark.parametrize("kind", ["unigram", "onnx"])
def test_neighbours_of_words_are_refused_before_training(
    kind: str, checkpoint: Path, tmp_path: Path
) -> None:
    if kind == "onnx":
        teacher = onnx_of(checkpoint, tmp_path / "onnx")
    else:
        teacher = with_unigram(checkpoint, tmp_path / "unigram")
    rows = [f"{text} {i},{('NEGATIVE', 'POSITIVE')[i % 2]}" for i, text in enumerate(TEXTS * 5)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[data]\npath = "texts.csv"\n[label.mixture]\nneighbours = 1\n'
        f'[teach]\nteacher = "{teacher}"\nmax_length = 16\nmax_unknown = 1\n'
    )
    with pytest.raises(KdedgeError, match="label.mixture.neighbours: needs a BERT"):
        run(load_recipe(tmp_path / "r.toml"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_maps_on_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    source = with_classes(checkpoint, tmp_path / "numbered", "LABEL_0", "LABEL_1")
    (tmp_path / "texts.csv").write_text("\n".join(["text", *TEXTS]) + "\n")
    command = ["label", str(tmp_path / "texts.csv"), "--teacher", str(source), "--max-length", "16"]

    def labelled(names: str) -> SoftLabels:
        out = tmp_path / names.replace("=", "")
        result = CliRunner().invoke(app, [*command, "--out", str(out), "--map", names])
        assert result.exit_code == 0, result.output
        return SoftLabels(out)

    # In the order of the names, as a corpus has them.
    kept, turned = labelled("LABEL_0=a,LABEL_1=b"), labelled("LABEL_0=b,LABEL_1=a")
    assert kept.task.output_names == turned.task.output_names == ("a", "b")
    np.testing.assert_array_equal(kept.lookup(TEXTS)[0], turned.lookup(TEXTS)[0][:, ::-1])
    quoted = labelled('"LABEL_0=a, or so",LABEL_1=b')
    assert quoted.task.output_names == ("a, or so", "b")
    for names, message in (
        ("LABEL_2=a", "LABEL_2: .* has no such class. It has LABEL_0, LABEL_1"),
        ("LABEL_0", "--map: 'LABEL_0'. Write NAME=LABEL, each name once"),
        ("LABEL_0=a,LABEL_1=a", "--map: a, a: two classes have one label"),
    ):
        result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "x"), "--map", names])
        assert result.exit_code == 2
        assert re.search(message, result.stderr), result.stderr


def test_an_onnx_file_without_names(checkpoint: Path, tmp_path: Path) -> None:
    path = onnx_of(checkpoint, tmp_path / "onnx", named=False)
    assert load_any_teacher(path).task.output_names == ("LABEL_0", "LABEL_1")
    (tmp_path / "onnx" / "vocab.txt").unlink()
    with pytest.raises(KdedgeError, match="no tokenizer"):
        load_any_teacher(path)


def test_an_onnx_file_for_one_text_only(checkpoint: Path, tmp_path: Path) -> None:
    import onnx

    path = onnx_of(checkpoint, tmp_path / "onnx")
    model = onnx.load(path)
    for given in model.graph.input:
        given.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    with pytest.raises(KdedgeError, match="can't be run on texts: .*Got: 4 Expected: 1.*optimum"):
        load_any_teacher(path)


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    """The ONNX file, after a change of its model."""
    import onnx

    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def with_another_output(graph: Any, name: str = "vectors") -> None:
    from onnx import TensorProto, helper

    graph.node.append(helper.make_node("Neg", ["logits"], [name]))
    own = graph.output.pop()
    graph.output.extend([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2]), own])


def test_of_several_outputs_the_logits_count(checkpoint: Path, tmp_path: Path) -> None:
    path = onnx_of(checkpoint, tmp_path / "onnx")
    expected = run_teacher(load_any_teacher(path), TEXTS, 8)["logits"]
    changed(path, with_another_output)
    np.testing.assert_array_equal(run_teacher(load_any_teacher(path), TEXTS, 8)["logits"], expected)
    changed(path, lambda graph: graph.output.pop())
    # Only one is left, whatever its name.
    np.testing.assert_array_equal(
        run_teacher(load_any_teacher(path), TEXTS, 8)["logits"], -expected
    )
    changed(path, lambda graph: graph.output.append(type(graph.output[0])(name="table")))
    with pytest.raises(KdedgeError, match=r"outputs are .'vectors', 'table'.; one of several must"):
        load_any_teacher(path)


def last_is(kind: str, **attributes: int) -> Callable[[Any], None]:
    """Add a last node to a graph, whose output gets the name of the graph's output."""

    def change(graph: Any) -> None:
        from onnx import helper

        graph.node[-1].output[0] = "before"
        graph.node.append(helper.make_node(kind, ["before"], ["logits"], **attributes))

    return change


@pytest.mark.parametrize(
    ("kind", "problem_type"),
    [
        ("Softmax", "single_label_classification"),
        ("Sigmoid", "multi_label_classification"),
    ],
)
def test_probabilities_are_not_taken_as_logits(
    kind: str, problem_type: str, checkpoint: Path, tmp_path: Path
) -> None:
    path = onnx_of(checkpoint, tmp_path / "onnx")
    config = path.with_name("config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"problem_type": problem_type}))
    load_any_teacher(path)
    changed(path, last_is(kind))
    with pytest.raises(KdedgeError, match="outputs look like probabilities.*kdedge import-labels"):
        load_any_teacher(path)


def for_ten_tokens(graph: Any) -> None:
    """Add vectors of ten positions to the mask, as a model without padding does."""
    from onnx import helper, numpy_helper

    positions = np.ones((1, 10, 1), np.float32)
    graph.initializer.append(numpy_helper.from_array(positions, "positions"))
    whole = np.array([0, 1, 2])
    graph.initializer.append(numpy_helper.from_array(whole, "axes3"))
    nodes = [
        helper.make_node("Shape", ["weights"], ["size"]),
        helper.make_node("Slice", ["positions", "zeros", "size", "axes3"], ["some"]),
        helper.make_node("Mul", ["real", "some"], ["moved"]),
    ]
    graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.int64), "zeros"))
    mean = graph.node.pop()
    mean.input[0] = "moved"
    graph.node.extend([*nodes, mean])


def test_the_longest_text_is_tried_first(checkpoint: Path, tmp_path: Path) -> None:
    path = changed(onnx_of(checkpoint, tmp_path / "onnx"), for_ten_tokens)
    teacher, rows = load_any_teacher(path, max_length=10), np.ones((1, 11), np.int32)
    with pytest.raises(KdedgeError, match="can't be run on some texts. Export the model with"):
        teacher.run({"ids": rows, "mask": rows, "segment_ids": rows})
    with pytest.raises(KdedgeError, match="but not on texts of 11 tokens. Set max_length"):
        load_any_teacher(path, max_length=11)


def test_onnx_files_in_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    path = onnx_of(checkpoint, tmp_path / "model")
    folder = path.parent
    (folder / "onnx").mkdir()
    path.rename(folder / "onnx/model.onnx")
    # As on the hub.
    assert load_any_teacher(folder).task.output_names == ("POSITIVE", "NEGATIVE")
    shutil.copy(folder / "onnx/model.onnx", folder / "onnx/model_quantized.onnx")
    with pytest.raises(KdedgeError, match="name one of them as the teacher: .*onnx/model.onnx, "):
        load_any_teacher(folder)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_onnx_file(content: bytes, checkpoint: Path, tmp_path: Path) -> None:
    path = onnx_of(checkpoint, tmp_path / "onnx")
    path.write_bytes(content)
    with pytest.raises(KdedgeError, match="ONNX Runtime refuses this model.*optimum-cli export"):
        load_any_teacher(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(KdedgeError, match="a pointer of Git LFS"):
        load_any_teacher(path)
    with pytest.raises(KdedgeError, match="no such file.*optimum-cli export"):
        load_any_teacher(tmp_path / "other.onnx")

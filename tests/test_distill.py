"""The distillation stage: from stored soft labels to a student, also if it was stopped."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_parts import Stop, watch_steps

from kdedge import Corpus, KdedgeError, SoftLabels, Student, TextEncoder, load_teacher
from kdedge.distill.stage import distill_student
from kdedge.distill.transfer_set import TransferSet
from kdedge.recipe import Distill
from kdedge.students.architecture import Parts
from kdedge.students.trained import predict_logits
from kdedge.tasks import Classification
from kdedge.teachers.label import label_texts
from kdedge.text.splits import Split

NAMES = ("bad", "good")
SETTINGS = Distill(student="nano", epochs=3, batch_size=8, max_length=16, learning_rate=5e-3)


def corpus() -> Corpus:
    """The label is whether `good` or `bad` is in the text."""
    rng = np.random.default_rng(0)

    def split(count: int, part: str) -> Split:
        labels = np.arange(count, dtype=np.int32) % 2
        fillers = ("film", "great", "plot", "actor", "the", "is")
        texts = (
            " ".join([*rng.choice(fillers, 4), NAMES[label], part[0], f"{i}"])
            for i, label in enumerate(labels)
        )
        return Split(tuple(texts), labels)

    return Corpus(
        Classification(label_names=NAMES), split(64, "train"), split(16, "valid"), split(16, "test")
    )


@pytest.fixture(scope="module")
def store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> SoftLabels:
    """A real store, whose teacher is sure of the true label."""
    teacher = load_teacher(tiny_bert, task=Classification(label_names=NAMES))
    data = corpus()
    splits = (data.train, data.valid, data.test)
    texts = [text for split in splits for text in split.texts]
    real = label_texts(teacher, texts, tmp_path_factory.mktemp("real") / "s")
    folder = tmp_path_factory.mktemp("sure") / "s"
    sure = SoftLabels.create(folder, "print", Classification(label_names=NAMES), has_features=True)
    labels = np.concatenate([split.labels for split in splits])
    logits = np.where(np.eye(2)[labels] > 0, 2.0, -2.0).astype(np.float32)
    sure.add(texts, logits, real.lookup(texts)[1])
    sure.add(["more good film", "more bad film"], np.array([[-2, 2], [2, -2]], np.float32),
             real.lookup(texts)[1][:2])  # fmt: skip
    sure.keep(teacher.encoder, np.pad(real.token_vectors(), [(0, 0), (0, 100)]))
    return SoftLabels(folder)


def train(store: SoftLabels, out: Path, **changes: object) -> Student:
    settings = SETTINGS.model_copy(update=changes)
    return distill_student(corpus(), store, store.encoder(), settings, out, seed=3)


def weights(student: Student) -> list[np.ndarray]:
    return student.model.get_weights()


def same(a: Student, b: Student) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def test_each_epoch_has_typos_of_its_own(store: SoftLabels, tmp_path: Path) -> None:
    transfer, file = TransferSet(store, corpus()), tmp_path / "ids"

    def ids(typos: float, seed: list[int]) -> list[list[int]]:
        written = transfer.token_ids(store.encoder(), file, typos, seed)
        return [written.of(i) for i in range(len(written))]

    clean, *epochs = ids(0.0, [3]), *(ids(0.5, [3, epoch]) for epoch in range(3))
    for epoch in epochs:
        # Half of 66 texts of 7 words, nearly each with a typo or more; standard error 4.
        assert 16 < sum(ids != old for ids, old in zip(epoch, clean, strict=True)) < 46
    assert epochs[0] != epochs[1] != epochs[2]
    assert ids(0.5, [3, 1]) == epochs[1]
    student = train(store, tmp_path / "student", typos=0.5)
    assert not same(student, train(store, tmp_path / "without"))


@pytest.mark.parametrize("preset", ["nano", "micro", "mini"])
def test_a_student_learns_what_the_teacher_knows(
    preset: str, store: SoftLabels, tmp_path: Path
) -> None:
    student = train(store, tmp_path / "student", student=preset, epochs=6)
    notes = student.notes
    assert notes["accuracy"] == notes["agreement"] == notes["teacher_accuracy"] == 1.0
    assert notes["retention"] == 1.0
    # Everything in the store but the valid and test texts.
    assert notes["transfer_texts"] == 64 + 2
    history = notes["history"]
    assert [h["epoch"] for h in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < history[0]["loss"]
    again = Student.load(tmp_path / "student")
    assert same(again, student)
    np.testing.assert_array_equal(again.test.teacher_logits[:, 0] < 0, corpus().test.labels)
    outputs = predict_logits(again.model, again.encoder, corpus().test.texts)
    np.testing.assert_allclose(outputs, again.test.logits, atol=1e-6)


def test_rare_pieces_get_no_place_in_the_student(store: SoftLabels, tmp_path: Path) -> None:
    student = train(store, tmp_path / "student", vocabulary=52, epochs=6)
    kept = student.encoder.vocabulary
    # 44 special tokens and characters, and 8 of the words: `awful` is in no text.
    assert {"film", "good", "bad", "t"} <= {*kept} and "awful" not in kept
    assert len(kept) == 52
    with pytest.raises(KdedgeError, match="needs all of the teacher's 56. Leave vocab"):
        settings = SETTINGS.model_copy(update={"vocabulary": 50, "adversary": "substitution"})
        out, teacher = tmp_path / "other", tmp_path / "teacher"
        distill_student(corpus(), store, store.encoder(), settings, out, 3, teacher)
    assert student.notes["vocabulary"] == len(kept) < len(store.encoder().vocabulary)
    assert Parts(student.model).token_embedding.embeddings.shape[0] == len(kept)
    assert student.notes["accuracy"] == 1.0
    assert Student.load(tmp_path / "student").encoder.vocabulary == kept


def test_a_training_that_diverges_says_so(store: SoftLabels, tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match=r"student: after epoch 1 .*loss is nan.*learning_rate"):
        train(store, tmp_path / "student", learning_rate=1e30)
    assert not (tmp_path / "student").exists()


def test_the_same_seed_gives_the_same_student(store: SoftLabels, tmp_path: Path) -> None:
    first, second = (train(store, tmp_path / name) for name in ("a", "b"))
    assert same(first, second)
    assert not same(first, train(store, tmp_path / "c", learning_rate=4e-3))


@pytest.mark.parametrize("typos", [0.0, 0.5])
def test_a_stopped_run_goes_on_to_the_same_student(
    typos: float, store: SoftLabels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(store, tmp_path / "undisturbed", student="micro", typos=typos)
    with monkeypatch.context() as patched:
        watch_steps(patched, stop_at=14)
        with pytest.raises(Stop):
            train(store, tmp_path / "stopped", student="micro", typos=typos)
    # 66 texts make 9 batches: it was in the second epoch, which is done again.
    steps = watch_steps(monkeypatch)
    again = train(store, tmp_path / "stopped", student="micro", typos=typos)
    assert len(steps) == 18
    assert steps[0].startswith("epoch 2, loss ")
    assert same(again, undisturbed)
    assert again.notes == undisturbed.notes
    assert not list(tmp_path.glob(".*"))


def test_the_best_epoch_is_kept(store: SoftLabels, tmp_path: Path) -> None:
    """The learning rate is so high that the last epochs are worse."""
    student = train(
        store, tmp_path / "s", epochs=3, learning_rate=0.5, learning_rate_decay="constant"
    )
    losses = [epoch["val_loss"] for epoch in student.notes["history"]]
    assert min(losses) < losses[-1]
    best = student.notes["history"][losses.index(min(losses))]
    # 2^2 KL(softmax(teacher / 2) || softmax(student / 2)), the mean over the valid split.
    teacher, own = (
        z / 2 - np.log(np.exp(z / 2).sum(1, keepdims=True))
        for z in (student.valid.teacher_logits, student.valid.logits)
    )
    loss = 4 * (np.exp(teacher) * (teacher - own)).sum(1).mean()
    assert loss == pytest.approx(best["val_soft_label_loss"], rel=1e-4)


def test_labels_from_elsewhere_are_enough(store: SoftLabels, tmp_path: Path) -> None:
    texts = list(store.texts)
    bare = SoftLabels.create(
        tmp_path / "s", "imported", Classification(label_names=NAMES), has_features=False
    )
    bare.add(texts, store.lookup(texts)[0])
    bare.keep(store.encoder(), None)
    with pytest.raises(KdedgeError, match="no token vectors .* from_teacher = false"):
        train(bare, tmp_path / "student")
    student = train(bare, tmp_path / "student", from_teacher=False, epochs=8)
    assert student.notes["accuracy"] == 1.0
    assert "feature_loss" not in student.notes["history"][0]


@pytest.mark.slow
def test_two_devices_learn_what_one_learns(store: SoftLabels, tmp_path: Path) -> None:
    # TensorFlow must be told before it starts that there are two.
    program = f"""
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from test_distill import *
import keras
# Each device drops values of its own, and clips the gradients of its part of the batch.
keras.layers.Dropout.call = lambda self, inputs, training=False: inputs
adam = keras.optimizers.Adam
keras.optimizers.Adam = lambda rate, clipnorm: adam(rate)
store = SoftLabels(Path({str(store.folder)!r}))
used, mirrored = [], tf.distribute.MirroredStrategy
tf.distribute.MirroredStrategy = lambda names: used.append(names) or mirrored(names)
for devices in (1, 2):
    train(store, Path({str(tmp_path)!r}) / str(devices), devices=devices)
assert used == [["/device:CPU:0", "/device:CPU:1"]], used
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    one, two = (Student.load(tmp_path / name) for name in ("1", "2"))
    for a, b in zip(one.notes["history"], two.notes["history"], strict=True):
        for name in ("loss", "soft_label_loss", "feature_loss", "val_loss"):
            assert a[name] == pytest.approx(b[name], rel=1e-2), name
    np.testing.assert_allclose(one.test.logits, two.test.logits, atol=0.05)


# What is refused


def test_more_devices_than_there_are(store: SoftLabels, tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match="devices: 2; TensorFlow sees 1 here: /device:CPU:0"):
        train(store, tmp_path / "s", devices=2)
    with pytest.raises(KdedgeError, match="devices: 17; at most 16 are allowed"):
        train(store, tmp_path / "s", batch_size=17, devices=17)


def test_what_does_not_fit_together(store: SoftLabels, tmp_path: Path) -> None:
    data, encoder, out = corpus(), store.encoder(), tmp_path / "student"
    other = Corpus(Classification(label_names=("a", "b")), data.train, data.valid, data.test)
    with pytest.raises(KdedgeError, match="labels are for bad, good, the data has a, b"):
        distill_student(other, store, encoder, SETTINGS, out, seed=0)
    more = Corpus(
        Classification(label_names=NAMES),
        Split(("new",), np.array([0], np.int32)),
        data.valid,
        data.test,
    )
    with pytest.raises(KdedgeError, match="1 of 1 texts have no soft label, first 'new'"):
        distill_student(more, store, encoder, SETTINGS, out, seed=0)
    short = TextEncoder(encoder.tokenizer, 8)
    with pytest.raises(KdedgeError, match=r"max_length is 16, more than the teacher's 8"):
        distill_student(data, store, short, SETTINGS, out, seed=0)
    out.mkdir()
    with pytest.raises(KdedgeError, match="exists already"):
        distill_student(data, store, encoder, SETTINGS, out, seed=0)


def test_a_full_disk_is_noticed_before_training(
    store: SoftLabels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("kdedge.files.shutil.disk_usage", lambda path: usage)
    with pytest.raises(KdedgeError, match=r"0 MB are free on this disk and about \d+ MB are nee"):
        train(store, tmp_path / "student")


def test_notes_are_for_people(store: SoftLabels, tmp_path: Path) -> None:
    train(store, tmp_path / "student")
    notes = json.loads((tmp_path / "student" / "student.json").read_text())
    assert notes["settings"]["student"] == notes["preset"] == "nano"
    assert notes["seed"] == 3
    assert notes["teacher"] == "print"

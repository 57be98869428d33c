"""Compression: the twin, the weights that each method leaves, and the gain from training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from conftest import classes, few_texts
from training_parts import Stop, watch_steps
from typer.testing import CliRunner

from kdedge import KdedgeError, SoftLabels, Student, TextEncoder, build_student, load_teacher
from kdedge.cli import app
from kdedge.compress.stage import compress, compress_student, soft_label_loss
from kdedge.compress.twin import twin_of
from kdedge.layers.transformer import gelu_tanh
from kdedge.recipe import Compress
from kdedge.students.architecture import Parts, Request
from kdedge.students.convolutional import convolutional
from kdedge.students.presets import PRESETS
from kdedge.students.trained import Evaluation, predict_logits
from kdedge.students.transformer import mini
from kdedge.tasks import Classification
from kdedge.teachers.bert import BertTeacher

NOUNS = "film plot actor".split()
TEXTS = [f"the {noun} is {word} {end}".strip() for noun in NOUNS for end in ("", "and not", "the")
         for word in ("good", "great", "bad", "awful")]  # fmt: skip
IS_GOOD = np.array(["good" in text or "great" in text for text in TEXTS])
TEACHER = np.where(IS_GOOD[:, None], [-1.5, 1.5], [1.5, -1.5]).astype(np.float32)


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(
        tiny_bert, task=Classification(label_names=("bad", "good")), with_hidden_states=True
    )


@pytest.fixture(scope="module")
def encoder(teacher: BertTeacher) -> TextEncoder:
    return teacher.encoder


def make_student(encoder: TextEncoder, preset: str = "nano") -> Student:
    keras.utils.set_random_seed(3)
    request = Request(classes(2), len(encoder.vocabulary), 24)
    model = {
        "nano": lambda: convolutional(
            request, width=32, kernels=(1,), filters=32, hidden=40, dropout=0.2, name="nano"
        ),
        "micro": lambda: convolutional(
            request, width=32, kernels=(1, 3), filters=32, hidden=32, dropout=0.2, name="micro"
        ),
        "mini": lambda: mini(request, width=32, layers=1, heads=2, head_width=16, feed_forward=48),
    }[preset]()
    held_out = ("a good film", "a bad film", "great", "awful")
    split = Evaluation(
        held_out, np.array([1, 0, 1, 0], np.int32), predict_logits(model, encoder, held_out)
    )
    return Student(
        model,
        encoder,
        Classification(label_names=("bad", "good")),
        split,
        split,
        {"preset": preset},
    )


def run(student: Student, method: str, seed: int = 1, **settings: Any) -> Student:
    given = {"epochs": 3, "batch_size": 9, "sparsity": 0.7, "clusters": 8, **settings}
    return compress(student, method, TEXTS, TEACHER, Compress(**given), seed)


def matrices(student: Student) -> dict[str, np.ndarray]:
    """The weights that methods change: large matrices, no biases, norms or positions."""
    return {
        weight.path: weight.numpy()
        for layer in student.model.layers
        if layer.count_params() >= 1000 and layer.name != "positions"
        for weight in layer.weights
        if weight.path.endswith(("kernel", "embeddings"))
    }


# The twin


@pytest.mark.parametrize("preset", PRESETS)
def test_the_twin_says_the_same(preset: str, teacher: BertTeacher) -> None:
    keras.utils.set_random_seed(5)
    size = len(teacher.encoder.vocabulary)
    model = build_student(
        preset,
        task=classes(2 if PRESETS[preset].needs_teacher else 3),
        vocabulary=size,
        max_length=16,
        teacher=teacher,
        corpus=few_texts(*TEXTS),
    )
    # Biases of 0 and norms of 1 would hide that they are missing.
    for variable in model.trainable_variables:
        variable.assign_add(keras.random.normal(variable.shape, stddev=0.05))
    inputs = teacher.encoder.encode(["the film is good", "not very bad and awful plot", "a"]).inputs
    np.testing.assert_allclose(
        np.asarray(twin_of(model)(inputs, training=False)),
        np.asarray(model(inputs, training=False)),
        atol=1e-6,
    )


@keras.saving.register_keras_serializable("test")
class Own(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x


def test_what_has_no_twin_is_named(encoder: TextEncoder) -> None:
    inputs = keras.Input((4,), name="ids")
    shared = keras.layers.Dense(4, name="shared")
    for outputs, message in (
        (Own(name="mine")(inputs), "mine: tf_keras has no twin of this Own"),
        (shared(shared(inputs)), "shared is used twice"),
        (keras.ops.add(inputs, 1), "add.* is used twice or is no layer"),
        (keras.layers.Dense(4, keras.ops.square, name="odd")(inputs), "odd: tf_keras has no twin"),
        (keras.layers.LeakyReLU(0.1)(keras.layers.Dense(9)(inputs)), "theirs: its twin .* gives o"),
        (keras.layers.Dense(4, "hard_sigmoid")(inputs), "theirs: its twin in tf_keras gives other"),
    ):
        model = keras.Model(inputs, outputs, name="theirs")
        with pytest.raises(KdedgeError, match=message):
            run(replace(make_student(encoder), model=model), "pruning")
    with pytest.raises(KdedgeError, match="not a functional model"):
        twin_of(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


def test_activations_of_our_own_have_twins() -> None:
    inputs = keras.Input((1,), name="ids")
    layer = keras.layers.Dense(1, activation=gelu_tanh, kernel_initializer="ones")
    twin = twin_of(keras.Model({"ids": inputs}, layer(inputs)))
    # GELU of 1 by its tanh approximation; the exact one is 0.841345.
    assert float(twin({"ids": np.ones((1, 1))})[0, 0]) == pytest.approx(0.841192, abs=1e-6)


# The loss


def test_soft_label_loss_by_hand() -> None:
    task = Classification(label_names=("bad", "good"))
    teacher, student = np.log([[0.7, 0.3]]), np.log([[0.6, 0.4]])
    # 0.7 ln(0.7 / 0.6) + 0.3 ln(0.3 / 0.4)
    assert float(soft_label_loss(task, 1.0)(teacher, student)[0]) == pytest.approx(
        0.021601, abs=1e-6
    )
    # Twice the logits at twice the temperature: the same, times 2^2.
    assert float(soft_label_loss(task, 2.0)(2 * teacher, 2 * student)[0]) == pytest.approx(
        4 * 0.021601, abs=4e-6
    )


# The weights that the methods leave


@pytest.mark.parametrize("preset", ["micro", "mini"])
def test_pruning_leaves_as_many_zeros_as_asked_for(preset: str, encoder: TextEncoder) -> None:
    student = make_student(encoder, preset)
    pruned = run(student, "pruning", sparsity=0.7)
    assert len(matrices(pruned)) == {"micro": 4, "mini": 7}[preset]
    for path, weight in matrices(pruned).items():
        assert abs((weight == 0).sum() - 0.7 * weight.size) <= 1, path
        # It is trained, not only pruned.
        kept = weight != 0
        assert (weight[kept] != matrices(student)[path][kept]).any()
    # Small and other layers are not touched, and the notes say so.
    assert (pruned.model.get_layer("logits").kernel.numpy() != 0).all()
    assert "logits" in pruned.notes["compression"][0]["left_out"]


def test_one_step_is_enough_for_the_sparsity(encoder: TextEncoder) -> None:
    pruned = run(make_student(encoder), "pruning", epochs=1, batch_size=99, sparsity=0.5)
    for weight in matrices(pruned).values():
        assert abs((weight == 0).sum() - 0.5 * weight.size) <= 1


def test_clustering_leaves_few_values(encoder: TextEncoder) -> None:
    student = make_student(encoder, "mini")
    clustered = run(student, "clustering", clusters=5)
    weights = matrices(clustered)
    assert weights.keys() == matrices(student).keys()
    for path, weight in weights.items():
        assert 2 <= len(np.unique(weight)) <= 5, path
    noted = clustered.notes["compression"][0]["weights"]
    assert all(noted[path]["distinct"] == len(np.unique(w)) for path, w in weights.items())


def test_clustering_keeps_zeros(encoder: TextEncoder) -> None:
    student = make_student(encoder, "micro")
    both = run(student, "pruning-clustering", sparsity=0.6, clusters=5)
    for path, weight in matrices(both).items():
        assert np.mean(weight == 0) >= 0.6 - 1 / weight.size, path
        assert 3 <= len(np.unique(weight)) <= 5
    noted = both.notes["compression"][0]["weights"]
    assert all(noted[p]["zeros"] == np.mean(w == 0) for p, w in matrices(both).items())


def test_a_rounded_student_is_what_int8_can_hold(encoder: TextEncoder) -> None:
    for preset, left_out in (("micro", []), ("mini", ["positions"])):
        student = make_student(encoder, preset)
        rounded = run(student, "quantization-aware")
        assert rounded.notes["compression"][0]["left_out"] == left_out
        for path, weight in matrices(rounded).items():
            # A scale for the whole table, and one for each of a kernel's last axis.
            is_kernel = path.endswith("kernel")
            rows = weight.reshape(-1, weight.shape[-1]).T if is_kernel else weight.reshape(1, -1)
            steps = rows / (np.abs(rows).max(1, keepdims=True) / 127)
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-3, err_msg=path)
            assert (weight != matrices(student)[path]).any()


def test_a_shorter_vocabulary(encoder: TextEncoder) -> None:
    student = make_student(encoder)
    smaller = run(student, "vocabulary", min_count=10)
    # `film` is in 12 texts, `good` in 9; single characters stay, whatever they count.
    kept = smaller.encoder.vocabulary
    assert "film" in kept and "good" not in kept and "w" in kept
    assert Parts(smaller.model).token_embedding.embeddings.shape[0] == len(kept)
    assert smaller.notes["vocabulary"] == len(kept) < len(encoder.vocabulary)


# As a whole


@pytest.mark.parametrize("method", ["pruning-clustering", "quantization-aware"])
def test_training_learns_what_the_teacher_says(method: str, encoder: TextEncoder) -> None:
    student = make_student(encoder)
    trained = run(student, method, epochs=40, learning_rate=0.01, sparsity=0.5)
    answers = predict_logits(trained.model, encoder, TEXTS).argmax(1)
    assert np.mean(answers == IS_GOOD) == 1.0
    assert np.mean(predict_logits(student.model, encoder, TEXTS).argmax(1) == IS_GOOD) < 0.9
    done = trained.notes["compression"][0]
    assert done["method"] == method
    assert done["accuracy"][1] == trained.notes["accuracy"]
    assert done["accuracy"][0] == np.mean(student.test.logits.argmax(1) == student.test.labels)
    np.testing.assert_array_equal(
        trained.test.logits, predict_logits(trained.model, encoder, trained.test.texts)
    )


def test_a_training_that_diverges_says_so(encoder: TextEncoder) -> None:
    with pytest.raises(KdedgeError, match=r"diverged|not finite"):
        run(make_student(encoder), "pruning", epochs=2, learning_rate=1e30)


def test_one_seed_one_student(encoder: TextEncoder) -> None:
    student = make_student(encoder)
    before = [w.copy() for w in student.model.get_weights()]
    first, again, other = (run(student, "pruning", seed=s, epochs=1) for s in (1, 1, 2))
    for a, b in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.valid.logits != other.valid.logits).any()
    # The given student is unchanged.
    for a, b in zip(before, student.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# As a stage


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SoftLabels:
    """Soft labels of the texts and of one that the students are tested with."""
    folder = tmp_path_factory.mktemp("soft") / "s"
    task = Classification(label_names=("bad", "good"))
    store = SoftLabels.create(folder, "theirs", task, has_features=False)
    store.add([*TEXTS, "a good film"], np.concatenate([TEACHER, TEACHER[:1]]))
    return SoftLabels(folder)


TWO_METHODS = Compress(
    methods=("vocabulary", "pruning-clustering"), epochs=2, batch_size=9, clusters=8, min_count=2
)


def test_one_method_after_the_other(
    encoder: TextEncoder, store: SoftLabels, tmp_path: Path
) -> None:
    student = make_student(encoder)
    smaller = compress_student(student, store, TWO_METHODS, tmp_path / "s", 1)
    by_hand = student
    for method in TWO_METHODS.methods:
        by_hand = compress(by_hand, method, TEXTS, TEACHER, TWO_METHODS, 1)
    for a, b in zip(smaller.model.get_weights(), by_hand.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert smaller.notes == by_hand.notes
    assert [done["method"] for done in smaller.notes["compression"]] == [*TWO_METHODS.methods]
    assert not list(tmp_path.glob(".*"))


def test_a_stopped_compression_goes_on_to_the_same_student(
    encoder: TextEncoder, store: SoftLabels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compressed_files(name: str) -> dict[str, bytes]:
        compress_student(make_student(encoder), store, TWO_METHODS, tmp_path / name, 1)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    # As in a process that has loaded no BERT.
    tf_keras.backend.experimental.disable_tf_random_generator()
    # 36 texts make 4 batches; two epochs each for the vocabulary, for pruning and for clustering.
    # Stopped in an epoch of the first one, then twice before the first epoch of the next one ends,
    # and in the last epoch: each time what is whole is not done again.
    for steps in (6, 4 + 3, 8 + 2, 4 + 3):
        with monkeypatch.context() as patched:
            watch_steps(patched, stop_at=steps)
            with pytest.raises(Stop):
                compressed_files("stopped")
    done = watch_steps(monkeypatch)
    stopped = compressed_files("stopped")
    assert len(done) == 4
    assert not list(tmp_path.glob(".*"))
    assert stopped == compressed_files("undisturbed")
    assert len(done) == 4 + 24


def test_held_out_texts_are_not_learned(
    encoder: TextEncoder, store: SoftLabels, tmp_path: Path
) -> None:
    student = make_student(encoder)
    texts = ["a good film", *TEXTS, "awful"]
    logits = np.concatenate([TEACHER[:1], TEACHER, TEACHER[:1]])
    mixed = compress(student, "pruning", texts, logits, Compress(), 1)
    alone = compress(student, "pruning", TEXTS, TEACHER, Compress(), 1)
    for a, b in zip(mixed.model.get_weights(), alone.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert mixed.notes["compression"][0]["transfer_texts"] == len(TEXTS)
    with pytest.raises(KdedgeError, match="texts: none but the student's own valid and test"):
        compress(student, "pruning", ["awful"], TEACHER[:1], Compress(), 1)
    only = SoftLabels.create(tmp_path / "only", "theirs", student.task, has_features=False)
    only.add(["awful"], TEACHER[:1])
    with pytest.raises(KdedgeError, match="no texts but the student's own valid and test texts"):
        compress_student(student, only, TWO_METHODS, tmp_path / "s", 1)


def test_bad_input(encoder: TextEncoder, store: SoftLabels, tmp_path: Path) -> None:
    student, settings = make_student(encoder), Compress()
    with pytest.raises(KdedgeError, match="'zip'. Allowed: vocabulary, pruning, clustering"):
        compress(student, "zip", TEXTS, TEACHER, settings, 1)
    with pytest.raises(KdedgeError, match="texts: none"):
        compress(student, "pruning", [], TEACHER[:0], settings, 1)
    with pytest.raises(KdedgeError, match=r"shape \(35, 2\); .* of shape \(36, 2\) are needed"):
        compress(student, "pruning", TEXTS, TEACHER[1:], settings, 1)
    with pytest.raises(KdedgeError, match="finite"):
        compress(student, "pruning", TEXTS, TEACHER * np.inf, settings, 1)
    with pytest.raises(KdedgeError, match="compress.methods: none"):
        compress_student(student, store, settings, tmp_path / "s", 1)
    (tmp_path / "s").mkdir()
    with pytest.raises(KdedgeError, match="exists already"):
        compress_student(student, store, TWO_METHODS, tmp_path / "s", 1)


def test_the_command(encoder: TextEncoder, store: SoftLabels, tmp_path: Path) -> None:
    student = make_student(encoder)
    student.save(tmp_path / "student")

    def run_command(*arguments: object, out: str = "small") -> tuple[int, str]:
        given = ("compress", tmp_path / "student", "--soft-labels", store.folder)
        all_of_it = [*given, "--out", tmp_path / out, *arguments]
        result = CliRunner().invoke(app, [str(a) for a in all_of_it])
        return result.exit_code, " ".join(result.output.split())

    code, output = run_command("--method", "pruning", "--epochs", 1, "--sparsity", 0.5)
    assert code == 0, output
    small = Student.load(tmp_path / "small")
    (done,) = json.loads((tmp_path / "small" / "student.json").read_text())["compression"]
    # The valid and test texts are not trained on.
    assert done["transfer_texts"] == len(TEXTS)
    assert done["settings"]["sparsity"] == 0.5
    for weight in matrices(small).values():
        assert abs((weight == 0).sum() - 0.5 * weight.size) <= 1
    assert run_command("--method", "pruning") == (2, f"error: {tmp_path / 'small'} exists already. "
                                              "Remove it or name another folder.")  # fmt: skip
    code, output = run_command("--method", "zip", out="other")
    assert code == 2 and "Allowed: vocabulary, pruning" in output
    SoftLabels.create(
        tmp_path / "soft2", "theirs", Classification(label_names=("no", "yes")), has_features=False
    )
    code, output = run_command(
        "--method", "pruning", "--soft-labels", tmp_path / "soft2", out="other"
    )
    assert code == 2 and "are for no, yes, the data has bad, good" in output
    assert not (tmp_path / "other").exists()

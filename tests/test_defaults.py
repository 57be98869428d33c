"""Settings that kdedge fits to the data, as a table; a setting that is given is not changed."""

import numpy as np
import pytest
from conftest import classes

from kdedge.defaults import full_distill, full_label, full_teach, length_for, several_lengths
from kdedge.errors import KdedgeError
from kdedge.recipe import Distill, Label, Mixture, Teach
from kdedge.tasks import MultiLabel, Regression, Task
from kdedge.text.corpus import Corpus
from kdedge.text.splits import Split


def texts(*counts: int) -> Split:
    """This many texts of each class."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Split(tuple(f"text {i}" for i in range(len(labels))), labels)


@pytest.mark.parametrize(
    ("counts", "epochs", "patience", "batch", "weights"),
    [
        ((8, 8), 20, 5, 16, "none"),
        ((250, 250), 20, 5, 16, "none"),
        ((1000, 1000), 12, 3, 32, "none"),
        ((4000, 4000), 3, 2, 32, "none"),
        ((50_000, 50_000), 2, 2, 32, "none"),
        ((900, 91), 20, 5, 16, "none"),
        ((1000, 100), 20, 5, 32, None),
    ],
)
def test_fine_tuning_follows_the_number_of_texts(
    counts: tuple[int, ...], epochs: int, patience: int, batch: int, weights: str | None
) -> None:
    full = full_teach(Teach(), classes(len(counts)), texts(*counts), [20], 512)
    assert (full.epochs, full.patience, full.batch_size) == (epochs, patience, batch)
    assert full.class_weights == weights
    assert (full.metric, full.max_length) == ("accuracy", 24)


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        (classes(2), {"accuracy", "macro_f1"}),
        (MultiLabel(label_names=("a", "b")), {"micro_f1", "macro_f1"}),
        (Regression(mean=0, deviation=1), {"pearson", "spearman"}),
    ],
)
def test_the_metric_is_one_of_the_tasks(task: Task, metrics: set[str]) -> None:
    for metric in ("accuracy", "macro_f1", "micro_f1", "pearson", "spearman"):
        given = Teach.model_validate({"metric": metric})
        if metric in metrics:
            assert full_teach(given, task, texts(9, 9), [20], 512).metric == metric
        else:
            with pytest.raises(KdedgeError, match=f"teach.metric: {metric}; for {task.name}"):
                full_teach(given, task, texts(9, 9), [20], 512)


def test_what_is_given_wins() -> None:
    given = Teach(
        epochs=1, batch_size=3, learning_rate=0.5, max_length=7, metric="macro_f1",
        class_weights="balanced",
    )  # fmt: skip
    full = full_teach(given, classes(2), texts(999, 9), [20], 512)
    assert {name: getattr(full, name) for name in given.model_fields_set} == given.model_dump(
        include=given.model_fields_set
    )
    corpus = Corpus(classes(2), *3 * [texts(50, 50)])
    full_labelled = full_label(Label(augmented=0, mixture=Mixture(words=1, drop=0)), corpus)
    assert full_labelled.augmented == 0
    assert (full_labelled.mixture.words, full_labelled.mixture.drop) == (1, 0)
    full_distilled = full_distill(Distill(epochs=5, max_length=9), corpus, 100, 64)
    assert (full_distilled.epochs, full_distilled.max_length) == (5, 9)


@pytest.mark.parametrize(
    ("train", "unlabelled", "unseen", "augmented", "words"),
    [
        (100, 0, 1, 10_000, 0),
        (100, 0, 2, 20_000, 9),
        (3_000, 0, 1, 12_000, 0),
        (3_000, 1_999, 2, 20_000, 9),
        (3_000, 2_000, 2, 20_000, 0),
        (10**5, 0, 0, 40_000, 0),
    ],
)
def test_augmented_texts(
    train: int, unlabelled: int, unseen: int, augmented: int, words: int
) -> None:
    full = full_label(Label(), with_unseen(unseen, train, unlabelled))
    mixture = {"drop": 1, "crop": 1, "splice": 1, "mask": 0, "typos": 0, "neighbours": 0}
    assert full.augmented == augmented
    assert full.mixture.model_dump() == mixture | {"words": words}


def with_unseen(words: int, train: int, unlabelled: int = 0) -> Corpus:
    """A corpus with ten words in the valid texts, of which some are not in the training texts."""
    valid = ["Text", *["text"] * (9 - words), *["new"] * words]
    held_out = Split((", ".join(valid[:4]), ", ".join(valid[4:])), np.array([0, 1]))
    more = tuple(f"more {i}" for i in range(unlabelled))
    return Corpus(classes(2), texts(train, 0), held_out, held_out, more)


@pytest.mark.parametrize(
    ("transfer", "unseen", "epochs"),
    [
        # 4,000 and 1,250 steps of 128 texts.
        (40_000, 1, 13), (40_000, 2, 8), (17_000, 1, 30), (17_000, 2, 9), (100, 2, 30),
        (10**6, 0, 8),
    ],
)  # fmt: skip
def test_epochs_of_the_student(transfer: int, unseen: int, epochs: int) -> None:
    full = full_distill(Distill(), with_unseen(unseen, 100), transfer, 64)
    assert (full.epochs, full.max_length) == (epochs, 64)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5] * 100, 16),
        # 99 of 100 are within 17.
        ([17] * 99 + [90], 24),
        ([17] * 90 + [60] * 10, 64),
        ([500] * 100, 128),
    ],
)
def test_nearly_all_texts_fit(lengths: list[int], expected: int) -> None:
    assert length_for(lengths) == expected


@pytest.mark.parametrize(
    ("width", "rate"), [(384, 1e-4), (768, 5e-5), (1024, 3.75e-5), (4096, 2e-5), (64, 3e-4)]
)
def test_wider_models_take_smaller_steps(width: int, rate: float) -> None:
    full = full_teach(Teach(), classes(2), texts(9, 9), [60], 24, width)
    assert full.learning_rate == pytest.approx(rate)
    assert full_teach(Teach(), classes(2), texts(9, 9), [60], 24).learning_rate == 5e-5


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        # A quarter within 11, half within 13, three quarters within 15, 95% within 20.
        ([11] * 30 + [13] * 30 + [15] * 20 + [20] * 15 + [60] * 5, (16, 24, 64)),
        ([8] * 25 + [9] * 25 + [25] * 25 + [40] * 20 + [64] * 5, (8, 16, 32, 40, 64)),
        ([70] * 100, (64,)),
        ([], (64,)),
    ],
)
def test_lengths_of_a_file_for_several(lengths: list[int], expected: tuple[int, ...]) -> None:
    assert several_lengths(lengths, longest=64) == expected


def test_no_more_tokens_than_the_model_takes() -> None:
    assert full_teach(Teach(), classes(2), texts(9, 9), [60], 24).max_length == 24

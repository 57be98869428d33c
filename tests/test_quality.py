"""Teacher and student compared with simple baselines: numbers worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from bench_parts import make_encoder, make_report
from conftest import classes

from kdedge import Corpus, build_student
from kdedge.bench.report.model import Scored
from kdedge.bench.report.page import render_page
from kdedge.bench.report.quality import likely_reason, quality_of, verdict
from kdedge.students.trained import Evaluation, Student
from kdedge.teach.baselines import PROBE, TFIDF, Baseline, read_baselines, write_baselines
from kdedge.text.rules import Finding
from kdedge.text.splits import Split

TASK = classes(3)


def corpus(each: int = 20) -> Corpus:
    labels = np.repeat(np.arange(3, dtype=np.int32), each)
    texts = tuple(f"word{label} other{i}" for i, label in enumerate(labels))
    split = Split(texts, labels)
    return Corpus(TASK, split, split, split)


def student() -> Student:
    """A student that is right on 3 of 4 texts; its teacher is right on all."""
    labels = np.array([0, 0, 1, 2], np.int32)
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    test = Evaluation(("a", "b", "c", "d"), labels, logits, np.eye(3, dtype=np.float32)[labels])

    model = build_student("nano", task=TASK, vocabulary=9, max_length=4)
    return Student(model, make_encoder(), TASK, test, test, {"preset": "micro"})


def test_the_models_side_by_side() -> None:
    beside = [
        Baseline(name=TFIDF, valid={"accuracy": 0.5}, test={"accuracy": 0.7, "macro_f1": 0.7}),
        Baseline(name=PROBE, valid={"accuracy": 0.5}, test={"accuracy": 0.8, "macro_f1": 0.8}),
    ]
    quality = quality_of(student(), corpus(), {}, beside)
    assert [one.name for one in quality.models] == [TFIDF, PROBE, "teacher", "micro"]
    accuracies = [one.measures["accuracy"] for one in quality.models]
    assert accuracies == [0.7, 0.8, 1.0, 0.75]
    assert quality.verdicts[0] == (
        f"teacher (100.0% accuracy) is better than {TFIDF} (70.0%) and than {PROBE} (80.0%)"
        # Wilson's intervals of 4 of 4 and of 3 of 4.
        "; the difference can be chance: the 95% interval of teacher is 51.0 to 100.0%"
    )
    worse = (
        f"micro (75.0% accuracy) is NOT better than {PROBE} (80.0%)"
        "; the difference can be chance: the 95% interval of micro is 30.1 to 95.4%."
    )
    assert quality.verdicts[1].startswith(worse)
    assert "the student is too small" in quality.verdicts[1]
    # Class 0: one of two is found; class 1: two get the label, one has it. Class 2 is all right.
    by_name = {one.name: (one.precision, one.recall, one.f1) for one in quality.classes}
    assert by_name["class 0"] == pytest.approx((1.0, 0.5, 2 / 3))
    assert by_name["class 1"] == pytest.approx((0.5, 1.0, 2 / 3))
    assert quality.classes[-1].name == "class 2"
    (confusion,) = quality.confusions
    assert (confusion.label, confusion.answer, confusion.texts) == ("class 0", "class 1", 1)

    report = make_report().model_copy(update={"quality": quality})
    page = render_page(report, title="t", training=None, disagreements=None, stages=None)
    assert "Compared with simple baselines" in page
    assert quality.verdicts[1].split(" (")[0] in page
    assert "Most frequent confusions" in page


def test_equal_is_not_better() -> None:
    one = Scored(name="micro", measures={"accuracy": 0.7})
    baseline = Scored(name=TFIDF, measures={"accuracy": 0.7})
    line = verdict(one, [baseline], "accuracy", "Why.", (0.6, 0.8))
    assert line == f"micro (70.0% accuracy) is NOT better than {TFIDF} (70.0%). Why."


def test_a_difference_larger_than_the_interval_is_no_chance() -> None:
    one = Scored(name="micro", measures={"accuracy": 0.9})
    baseline = Scored(name=TFIDF, measures={"accuracy": 0.7})
    line = verdict(one, [baseline], "accuracy", "Why.", (0.85, 0.95))
    assert line == f"micro (90.0% accuracy) is better than {TFIDF} (70.0%)"


def test_where_no_answer_is_wrong_the_texts_are_too_easy() -> None:
    one = Scored(name="teacher", measures={"accuracy": 1.0})
    line = verdict(one, [Scored(name=TFIDF, measures={"accuracy": 1.0})], "accuracy", "", (0.9, 1))
    assert line.endswith(
        "No answer is wrong, so these test texts are too easy to compare the models."
    )


def test_a_student_is_to_blame_if_its_teacher_is_as_good_as_the_baselines() -> None:
    beside = [Baseline(name=TFIDF, valid={"accuracy": 1.0}, test={"accuracy": 1.0})]
    unknown = Finding("unknown tokens", 2, "percent", "", "")
    quality = quality_of(student(), corpus(), {}, beside, [unknown])
    assert "the student is too small" in quality.verdicts[1]


def test_the_likely_reason() -> None:
    unknown = Finding("unknown tokens", 30, "percent", "", "")
    assert "does not know 30% of the tokens" in likely_reason(corpus(), {}, [unknown])
    pieces = Finding("words in pieces", 40, "percent", "", "")
    assert "40% of the tokens continue a word" in likely_reason(corpus(), {}, [pieces])
    assert "3 of 3 classes have fewer than 20" in likely_reason(corpus(19), {}, [])
    epochs = [{"epoch": i, "val_accuracy": 0.1 * i} for i in range(3)]
    assert "too few epochs" in likely_reason(corpus(), {"history": epochs}, [])
    assert "single words" in likely_reason(corpus(), {"history": epochs[::-1]}, [])
    hardly = [{"epoch": i, "val_accuracy": 0.9 + 0.001 * i} for i in range(3)]
    assert "single words" in likely_reason(corpus(), {"history": hardly}, [])
    of_probe = likely_reason(corpus(), {"history": hardly}, [], best_baseline=PROBE)
    assert "too few labelled texts, or too few epochs" in of_probe
    assert "too small" in likely_reason(corpus(), {"history": epochs}, [], teacher_is_better=True)
    copies = Finding("copies in train", 2, "rows of train with the text of another row", "", "kept")
    doubtful = Corpus(TASK, corpus().train, corpus().valid, corpus().test, findings=(copies,))
    assert "text of another row" in likely_reason(doubtful, {}, [])
    assert "too small" in likely_reason(doubtful, {}, [], teacher_is_better=True)


def test_baselines_come_back_from_their_file(tmp_path: Path) -> None:
    measured = {"accuracy": 0.5, "macro_f1": 0.4}
    notes = {"probe": {"valid": measured, "test": measured}}
    write_baselines(corpus(), notes, tmp_path / "baselines.json")
    tfidf, probe = read_baselines(tmp_path / "baselines.json")
    # The label is a word of each text.
    assert (tfidf.name, tfidf.test) == (TFIDF, {"accuracy": 1.0, "macro_f1": 1.0})
    assert (probe.name, probe.test) == (PROBE, measured)
    write_baselines(corpus(), {}, tmp_path / "alone.json")
    assert [one["name"] for one in json.loads((tmp_path / "alone.json").read_text())] == [TFIDF]

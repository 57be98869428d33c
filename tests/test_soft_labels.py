"""The store of soft labels: stored, imported, continued, and refused if damaged."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kdedge.teachers.label as module
from kdedge import KdedgeError, SoftLabels, load_teacher
from kdedge.distill.plan import tell_other_units
from kdedge.labels.imported import import_soft_labels
from kdedge.labels.index import TextIndex
from kdedge.tasks import Classification, Regression, task_of_names
from kdedge.teachers.bert import BertTeacher
from kdedge.teachers.label import label_texts
from kdedge.text.readers import TextFiles

NAMES = ("bad", "good")
LOGITS = np.array([[1.0, -1.0], [0.25, 2.0]], np.float32)


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> BertTeacher:
    return load_teacher(tiny_bert, task=Classification(label_names=NAMES))


def texts(count: int) -> list[str]:
    words = ("good", "bad", "film", "great", "awful", "plot", "actor")
    return [" ".join(words[(i + j) % 7] for j in range(1 + i % 9)) + f" {i}" for i in range(count)]


def test_a_store_keeps_texts_logits_and_features(tmp_path: Path) -> None:
    store = SoftLabels.create(
        tmp_path / "s", "print", Classification(label_names=NAMES), has_features=True
    )
    pooled = np.array([[0.5, 1, 2], [3, 4, 5]], np.float16)
    store.add(["x", "y"], LOGITS, pooled)
    store.add(["z"], LOGITS[:1] + 1, pooled[:1] + 1)
    for opened in (store, SoftLabels(tmp_path / "s")):
        assert len(opened) == 3
        assert opened.texts == ("x", "y", "z")
        assert opened.missing(["z", "new", "x", "new"]) == ["new"]
        logits, features = opened.lookup(["z", "x"])
        assert logits.tolist() == [[2.0, 0.0], [1.0, -1.0]]
        assert features is not None and features.tolist() == [[1.5, 2, 3], [0.5, 1, 2]]
    # Other users can read it.
    table = pq.read_table(next((tmp_path / "s").glob("part-00000-*.parquet")))
    assert table.schema.field("logits").type == pa.list_(pa.float32(), 2)
    assert table.to_pylist()[1] == {"text": "y", "logits": [0.25, 2.0], "pooled": [3, 4, 5]}


def test_a_teachers_labels_are_what_it_says(teacher: BertTeacher, tmp_path: Path) -> None:
    some = texts(10)
    store = label_texts(teacher, [*some, some[0]], tmp_path / "s", batch_size=4)
    assert sorted(store.texts) == sorted(some)
    logits, pooled = store.lookup(some)
    for i, text in enumerate(some):
        alone = teacher(teacher.encoder.encode([text]).inputs)
        np.testing.assert_allclose(logits[i], alone["logits"][0], atol=1e-5)
        assert pooled is not None
        np.testing.assert_allclose(pooled[i], alone["pooled"][0], atol=2e-3)


def test_token_vectors_are_of_each_entry_alone(teacher: BertTeacher, tmp_path: Path) -> None:
    vectors = label_texts(teacher, ["good"], tmp_path / "s").token_vectors()
    assert vectors is not None
    assert vectors.shape == (len(teacher.encoder.vocabulary), 32)
    entry = teacher.encoder.vocabulary.index("film")
    alone = teacher(teacher.encoder.encode(["film"]).inputs)["pooled"][0]
    np.testing.assert_allclose(vectors[entry], alone, atol=2e-3)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def test_a_stopped_labelling_goes_on_to_the_same_store(
    teacher: BertTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEXTS_A_SHARD", 8)
    many = texts(50)
    label_texts(teacher, many, tmp_path / "undisturbed", batch_size=4)

    class Stop(BaseException):
        pass

    def stop(*arguments: object) -> None:
        raise Stop

    add = SoftLabels.add
    with monkeypatch.context() as patched:
        calls = []
        patched.setattr(
            SoftLabels, "add", lambda *a: stop() if len(calls) == 3 else calls.append(add(*a))
        )
        with pytest.raises(Stop):
            label_texts(teacher, many, tmp_path / "stopped", batch_size=4)
    before = shards(tmp_path / "stopped")
    assert len(before) == 3
    label_texts(teacher, many, tmp_path / "stopped", batch_size=4)
    after = shards(tmp_path / "stopped")
    assert {name: after[name] for name in before} == before
    assert after == shards(tmp_path / "undisturbed")
    # Nothing is left to do.
    label_texts(teacher, many, tmp_path / "stopped", batch_size=4)
    assert shards(tmp_path / "stopped") == after


def test_more_texts_are_added_to_a_store(teacher: BertTeacher, tmp_path: Path) -> None:
    label_texts(teacher, texts(5), tmp_path / "s")
    store = label_texts(teacher, texts(8), tmp_path / "s")
    assert len(store) == 8
    assert len(shards(tmp_path / "s")) == 2


def test_texts_that_come_again_are_labelled_once(
    teacher: BertTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEXTS_A_SHARD", 4)
    ten = texts(10)
    # Again within a shard, in the next one, and after what was waiting for a shard to fill.
    many = [*ten[:3], ten[0], *ten[2:7], ten[6], *ten]
    store = label_texts(teacher, many, tmp_path / "s", batch_size=2)
    assert store.texts == tuple(ten)
    tables = [pq.read_table(tmp_path / "s" / name) for name in shards(tmp_path / "s")]
    assert [len(table) for table in tables] == [4, 4, 2]


def test_a_shard_that_was_removed_is_labelled_again(teacher: BertTeacher, tmp_path: Path) -> None:
    for count in (2, 4, 6):
        label_texts(teacher, texts(count), tmp_path / "s")
    next((tmp_path / "s").glob("part-00001-*")).unlink()
    store = label_texts(teacher, texts(6), tmp_path / "s")
    assert [name[:10] for name in shards(tmp_path / "s")] == [f"part-0000{i}" for i in (0, 2, 3)]
    assert store.texts == SoftLabels(tmp_path / "s").texts
    assert sorted(store.texts) == sorted(texts(6))


def test_pooled_vectors_can_stay_in_a_file(tmp_path: Path) -> None:
    store = SoftLabels.create(
        tmp_path / "s", "print", Classification(label_names=NAMES), has_features=True
    )
    store.add(["x", "y"], LOGITS, np.array([[0.5, 1], [3, 4]], np.float16))
    store.add(["z"], LOGITS[:1], np.array([[5, 6]], np.float16))
    _, pooled = store.at(store.rows(["z", "x", "z"]), tmp_path / "pooled.npy")
    assert isinstance(pooled, np.memmap)
    assert pooled.tolist() == [[5, 6], [0.5, 1], [5, 6]]
    assert np.load(tmp_path / "pooled.npy").tolist() == pooled.tolist()


def test_invalid_texts_are_refused_before_any_is_labelled(
    teacher: BertTeacher, tmp_path: Path
) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "good"}\n{"text": ""}\n')
    with pytest.raises(KdedgeError, match="line 2, column 'text': the text is empty"):
        label_texts(teacher, TextFiles(tmp_path / "t.jsonl"), tmp_path / "s")
    assert shards(tmp_path / "s") == {}


def test_an_index_finds_every_text_and_no_other() -> None:
    index = TextIndex()
    assert index.rows(["x"]).tolist() == [-1]
    many = texts(1000)
    for start in range(0, 1000, 300):
        index.add(many[start : start + 300])
    assert len(index) == 1000
    assert index.rows(many).tolist() == list(range(1000))
    assert index.missing([*many, "new", "new", *(f"{text} " for text in many[:2])]) == [
        "new",
        f"{many[0]} ",
        f"{many[1]} ",
    ]


def test_two_teachers_do_not_mix(teacher: BertTeacher, tmp_path: Path) -> None:
    label_texts(teacher, ["good"], tmp_path / "s")
    with pytest.raises(KdedgeError, match="another teacher's"):
        SoftLabels.create(
            tmp_path / "s", "other", Classification(label_names=NAMES), has_features=True
        )
    differ = rf"classification: {', '.join(NAMES)}; this one is classification: a, b\)\. Name"
    with pytest.raises(KdedgeError, match=rf"another teacher's \({differ}"):
        SoftLabels.create(
            tmp_path / "s",
            teacher.fingerprint,
            Classification(label_names=("a", "b")),
            has_features=True,
        )


# From elsewhere


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz"])
def test_labels_of_another_teacher(
    kind: str, suffix: str, teacher: BertTeacher, tmp_path: Path
) -> None:
    values = LOGITS if kind == "logits" else np.array([[0.75, 0.25], [0.0, 1.0]], np.float32)
    rows = [{"text": t, kind: v.tolist()} for t, v in zip(("x", "y"), values, strict=True)]
    path = tmp_path / f"theirs{suffix}"
    write(path, rows)
    store = import_soft_labels(
        path, tmp_path / "s", Classification(label_names=NAMES), teacher.encoder
    )
    logits, pooled = store.lookup(["x", "y"])
    assert pooled is None
    if kind == "logits":
        np.testing.assert_array_equal(logits, LOGITS)
    else:
        # A probability of 0 becomes one of 1e-7: its logit must be finite.
        np.testing.assert_allclose(np.exp(logits), [[0.75, 0.25], [1e-7, 1.0]], rtol=1e-6)
    assert store.encoder().token_ids(["good"]) == teacher.encoder.token_ids(["good"])
    assert (
        len(
            import_soft_labels(
                path, tmp_path / "s", Classification(label_names=NAMES), teacher.encoder
            )
        )
        == 2
    )


@pytest.mark.parametrize("kind", ["score", "logits"])
def test_scores_of_another_teacher_are_standardised(
    kind: str, teacher: BertTeacher, tmp_path: Path
) -> None:
    rows = [{"text": text, kind: score} for text, score in (("x", 1.0), ("y", 3.0), ("z", 8.0))]
    write(tmp_path / "theirs.parquet", rows)
    task = task_of_names("regression", ())
    store = import_soft_labels(tmp_path / "theirs.parquet", tmp_path / "s", task, teacher.encoder)
    # Mean 4, variance (9 + 1 + 16) / 3.
    assert isinstance(store.task, Regression)
    assert (store.task.mean, store.task.deviation) == pytest.approx((4.0, (26 / 3) ** 0.5))
    logits, _ = store.lookup(["z", "x"])
    np.testing.assert_allclose(logits, [[4 / (26 / 3) ** 0.5], [-3 / (26 / 3) ** 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("scores", "message"),
    [((5.0, 5.0), "column 'score' has one score only .5."), ((1e30, 2e30), "which are too large")],
)
def test_scores_that_can_not_be_standardised(
    scores: tuple[float, ...], message: str, teacher: BertTeacher, tmp_path: Path
) -> None:
    write(tmp_path / "t.parquet", [{"text": f"{i}", "score": s} for i, s in enumerate(scores)])
    with pytest.raises(KdedgeError, match=message):
        import_soft_labels(
            tmp_path / "t.parquet", tmp_path / "s", task_of_names("regression", ()), teacher.encoder
        )
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("mean", "deviation", "told"), [(3.2, 0.6, 0), (60, 20, 1), (9, 1, 1)])
def test_scores_in_other_units_are_told(
    mean: float, deviation: float, told: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Regression(mean=mean, deviation=deviation)
    store = SoftLabels.create(tmp_path / "s", "print", theirs, has_features=False)
    tell_other_units(Regression(mean=3.0, deviation=1.0), store)
    assert capsys.readouterr().err.count("if these are different units") == told


def write(path: Path, rows: list[dict[str, object]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "x"}], "neither a column logits nor probabilities. The columns are: text"),
        ([{"text": "x", "logits": [1.0]}], r"row 1: logits is \[1.0\]; 2 finite numbers"),
        (
            [{"text": "x", "logits": [1.0, 2.0]}, {"text": "y", "logits": [1.0]}],
            "row 2: logits is",
        ),
        ([{"text": "x", "logits": "[1, 2]"}], "which is text; lists of numbers need .jsonl"),
        ([{"text": "x", "logits": [1.0, float("nan")]}], "row 1: logits is .*2 finite numbers"),
        ([{"text": "x", "probabilities": [0.7, 0.7]}], "row 1: probabilities is .*sum to 1"),
        ([{"text": "x", "probabilities": [1.5, -0.5]}], "row 1: probabilities is .*at least 0"),
        (
            [{"text": "x", "logits": [1.0, 2.0]}, {"text": "x", "logits": [1.0, 3.0]}],
            "row 2: the text .* occurs twice",
        ),
        ([{"text": " ", "logits": [1.0, 2.0]}], "the text is empty"),
    ],
)
def test_labels_from_elsewhere_that_are_refused(
    rows: list[dict[str, object]], message: str, teacher: BertTeacher, tmp_path: Path
) -> None:
    write(tmp_path / "theirs.parquet", rows)
    with pytest.raises(KdedgeError, match=message):
        import_soft_labels(
            tmp_path / "theirs.parquet",
            tmp_path / "s",
            Classification(label_names=NAMES),
            teacher.encoder,
        )
    assert not (tmp_path / "s").exists()


# What is refused


def test_what_a_store_does_not_take(tmp_path: Path) -> None:
    store = SoftLabels.create(
        tmp_path / "s", "print", Classification(label_names=NAMES), has_features=False
    )
    with pytest.raises(KdedgeError, match=r"logits: shape \(1, 3\); .* \(1, 2\)"):
        store.add(["x"], np.zeros((1, 3), np.float32))
    with pytest.raises(KdedgeError, match="finite numbers"):
        store.add(["x"], np.array([[np.nan, 0]], np.float32))
    with pytest.raises(KdedgeError, match="pooled: this store has no sentence vectors"):
        store.add(["x"], LOGITS[:1], np.zeros((1, 4), np.float16))
    store.add(["x"], LOGITS[:1])
    with pytest.raises(KdedgeError, match="1 of 2 texts have no soft label, first 'why'"):
        store.lookup(["x", "why"])
    with pytest.raises(KdedgeError, match="stored twice"):
        store.add(["x"], LOGITS[:1])


def test_no_store_and_a_newer_one(tmp_path: Path) -> None:
    with pytest.raises(KdedgeError, match="not a store of soft labels: store.json is missing"):
        SoftLabels(tmp_path)
    SoftLabels.create(
        tmp_path / "s", "print", Classification(label_names=NAMES), has_features=False
    )
    info = tmp_path / "s" / "store.json"
    info.write_text(info.read_text().replace('"format_version": 3', '"format_version": 9'))
    with pytest.raises(KdedgeError, match="format_version is 9 and this kdedge reads 2 and 3"):
        SoftLabels(tmp_path / "s")
    info.write_text("{")
    with pytest.raises(KdedgeError, match="not readable"):
        SoftLabels(tmp_path / "s")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").write_text("mine")
    with pytest.raises(KdedgeError, match="is not empty and holds no soft labels"):
        SoftLabels.create(
            tmp_path / "other", "print", Classification(label_names=NAMES), has_features=False
        )


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    store = SoftLabels.create(
        tmp_path / "s", "print", Classification(label_names=NAMES), has_features=False
    )
    store.add(["x", "y"], LOGITS)
    (shard,) = (tmp_path / "s").glob("part-*")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(KdedgeError, match=r"part-00000-.*parquet: not a readable shard"):
        SoftLabels(tmp_path / "s")

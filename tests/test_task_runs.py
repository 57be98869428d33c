"""Several labels and scores through all stages: from a file to the answers of a bundle."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT
from typer.testing import CliRunner

from kdedge import KdedgeError, SoftLabels, Student, load_bundle, load_teacher
from kdedge.bundle.manifest import read_manifest, verify
from kdedge.bundle.package import package_web
from kdedge.check import read_corpus
from kdedge.cli import app
from kdedge.cli.bench import _texts_of
from kdedge.compress.stage import compress
from kdedge.distill.stage import distill_student
from kdedge.explain import explain
from kdedge.export.stage import export_bundle
from kdedge.export.subject import subject_of
from kdedge.recipe import ARTIFACTS, Compress, Data, Decide, Export, Recipe, load_recipe
from kdedge.tasks import MultiLabel, Regression
from kdedge.teach.stage import finetune
from kdedge.teachers.label import label_texts
from kdedge.text.pairs import Pair

if TYPE_CHECKING:
    from playwright import sync_api as playwright

DATA = ROOT / "data" / "feedback.csv"


def made_small(name: str, pretrained: Path) -> Recipe:
    """A recipe of recipes/, with so little work that it takes seconds."""
    recipe = load_recipe(ROOT / f"recipes/{name}.toml")
    teach = {"pretrained": str(pretrained), "max_unknown": 1.0, "max_length": 24, "epochs": 1}
    export = {"lengths": (24,), "artifacts": tuple(ARTIFACTS), "max_accuracy_drop": 50.0}
    return recipe.model_copy(
        update={
            "teach": recipe.teach.model_copy(update=teach),
            "distill": recipe.distill.model_copy(update={"max_length": 24, "epochs": 2}),
            "export": recipe.export.model_copy(update=export),
        }
    )


@pytest.fixture(scope="module")
def encoder_only(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT without a head, like pretrained models."""
    folder = tmp_path_factory.mktemp("pretrained") / "bert"
    shutil.copytree(tiny_bert, folder)
    weights = folder / "model.safetensors"
    with safetensors.safe_open(weights, "numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(weights)
    kept = {name: tensor for name, tensor in tensors.items() if "classifier" not in name}
    safetensors.numpy.save_file(kept, weights, metadata)
    return folder


def bundle_of(recipe: Recipe, out: Path) -> Path:
    """The bundle after all stages except bench."""
    corpus = read_corpus(recipe.data, recipe.seed)
    teacher = finetune(corpus, recipe.teach, out / "teacher", recipe.seed)
    texts = [*corpus.train.texts, *corpus.valid.texts, *corpus.test.texts]
    store = label_texts(teacher, texts, out / "soft_labels")
    distill_student(corpus, store, store.encoder(), recipe.distill, out / "student", recipe.seed)
    export_bundle(subject_of(Student.load(out / "student")), recipe.export, out / "bundle")
    return out / "bundle"


def kdedge(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def topics(encoder_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(made_small("topics", encoder_only), tmp_path_factory.mktemp("topics"))


@pytest.fixture(scope="module")
def stars(encoder_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(made_small("stars", encoder_only), tmp_path_factory.mktemp("stars"))


@pytest.fixture(scope="module")
def questions(encoder_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(made_small("questions", encoder_only), tmp_path_factory.mktemp("questions"))


def test_topics_in_every_format_and_quantization(topics: Path) -> None:
    manifest, student = verify(topics), Student.load(topics.with_name("student"))
    assert [artifact.name for artifact in manifest.artifacts] == [*ARTIFACTS]
    assert manifest.task == student.task
    assert isinstance(manifest.task, MultiLabel)
    assert len(manifest.task.thresholds) == 5
    # Exported outputs are the student's: sigmoids, which do not sum to 1.
    expected = 1 / (1 + np.exp(-student.test.logits))
    texts = student.test.texts
    for name in ("litert-float32", "onnx-float32"):
        np.testing.assert_allclose(load_bundle(topics, name).outputs(texts), expected, atol=1e-5)
    score = manifest.artifact("litert-float32").score
    assert (score.metric, score.texts, [*score.others]) == ("micro_f1", len(texts), ["macro_f1"])
    assert score.value == pytest.approx(student.notes["micro_f1"])
    assert score.interval and score.interval[0] <= score.value <= score.interval[1]
    assert {"teacher_micro_f1", "teacher_macro_f1", "agreement"} < {*student.notes}
    config = json.loads((topics / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert (topics / "labels.txt").read_text().split() == [*manifest.task.label_names]


def test_topics_of_texts(topics: Path) -> None:
    output = json.loads(kdedge("predict", topics, "--json", "It crashes all the time"))
    task = read_manifest(topics).task
    assert isinstance(task, MultiLabel)
    above = {
        name
        for name, threshold in zip(task.label_names, task.thresholds, strict=True)
        if output["probabilities"][name] > threshold
    }
    assert {*output["labels"]} == above and output["unsure"] is False
    given = ("--label", "topics", "--label-delimiter", ";")
    assert "of 96 labelled texts" in kdedge("predict", topics, "--file", DATA, *given)
    assert "micro_f1" in kdedge("inspect", topics)


def test_texts_of_unknown_tokens_are_unsure_in_each_task(topics: Path, stars: Path) -> None:
    for bundle, field in ((topics, "labels"), (stars, "score")):
        for artifact in verify(bundle).artifacts:
            assert artifact.trust is not None and artifact.trust.decision.max_unknown == 0.5
            model = load_bundle(bundle, artifact.name)
            texts = ["It crashes all the time", "\u597d \u597d \u597d crashes"]
            for answers in (model.predict(texts), [model.predict([text])[0] for text in texts]):
                assert [answer.unsure for answer in answers] == [False, True]
                assert answers[1].line().split("\t")[0] == "unsure"
                assert {field, "unsure"} <= {*answers[1].fields()}


def test_a_precision_of_labels(topics: Path, stars: Path, tmp_path: Path) -> None:
    subject = subject_of(Student.load(topics.with_name("student")))
    settings = Export(artifacts=("onnx-float32",))
    export_bundle(subject, settings, tmp_path / "bundle", Decide(coverage=0.5))
    trust = verify(tmp_path / "bundle").artifacts[0].trust
    assert trust is not None and trust.calibration is not None
    (threshold,) = trust.decision.thresholds
    for answer in load_bundle(tmp_path / "bundle").predict(subject.valid.texts):
        probabilities = [answer.probabilities[label] for label in answer.labels]
        assert answer.unsure == any(one < threshold for one in probabilities)
    of_scores = subject_of(Student.load(stars.with_name("student")))
    with pytest.raises(KdedgeError, match="precision, coverage and out_of_scope are for labels"):
        export_bundle(of_scores, settings, tmp_path / "scores", Decide(precision=0.9))
    assert not (tmp_path / "scores").exists()


def test_drift_of_labels_and_scores(topics: Path, stars: Path, tmp_path: Path) -> None:
    for bundle, third in ((topics, "labels"), (stars, "scores")):
        answers = kdedge("predict", bundle, "--file", DATA, "--json").splitlines()
        rows = [json.loads(answer) for answer in answers if answer.startswith("{")]
        log = tmp_path / f"{third}.jsonl"
        log.write_text("".join(json.dumps({**row, "text": None}) + "\n" for row in rows))
        log.write_text(log.read_text().replace('"text": null, ', ""))
        of_texts = json.loads(kdedge("report", "drift", bundle, DATA, "--json"))
        of_answers = json.loads(kdedge("report", "drift", bundle, log, "--json"))
        assert [change["name"] for change in of_texts["changes"]] == [
            "unsure answers", third, "unknown tokens", "lengths"
        ]  # fmt: skip
        assert of_answers["changes"] == of_texts["changes"][:2]
    out = tmp_path / "next.csv"
    kdedge("report", "drift", topics, DATA, "--label-next", 3, "--out", out)
    assert len(out.read_text().splitlines()) == 4
    again = ["report", "drift", str(topics), str(DATA), "--label-next", "3", "--out", str(out)]
    assert "exists already, and may have labels" in CliRunner().invoke(app, again).output
    out.unlink()
    chosen = ["report", "drift", str(stars), str(DATA), "--label-next", "3", "--out", str(out)]
    assert "--label-next: it chooses the texts" in CliRunner().invoke(app, chosen).output


def test_a_teacher_of_topics_is_read_as_one(topics: Path) -> None:
    folder = topics.with_name("teacher")
    teacher = load_teacher(folder)
    assert isinstance(teacher.task, MultiLabel)
    # As transformers writes it, in a checkpoint from elsewhere.
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    tokens = explain(teacher, teacher.encoder, ["good film"], task=teacher.task)
    assert [token for token, _ in tokens[0]] == ["good", "film"]


def test_stars_in_every_format_and_quantization(stars: Path) -> None:
    manifest, student = verify(stars), Student.load(stars.with_name("student"))
    assert [artifact.name for artifact in manifest.artifacts] == [*ARTIFACTS]
    task = manifest.task
    assert isinstance(task, Regression)
    assert (task.low, task.high) == (1, 5)
    expected = np.clip(task.mean + task.deviation * student.test.logits, 1, 5)
    for name in ("litert-float32", "onnx-float32"):
        outputs = load_bundle(stars, name).outputs(student.test.texts)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
    score = manifest.artifact("litert-float32").score
    assert score.metric == "pearson"
    assert [*score.others] == ["spearman", "mean_absolute_error"]
    assert isinstance(teacher := load_teacher(stars.with_name("teacher")).task, Regression)
    assert (teacher.mean, teacher.deviation) == (task.mean, task.deviation)


def test_stars_of_texts(stars: Path) -> None:
    (answer,) = load_bundle(stars).predict(["It crashes all the time"])
    assert 1 <= answer.score <= 5
    output = kdedge("predict", stars, "It crashes all the time")
    assert output.splitlines()[-2].split("\t")[0] == f"{answer.score:.4f}"
    output = kdedge("predict", stars, "--file", DATA, "--label", "stars")
    assert "pearson" in output and "mean_absolute_error" in output
    trust = read_manifest(stars).artifact(None).trust
    assert trust is not None and trust.margin is not None
    assert f"About 90% of the true scores are within {trust.margin.margin:.3g} of these" in output
    assert "pearson" in kdedge("inspect", stars)


def test_what_helps_a_score(stars: Path) -> None:
    student = Student.load(stars.with_name("student"))
    (tokens,) = explain(student.model, student.encoder, ["good film"], task=student.task)
    assert [token for token, _ in tokens] == ["good", "film"]
    assert any(value for _, value in tokens)


def test_an_export_that_loses_too_much_is_refused_in_the_tasks_words(
    stars: Path, tmp_path: Path
) -> None:
    subject = subject_of(Student.load(stars.with_name("student")))
    settings = Export(artifacts=("litert-float32",), lengths=(24,))
    manifest = export_bundle(subject, settings, tmp_path / "bundle")
    assert manifest.artifacts[0].parity.max_difference < 1e-3 * 2
    assert "pearson" in manifest.artifacts[0].summary()


def test_pairs_in_every_format_and_quantization(questions: Path) -> None:
    manifest, student = verify(questions), Student.load(questions.with_name("student"))
    assert [artifact.name for artifact in manifest.artifacts] == [*ARTIFACTS]
    assert manifest.pairs
    texts = student.test.texts
    assert all(isinstance(text, Pair) for text in texts)
    exponentials = np.exp(student.test.logits)
    expected = exponentials / exponentials.sum(1, keepdims=True)
    for name in ("litert-float32", "onnx-float32"):
        np.testing.assert_allclose(load_bundle(questions, name).outputs(texts), expected, atol=1e-5)
    # Where the texts change places, it is another question.
    swapped = [Pair(pair, text) for text, pair in texts]
    assert not np.allclose(load_bundle(questions).outputs(swapped), expected, atol=1e-3)


def test_answers_of_pairs(questions: Path) -> None:
    output = json.loads(kdedge("predict", questions, "--json", "Is it free?", "What does it cost?"))
    assert (output["text"], output["text_pair"]) == ("Is it free?", "What does it cost?")
    assert output["label"] in ("different", "same")
    path = ROOT / "data" / "questions.csv"
    scored = kdedge("predict", questions, "--file", path, "--label", "label")
    assert "of 96 labelled texts" in scored
    for texts, words in (
        (["one"], "1 texts; this bundle takes pairs"),
        (["one", " "], "the text is empty"),
    ):
        result = CliRunner().invoke(app, ["predict", str(questions), *texts])
        assert words in " ".join(result.output.split())
    model = load_bundle(str(questions))
    for other in ("one", ("one", "other"), ["one", "other"], None):
        with pytest.raises(KdedgeError, match="text 1: .*this bundle takes pairs of texts"):
            model.predict([other])
    with pytest.raises(KdedgeError, match="text 1: a NoneType; a text is needed"):
        model.predict([Pair("one", None)])  # type: ignore[arg-type]


def test_commands_that_do_not_take_pairs_or_several_tasks_say_so(
    topics: Path, questions: Path, tmp_path: Path
) -> None:
    data = ROOT / "data" / "questions.csv"
    result = CliRunner().invoke(app, ["report", "drift", str(questions), str(data)])
    assert "report drift takes single texts only" in " ".join(result.output.split())
    options = ["--data", str(data), "--report", str(tmp_path / "r"), "--tier", "quick"]
    result = CliRunner().invoke(app, ["bench", str(questions), str(topics), *options])
    assert "are not for the same task" in " ".join(result.output.split())
    # The column of the second texts is text_pair unless it is named.
    labelled = _texts_of(Data(path=data), [questions])
    assert isinstance(labelled.texts[0], Pair)


def test_a_student_of_pairs_can_be_made_smaller(questions: Path) -> None:
    student = Student.load(questions.with_name("student"))
    store = SoftLabels(questions.with_name("soft_labels"))
    texts = store.texts
    settings = Compress(epochs=1, sparsity=0.5)
    smaller = compress(student, "pruning", texts, store.lookup(texts)[0], settings, seed=1)
    kernel = smaller.model.get_layer("tower").get_weights()[0]
    assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.01)


def test_the_page_of_each_task(
    topics: Path, stars: Path, questions: Path, browser: "playwright.Browser", tmp_path: Path
) -> None:
    from browser_parts import CLASSIFY, installed_node_modules, served, watched

    modules = installed_node_modules()
    single = ["It crashes all the time", "It is worth every cent.", "\u597d \u597d \u597d crashes"]
    for bundle in (topics, stars, questions):
        is_pairs = bundle == questions
        texts = [Pair(text, single[0]) for text in single] if is_pairs else single
        site = tmp_path / bundle.parent.name
        package_web(bundle, site, modules)
        with served(site) as address, watched(browser, address) as page:
            page.goto("/")
            answers = page.evaluate(CLASSIFY, texts)
        for entries, one in zip(answers, load_bundle(bundle).predict(texts), strict=True):
            held = {entry["label"] for entry in entries if entry["holds"]}
            scores = {entry["label"]: entry["score"] for entry in entries}
            if bundle == stars:
                assert scores == pytest.approx({"score": one.score}, abs=0.01) and not held
            else:
                assert scores == pytest.approx(one.probabilities, abs=2e-3)
                assert held == ({one.label} if is_pairs else {*one.labels})
            assert {entry["unsure"] for entry in entries} == {one.unsure}

"""A student and a loss in a file outside the package, named by a recipe."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, classes, write_reviews
from typer.testing import CliRunner

from kdedge import KdedgeError, Student, build_student, load_bundle
from kdedge.bundle.manifest import verify
from kdedge.cli import app
from kdedge.distill.terms import check, needs_teacher
from kdedge.extensions import find
from kdedge.recipe import STUDENTS, Distill, fingerprint, load_recipe
from kdedge.students.architecture import Request
from kdedge.students.presets import PRESETS, find_preset

TOY = ROOT / "tests" / "extending" / "toy.py"


@pytest.fixture
def recipe(tiny_bert: Path, tmp_path: Path) -> Path:
    """The stages of recipes/quick.toml, with as little work as possible."""
    shutil.copy(TOY, tmp_path)
    write_reviews(tmp_path / "texts.csv")
    path = tmp_path / "toy.toml"
    path.write_text(f"""
        name = "toy"
        data = {{ path = "texts.csv", train_size = 120, eval_size = 40 }}
        teach = {{ pretrained = "{tiny_bert}", epochs = 1, batch_size = 16, max_length = 16 }}
        label = {{ augmented = 80 }}
        bench = {{ tier = "quick" }}
        [distill]
        student = "toy:TOY"
        losses = {{ "toy:ToyLoss" = 0.5 }}
        epochs = 3
        batch_size = 16
        max_length = 16
        [export]
        lengths = [16]
        max_accuracy_drop = 50
        artifacts = ["litert-int8", "onnx-float32"]
        teacher_artifacts = ["litert-int8"]
    """)
    return path


def run(recipe: Path, out: Path) -> str:
    return CliRunner().invoke(app, ["run", str(recipe), "--out", str(out)]).output


def test_a_recipe_makes_a_bundle_of_a_student_from_elsewhere(recipe: Path) -> None:
    out = recipe.parent / "run"
    output = run(recipe, out)
    assert (out / "report.html").is_file(), output
    manifest = verify(out / "bundle")
    assert manifest.source.name == "bag"
    assert [artifact.name for artifact in manifest.artifacts] == ["litert-int8", "onnx-float32"]
    student = Student.load(out / "student")
    assert student.model.count_params() == len(student.encoder.vocabulary) * 16 + 16 * 2 + 2
    losses = [epoch["toy_loss"] for epoch in student.notes["history"]]
    assert losses[-1] < losses[0]
    answer = load_bundle(out / "bundle", "onnx-float32").predict(["a good film"])[0]
    assert answer.label in student.task.output_names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student": "huge"}, "student: 'huge' is unknown. Allowed: nano, micro, mini, mini-cut, "),
        ({"student": "nowhere:TOY"}, "student: nowhere can't be imported: No module named"),
        ({"student": "lost/toy.py:TOY"}, "student: lost/toy.py can't be imported: no file /"),
        ({"student": "kdedge.recipe:TOY"}, "student: kdedge.recipe has no 'TOY'"),
        ({"student": "kdedge.recipe:Distill"}, "student: .* it must be a kdedge Preset"),
        ({"attention_weight": 1}, "student 'micro' has none: use mini or mini-cut"),
        ({"prompt": "loud"}, "prompt: 'loud' is unknown. Allowed: none, task, soft-label"),
        ({"adversary": "evil"}, "adversary: 'evil' is unknown. Allowed: none, substitution, gen"),
        ({"losses": {"hinge": 1}}, "losses: 'hinge' is unknown. Allowed: two-sided, or module:NA"),
        ({"losses": {"kdedge.recipe:DECAYS": 1}}, "losses: .* is a tuple; a DistillationLoss is"),
    ],
)
def test_what_there_is_not_is_refused(settings: dict[str, object], message: str) -> None:
    given = Distill.model_validate(settings)
    with pytest.raises(KdedgeError, match=message):
        check(given, find_preset(given.student))


def test_a_run_refuses_before_it_trains_a_teacher(recipe: Path) -> None:
    text = recipe.read_text()
    for other in ("huge", "toy:LOST"):
        recipe.write_text(text.replace("toy:TOY", other))
        assert other.removeprefix("toy:") in run(recipe, recipe.parent / "run")
        assert not (recipe.parent / "run").exists()
    recipe.write_text(text.replace("[distill]", "[distill]\nhidden_weight = 1"))
    assert "has none: use mini or mini-cut" in run(recipe, recipe.parent / "run").replace("\n", " ")
    assert not (recipe.parent / "run").exists()


def test_a_changed_file_is_another_student(recipe: Path) -> None:
    before = fingerprint(load_recipe(recipe).distill)
    assert fingerprint(load_recipe(recipe).distill) == before
    file = recipe.parent / "toy.py"
    file.write_text(file.read_text().replace("16, name=TOKENS", "8, name=TOKENS"))
    assert fingerprint(load_recipe(recipe).distill) != before


def test_a_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No such module is installed, so the file in the working directory is used.
    (tmp_path / "own_students.py").write_text(TOY.read_text())
    monkeypatch.chdir(tmp_path)
    preset = find_preset("own_students:TOY")
    assert preset is find("student", "own_students:TOY", PRESETS)
    student = preset.build(Request(classes(3), vocabulary=9, max_length=4))
    ids = {name: np.ones((1, 4), np.int32) for name in ("ids", "mask", "segment_ids")}
    assert student(ids).shape == (1, 3)


def test_what_needs_a_teacher_beside_the_student() -> None:
    for settings, needed in (
        ({}, False),
        ({"losses": {"two-sided": 1}}, False),
        ({"student": "mini", "hidden_weight": 1}, True),
        ({"adversary": "prompt"}, False),
        ({"adversary": "generator"}, True),
    ):
        assert needs_teacher(Distill.model_validate(settings)) == needed, settings


def test_what_suits_a_student_unless_the_recipe_says() -> None:
    assert tuple(PRESETS) == STUDENTS
    assert {name: preset.vocabulary for name, preset in PRESETS.items()} == {
        "nano": 20_000, "micro": 18_000, "mini": 13_000, "mini-cut": 15_000,
    }  # fmt: skip
    assert {name: preset.learning_rate for name, preset in PRESETS.items()} == {
        "nano": 2e-3, "micro": 2e-3, "mini": 1e-3, "mini-cut": 3e-4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("lambda request: None", "mine builds a NoneType; a keras.Model is needed"),
        (
            "lambda request: keras.Model(x := keras.Input((None,), name='x'), x)",
            "mine has the inputs x; allowed are ids, mask, segment_ids",
        ),
        (
            "lambda request: keras.Model(i := student_inputs(), keras.layers.Embedding(9, 2)"
            "(i['ids']))",
            r"outputs of shape \(None, None, 2\); one of shape \(None, 2\) is needed",
        ),
    ],
)
def test_a_student_of_another_form(build: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import keras\n"
        "from kdedge.students.architecture import Preset, student_inputs\n"
        f"MINE = Preset('mine', {build}, 9, 1e-3)\n"
    )
    with pytest.raises(KdedgeError, match=message):
        build_student(f"{tmp_path}/mine.py:MINE", task=classes(2), vocabulary=9, max_length=8)

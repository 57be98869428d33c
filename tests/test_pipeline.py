"""A whole run of a recipe: its files, and what is lost if it is stopped at any point."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_tiny_bert, write_reviews
from training_parts import Stop
from typer.testing import CliRunner

import kdedge.pipeline as pipeline
from kdedge import KdedgeError, SoftLabels, Student, load_teacher
from kdedge.bench.report.model import BenchReport
from kdedge.bundle.manifest import read_manifest, verify
from kdedge.check import read_corpus
from kdedge.cli import app
from kdedge.distill.transfer_set import texts_to_label
from kdedge.export.stage import RefusedArtifactsError, export_bundle
from kdedge.export.subject import Subject
from kdedge.recipe import Compress, Decide, Export, load_recipe
from kdedge.text.corpus import load_corpus

KDEDGE = Path(sys.executable).with_name("kdedge")
STAGES = ["teach", "baselines", "label", "distill", "export", "export teacher", "bench"]
WITH_COMPRESS = [*STAGES[:4], "compress", *STAGES[4:]]


# The quick recipe, run once for all tests


def test_a_run_leaves_every_stages_result(quick_run: Path) -> None:
    there = {path.name for path in quick_run.iterdir() if not path.name.startswith(".")}
    assert there == {
        "teacher", "baselines.json", "soft_labels", "student", "bundle", "teacher_bundle",
        "stages.json", "results.json", "report.html", "size_latency_score.svg",
    }  # fmt: skip
    assert list(json.loads((quick_run / "stages.json").read_text())) == STAGES
    assert not list(quick_run.rglob("*.partial"))
    assert not list(quick_run.glob(".*.checkpoints"))


def test_the_quick_student_is_better_than_a_guess(quick_run: Path) -> None:
    student = Student.load(quick_run / "student")
    assert student.notes["teacher_accuracy"] > 0.7
    assert student.notes["accuracy"] > 0.6
    assert student.notes["transfer_texts"] == 1200 + 800


def test_every_artifact_is_within_the_recipes_gate(quick_run: Path) -> None:
    recipe = load_recipe(ROOT / "recipes/quick.toml")
    manifest = verify(quick_run / "bundle")
    assert [a.name for a in manifest.artifacts] == list(recipe.export.artifacts)
    accuracy = Student.load(quick_run / "student").notes["accuracy"]
    assert manifest.source.score.value == pytest.approx(accuracy)
    for artifact in manifest.artifacts:
        assert artifact.score.texts == 300
        assert 100 * (accuracy - artifact.score.value) <= recipe.export.max_accuracy_drop
    assert [a.name for a in verify(quick_run / "teacher_bundle").artifacts] == ["litert-float32"]


def test_the_report_has_the_teacher_and_every_artifact(quick_run: Path) -> None:
    report = BenchReport.load(quick_run / "results.json")
    assert [m.name for m in report.measurements] == [
        "teacher/litert-float32", "micro/litert-float32", "micro/litert-int8",
        "micro/litert-int8-lengths",
        "micro/onnx-float32", "micro/onnx-int8",
    ]  # fmt: skip
    page = (quick_run / "report.html").read_text(encoding="utf-8")
    assert "Where teacher and student disagree" in page
    assert "Where the time went" in page
    assert "loss of the student by epoch" in page
    assert "micro/litert-int8" in page


def test_the_same_command_again_does_nothing_again(quick_run: Path) -> None:
    def times() -> dict[str, float]:
        kept = [p for p in quick_run.rglob("*") if p.is_file() and p.name != "report.html"]
        return {str(path): path.stat().st_mtime_ns for path in kept}

    before = times()
    result = CliRunner().invoke(
        app, ["run", str(ROOT / "recipes/quick.toml"), "--out", str(quick_run)]
    )
    assert result.exit_code == 0, result.output
    assert result.output.count("done already") == len(STAGES)
    assert times() == before


def test_only_training_texts_make_new_texts(quick_run: Path) -> None:
    recipe = load_recipe(ROOT / "recipes/quick.toml")
    corpus = read_corpus(recipe.data, recipe.seed)
    teacher = load_teacher(quick_run / "teacher")
    texts = texts_to_label(teacher, corpus, recipe.label, recipe.seed)
    held_out = {*corpus.valid.texts, *corpus.test.texts}
    assert sum(text in held_out for text in texts) == len(held_out) == 600
    assert sorted(SoftLabels(quick_run / "soft_labels").texts) == sorted(dict.fromkeys(texts))


def test_a_recipe_can_ask_for_compression(
    quick_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The existing student is compressed, and the smaller one is exported."""
    out = tmp_path / "run"
    shutil.copytree(quick_run, out)
    exported: list[Subject] = []

    def stop(subject: Subject, *_: object) -> None:
        exported.append(subject)
        raise Stop

    monkeypatch.setattr(pipeline, "export_bundle", stop)
    compress = Compress(methods=("vocabulary", "pruning"), min_count=2)
    recipe = load_recipe(ROOT / "recipes/quick.toml").model_copy(update={"compress": compress})
    with pytest.raises(Stop):
        pipeline.run(recipe, out)
    stages = json.loads((out / "stages.json").read_text())
    before = json.loads((quick_run / "stages.json").read_text())
    assert all(stages[name] == before[name] for name in STAGES[:4])
    assert stages["compress"]["seconds"] > 0
    smaller, student = Student.load(out / "compressed"), Student.load(out / "student")
    assert [done["method"] for done in smaller.notes["compression"]] == [*compress.methods]
    # All that is in the store but the 600 valid and test texts.
    assert smaller.notes["compression"][0]["transfer_texts"] == 1200 + 800
    assert exported[0].parameters == smaller.notes["parameters"] < student.notes["parameters"]
    # A recipe without it leaves no compressed student, which would be taken for the run's.
    recipe = recipe.model_copy(update={"compress": Compress()})
    with pytest.raises(Stop):
        pipeline.run(recipe.model_copy(update={"export": Export(lengths=(16,))}), out)
    assert not (out / "compressed").exists()


def test_a_folder_that_no_run_made(tmp_path: Path) -> None:
    mine = tmp_path / "teacher" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    recipe = load_recipe(ROOT / "recipes/quick.toml")
    with pytest.raises(KdedgeError, match="has teacher, which kdedge run would replace"):
        pipeline.run(recipe, tmp_path)
    assert mine.exists()


@pytest.mark.parametrize(
    ("recipe", "prompt", "message"),
    [
        ("questions", "task", "virtual tokens are for single texts, and this data has pairs"),
        ("stars", "soft-label", "soft-label needs labels, and regression has none"),
    ],
)
def test_prompts_that_do_not_suit_the_data_are_refused_first(
    recipe: str, prompt: str, message: str, tmp_path: Path
) -> None:
    read = load_recipe(ROOT / f"recipes/{recipe}.toml")
    distill = read.distill.model_copy(update={"prompt": prompt})
    with pytest.raises(KdedgeError, match=message):
        pipeline.run(read.model_copy(update={"distill": distill}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_without_a_refused_artifact(
    quick_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "run"
    shutil.copytree(quick_run, out)

    def refuse_one(subject: Subject, settings: Export, out: Path, *decide: Decide) -> None:
        kept = tuple(name for name in settings.artifacts if name != "onnx-int8")
        export_bundle(subject, settings.model_copy(update={"artifacts": kept}), out, *decide)
        if kept != settings.artifacts:
            raise RefusedArtifactsError("refused: onnx-int8 loses 9 points.")

    monkeypatch.setattr(pipeline, "export_bundle", refuse_one)
    recipe = load_recipe(ROOT / "recipes/quick.toml")
    artifacts = Export(artifacts=("litert-int8", "onnx-int8"), max_accuracy_drop=50)
    for told in ("onnx-int8 loses 9 points", "export: done already"):
        pipeline.run(recipe.model_copy(update={"export": artifacts}), out)
        output = " ".join("".join(capsys.readouterr()).split())
        assert told in output
        assert "onnx-int8: not in the bundle, because of the loss of accuracy" in output
    assert [one.name for one in read_manifest(out / "bundle").artifacts] == ["litert-int8"]


# Stopped at any point


@pytest.fixture(scope="module")
def small_recipe(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with all stages, which take less time than starting does."""
    folder = tmp_path_factory.mktemp("small")
    write_reviews(folder / "texts.csv")
    (folder / "small.toml").write_text(f"""
        name = "small"
        data = {{ path = "texts.csv" }}
        teach = {{ pretrained = "{tiny_bert}", epochs = 3, batch_size = 8, max_length = 24 }}
        label = {{ augmented = 2000, batch_size = 8 }}
        distill = {{ student = "nano", epochs = 4, batch_size = 8, max_length = 24 }}
        compress = {{ methods = ["vocabulary", "pruning"], epochs = 2, batch_size = 16 }}
        bench = {{ tier = "quick" }}
        [export]
        lengths = [24]
        max_accuracy_drop = 50
        teacher_artifacts = ["litert-int8"]
    """)
    return folder / "small.toml"


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    # Checkpoints at every step, so that a stop in the middle has something to go on from.
    program = (
        "import kdedge.training.resumable as f, kdedge.teachers.label as s;"
        "f.SECONDS_BETWEEN_CHECKPOINTS = 0.2; s.TEXTS_A_SHARD = 64;"
        "from kdedge.cli import app; app()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, "run", str(recipe), "--out", str(out)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def finish(recipe: Path, out: Path) -> str:
    process = start(recipe, out)
    _, output = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def undisturbed(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(small_recipe, out)
    return out


def results(out: Path) -> dict[str, bytes]:
    """All results of a run except measured times."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for name in ("teacher", "soft_labels", "student", "compressed", "bundle", "teacher_bundle")
        for path in sorted((out / name).rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_two_runs_are_equal_bytes(small_recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    finish(small_recipe, tmp_path / "run")
    first, second = results(undisturbed), results(tmp_path / "run")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert list(json.loads((undisturbed / "stages.json").read_text())) == WITH_COMPRESS
    source = verify(undisturbed / "bundle").source
    assert source.parameters == Student.load(undisturbed / "compressed").notes["parameters"]
    assert "compress" in (undisturbed / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_as_if_undisturbed(
    small_recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    rng, out = random.Random(4), tmp_path / "run"
    took = json.loads((undisturbed / "stages.json").read_text())
    for stage in WITH_COMPRESS:
        process = start(small_recipe, out)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"{stage} ..."):
                break
        time.sleep(rng.uniform(0.1, 0.9) * took[stage]["seconds"])
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    output = finish(small_recipe, out)
    made, whole = results(out), results(undisturbed)
    assert made.keys() == whole.keys()
    assert [name for name in whole if made[name] != whole[name]] == []
    # No text is logged, and the report quotes none unless it is asked to.
    texts = load_corpus(small_recipe.with_name("texts.csv")).train.texts
    assert not [t for t in texts if t in output or t in (out / "report.html").read_text()]
    assert not list(out.rglob("*.checkpoints"))
    done = [line.split(":")[0] for line in output.splitlines() if "done already" in line]
    # Stages that were complete before the last kill are not done again.
    assert done[:7] == WITH_COMPRESS[:7]


def test_ctrl_c(small_recipe: Path, tmp_path: Path) -> None:
    process = start(small_recipe, tmp_path / "run")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("teach ..."):
            break
    time.sleep(3)
    os.kill(process.pid, signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "run, teach, label, distill and bench continue where they stopped" in output
    assert "Traceback" not in output


def test_a_full_disk_is_told(small_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir(mode=0o555)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", out], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        process = start(small_recipe, out)
        _, output = process.communicate(timeout=300)
    finally:
        subprocess.run(["umount", out], check=True)
    assert process.returncode == 2, output
    assert "are free on this disk" in output
    assert "Traceback" not in output


# Rows that differ


def test_a_run_depends_on_a_models_files_and_not_on_their_place(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "bert")
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(f"t {i},{i % 2}\n" for i in range(20)))
    (tmp_path / "mine.py").write_text("STUDENT = 1\n")
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[data]\npath = "d.csv"\n[teach]\npretrained = "bert"\n'
        '[distill]\nstudent = "mine:STUDENT"\n'
    )

    def keys(recipe_file: Path) -> tuple[str, str]:
        recipe = load_recipe(recipe_file)
        corpus = read_corpus(recipe.data, recipe.seed)
        return pipeline._first_key(recipe, corpus), recipe.distill.identity()

    monkeypatch.chdir(tmp_path)
    before = keys(Path("r.toml"))
    assert keys(tmp_path / "r.toml") == before
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path, moved, ignore=shutil.ignore_patterns("moved"))
    assert keys(moved / "r.toml") == before
    (moved / "mine.py").write_text("STUDENT = 2\n")
    assert keys(moved / "r.toml")[1] != before[1]
    shutil.rmtree(tmp_path / "bert")
    make_tiny_bert(tmp_path / "bert", 0.03)
    assert keys(Path("r.toml"))[0] != before[0]


def test_unlabelled_texts_join_the_transfer_set(tmp_path: Path, tiny_bert: Path) -> None:
    (tmp_path / "d.csv").write_text(
        "text,label\n" + "".join(f"good {i},a\nbad {i},b\n" for i in range(9)) + "none yet,\n"
    )
    (tmp_path / "more.txt").write_text("one more\n")
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[data]\npath = "d.csv"\nunlabelled = "more.txt"\n[label]\naugmented = 5\n'
    )
    recipe = load_recipe(tmp_path / "r.toml")
    corpus = read_corpus(recipe.data, recipe.seed)
    teacher = load_teacher(tiny_bert, task=corpus.task)
    texts = texts_to_label(teacher, corpus, recipe.label, recipe.seed)
    assert {"none yet", "one more"} <= set(texts)
    assert len(texts) == 18 + 2 + 5
    corpus = load_corpus(tmp_path / "d.csv")
    assert np.bincount(corpus.train.labels).tolist() == [6, 6]

"""Every method: equal seeds give equal students, and a stopped run ends as an undisturbed one."""

from pathlib import Path

import pytest
from test_distill import NAMES, corpus, same, store  # noqa: F401
from training_parts import Stop, watch_steps

from kdedge import KdedgeError, SoftLabels, Student, load_teacher
from kdedge.distill.stage import distill_student
from kdedge.distill.terms import needs_teacher
from kdedge.recipe import Distill
from kdedge.tasks import Classification

# Methods with a state of their own first; the last has none, and its teacher is slow to trace.
METHODS = [
    {
        "student": "nano",
        "temperature_end": 1.0,
        "alpha_end": 0.5,
        "schedule": "cosine",
        "adaptive_weights": True,
        "learning_rate_decay": "linear",
        "prompt": "task",
        "adversary": "prompt",
    },
    pytest.param(
        {"student": "nano", "prompt": "soft-label", "adversary": "generator"},
        marks=pytest.mark.slow,
    ),
    pytest.param(
        {
            "student": "mini",
            "hidden_weight": 1.0,
            "attention_weight": 1.0,
            "adversary": "substitution",
            "adversarial_swaps": 1,
        },
        marks=pytest.mark.slow,
    ),
]


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    load_teacher(tiny_bert, task=Classification(label_names=NAMES)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", METHODS, ids=["prompts", "generator", "layers"])
def test_a_stopped_run_goes_on_to_the_same_student(
    method: dict[str, object],
    store: SoftLabels,  # noqa: F811
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Distill.model_validate(
        {"student": "nano", "epochs": 2, "batch_size": 8, "max_length": 16} | method
    )
    beside = teacher if needs_teacher(settings) else None

    def train(name: str) -> Student:
        encoder = store.encoder()
        return distill_student(corpus(), store, encoder, settings, tmp_path / name, 3, beside)

    undisturbed = train("undisturbed")
    with monkeypatch.context() as patched:
        watch_steps(patched, stop_at=14)
        with pytest.raises(Stop):
            train("stopped")
    again = train("stopped")
    assert same(again, undisturbed)
    assert again.notes == undisturbed.notes


def test_a_teacher_is_needed_for_its_layers(store: SoftLabels, tmp_path: Path) -> None:  # noqa: F811
    settings = Distill(student="mini", attention_weight=1.0, max_length=16)
    with pytest.raises(KdedgeError, match="teacher: None; .* need one that runs beside"):
        distill_student(corpus(), store, store.encoder(), settings, tmp_path / "s", 3)

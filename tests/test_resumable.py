"""Stopping and continuing a training, with a training that can be followed by hand."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from training_parts import Stop, watch_steps

import kdedge.training.resumable as resumable
from kdedge import KdedgeError
from kdedge.training.resumable import Best, Resumable, lowest, remove_checkpoints

STEPS, LOSSES = 4, [0.5, 0.1, 0.3]
LOWEST = lowest("val_loss")


def train(out: Path, job: str = "job", part: str = "", best: Best = LOWEST) -> tuple[int, list]:
    """Train, adding 1 to the weight in each step; give the best epoch's weight and the history."""
    weight = tf.Variable(0)
    training = Resumable(out, job, part)
    training.track([weight], {"weight": weight}, best)
    with training.progress("adding", STEPS, len(LOSSES)) as advance:
        for epoch in training.epochs_left(len(LOSSES)):
            for _ in range(training.step, STEPS):
                weight.assign_add(1)
                training.end_step(float(weight))
                advance(1, f"step {int(weight)}")
            training.end_epoch({"loss": training.loss / STEPS, "val_loss": LOSSES[epoch]})
    training.restore_best()
    return int(weight), training.history


# Means of 1 to 4, 5 to 8 and 9 to 12.
HISTORY = [{"epoch": i + 1, "loss": 2.5 + 4 * i, "val_loss": loss} for i, loss in enumerate(LOSSES)]


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    assert train(tmp_path / "lowest") == (2 * STEPS, HISTORY)
    last = train(tmp_path / "last", best=lambda history: len(history) - 1)
    assert last == (3 * STEPS, HISTORY)


def test_a_folder_can_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    out = tmp_path / """a folder [1] 'of' "mine" {ü} *?""" / "teacher [2]"
    with monkeypatch.context() as patched:
        watch_steps(patched, stop_at=5)
        with pytest.raises(Stop):
            train(out)
    # The two latest checkpoints are kept, of two files each; older ones are gone.
    latest = out.with_name(f".{out.name}.checkpoints") / "latest"
    assert len([file for file in latest.iterdir() if file.name.startswith("ckpt-")]) == 4
    assert train(out) == (2 * STEPS, HISTORY)


@pytest.mark.parametrize("seconds", [0.0, 99.0])
@pytest.mark.parametrize("stop_at", [1, 3, 4, 5, 12])
def test_a_stopped_training_goes_on(
    seconds: float, stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last step if all are saved, otherwise from the last complete epoch."""
    monkeypatch.setattr(resumable, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    with monkeypatch.context() as patched:
        watch_steps(patched, stop_at=stop_at)
        with pytest.raises(Stop):
            train(tmp_path / "s")
    notes = watch_steps(monkeypatch)
    assert train(tmp_path / "s") == (2 * STEPS, HISTORY)
    kept = stop_at if seconds == 0 else (stop_at - 1) // STEPS * STEPS
    assert notes == [f"step {step}" for step in range(kept + 1, 13)]


def test_another_training_starts_again_and_parts_are_separate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "s", part="one")
    notes = watch_steps(monkeypatch)
    train(tmp_path / "s", part="one")
    assert not notes
    train(tmp_path / "s", part="two")
    assert len(notes) == 12
    train(tmp_path / "s", job="other", part="one")
    assert len(notes) == 24
    assert sorted(p.name for p in (tmp_path / ".s.checkpoints").iterdir()) == ["one", "two"]
    remove_checkpoints(tmp_path / "s")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"job": '])
def test_a_damaged_state_is_told(state: str, tmp_path: Path) -> None:
    train(tmp_path / "s")
    file = tmp_path / ".s.checkpoints" / "state.json"
    assert json.loads(file.read_text())["history"] == HISTORY
    file.write_text(state)
    with pytest.raises(KdedgeError, match="is damaged: .* Remove this folder"):
        train(tmp_path / "s")

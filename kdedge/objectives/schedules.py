"""Values that change during training: temperature, loss weights, learning rate."""

from typing import Any

import keras
from keras import ops

from kdedge.errors import KdedgeError
from kdedge.recipe import DECAYS

# Falls from 1 at the start; `done` is the finished share of the training.
_SHAPES = {
    "constant": lambda done: ops.ones_like(done),
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + ops.cos(3.141592653589793 * done)),
    # Ends at 0.01.
    "exponential": lambda done: ops.exp(-4.605170185988091 * done),
}


@keras.saving.register_keras_serializable("kdedge")
class Schedule:
    """A number that changes from one value to another during training.

        >>> halfway = Schedule(4.0, 1.0)(0.5)
        >>> float(halfway)
        2.5

    Args:
        start: value at the first step.
        end: value after the last step.
        kind: `linear`; `cosine`, which is slow at both ends; or `constant`, always `start`.

    Raises:
        KdedgeError: another kind.
    """

    def __init__(self, start: float, end: float, kind: str = "linear") -> None:
        if kind not in ("constant", "linear", "cosine"):
            raise KdedgeError(f"kind: {kind!r}. Allowed: constant, linear, cosine.")
        self.start, self.end, self.kind = start, end, kind

    def __call__(self, done: Any) -> Any:
        """The value, float32, when the share `done` of the training is finished, from 0 to 1."""
        left = _SHAPES[self.kind](ops.cast(done, "float32"))
        return self.end + (self.start - self.end) * left

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"start": self.start, "end": self.end, "kind": self.kind}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """Build from `get_config`."""
        return cls(**config)


def value_at(value: float | Schedule, done: Any) -> Any:
    """The number, or the value of the schedule at `done`."""
    return value(done) if isinstance(value, Schedule) else value


def values_of(value: float | Schedule) -> tuple[float, ...]:
    """The number, or start and end of the schedule."""
    return (value.start, value.end) if isinstance(value, Schedule) else (value,)


@keras.saving.register_keras_serializable("kdedge")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to a peak, then decay.

        >>> rate = LearningRate(1.0, steps=10, warmup=2, decay="linear")
        >>> [round(float(rate(step)), 3) for step in (0, 1, 2, 6)]
        [0.0, 0.5, 1.0, 0.5]

    Args:
        peak: highest rate.
        steps: steps of the whole training.
        warmup: steps of the warm-up.
        decay: `linear` or `cosine` to 0 (Loshchilov, Hutter 2016, arXiv 1608.03983),
            `exponential` to a hundredth of the peak, or `constant`.

    Raises:
        KdedgeError: another decay, or a warm-up that is not shorter than the training.
    """

    def __init__(self, peak: float, steps: int, warmup: int = 0, decay: str = "cosine") -> None:
        if decay not in DECAYS:
            raise KdedgeError(f"decay: {decay!r}. Allowed: {', '.join(DECAYS)}.")
        if not 0 <= warmup < steps:
            raise KdedgeError(
                f"warmup: {warmup} steps. Allowed: 0 to {steps - 1}, fewer than the training has."
            )
        self.peak, self.steps, self.warmup, self.decay = peak, steps, warmup, decay

    def __call__(self, step: Any) -> Any:
        """The rate, float32, at a step; the first is 0."""
        step = ops.cast(step, "float32")
        done = ops.clip((step - self.warmup) / (self.steps - self.warmup), 0.0, 1.0)
        share = ops.where(step < self.warmup, step / max(self.warmup, 1), _SHAPES[self.decay](done))
        return self.peak * share

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup": self.warmup,
            "decay": self.decay,
        }

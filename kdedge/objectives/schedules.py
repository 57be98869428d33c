"""Values that change while a student trains: temperature, weights, learning rate."""

from typing import Any

import keras
from keras import ops

from kdedge.errors import KdedgeError
from kdedge.recipe import DECAYS

# From 1 at the start to what is left at the end, by the share of the training that is done.
_SHAPES = {
    "constant": lambda done: ops.ones_like(done),
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + ops.cos(3.141592653589793 * done)),
    # A hundredth is left.
    "exponential": lambda done: ops.exp(-4.605170185988091 * done),
}


@keras.saving.register_keras_serializable("kdedge")
class Schedule:
    """A number that goes from one value to another in the course of the training.

    Called with the share of the training that is done, from 0 to 1.

    Args:
        start: its value at the first step.
        end: its value after the last one.
        kind: `linear`, or `cosine`, which is slow at both ends; `constant` stays at `start`.

    Raises:
        KdedgeError: another kind.
    """

    def __init__(self, start: float, end: float, kind: str = "linear") -> None:
        if kind not in ("constant", "linear", "cosine"):
            raise KdedgeError(f"kind: {kind!r}. Allowed: constant, linear, cosine.")
        self.start, self.end, self.kind = start, end, kind

    def __call__(self, done: Any) -> Any:
        """The value, float32, at `done`, a float or float32 scalar tensor."""
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
    """A number as it is, a schedule's value at `done`."""
    return value(done) if isinstance(value, Schedule) else value


def values_of(value: float | Schedule) -> tuple[float, ...]:
    """The values that bound a number or a schedule."""
    return (value.start, value.end) if isinstance(value, Schedule) else (value,)


@keras.saving.register_keras_serializable("kdedge")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to a peak, then falls.

    Args:
        peak: the highest rate.
        steps: of the whole training.
        warmup: the steps in which it rises.
        decay: `linear` or `cosine` to 0 (Loshchilov, Hutter 2016, arXiv 1608.03983),
            `exponential` to a hundredth of the peak, or `constant`.

    Raises:
        KdedgeError: another decay, or a warm-up that is not shorter than the training.
    """

    def __init__(self, peak: float, steps: int, warmup: int = 0, decay: str = "cosine") -> None:
        if decay not in DECAYS:
            raise KdedgeError(f"decay: {decay!r}. Allowed: {', '.join(DECAYS)}.")
        if not 0 <= warmup < steps:
            raise KdedgeError(f"warmup: {warmup} steps; from 0 to {steps - 1} are allowed.")
        self.peak, self.steps, self.warmup, self.decay = peak, steps, warmup, decay

    def __call__(self, step: Any) -> Any:
        """The rate, float32, at a step counted from 0."""
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

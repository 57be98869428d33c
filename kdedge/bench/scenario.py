"""Scenarios and tiers: what is measured, and for how long."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from kdedge.errors import KdedgeError

# An inference that takes longer counts as hanging.
SLOWEST_SECONDS = 5.0
# A repeat of `sustained` is this many times as long as one of its tier: two minutes for `light`.
SUSTAINED_TIMES = 20

Kind = Literal["single-stream", "cold-start", "sustained", "throughput"]
SINGLE_STREAM, COLD_START, SUSTAINED, THROUGHPUT = KINDS = get_args(Kind)


class Scenario(BaseModel):
    """How long to measure: until both the count and the seconds are reached."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind = Field(
        "single-stream",
        description="one text at a time, as in an app; loading and the first inference; one text "
        "at a time for minutes, to see a device grow slower; texts in batches, as in a server",
    )
    min_count: int = Field(ge=1, description="inferences in each repeat")
    min_seconds: float = Field(ge=0, description="of each repeat")
    repeats: int = Field(5, ge=1, description="fresh processes for each artifact")
    warmup_count: int = Field(16, ge=0, description="inferences before those that count")
    warmup_seconds: float = Field(0.5, ge=0)

    @property
    def limit_seconds(self) -> float:
        """Time limit of a process, many times what it needs."""
        most = self.warmup_count + self.min_count
        return 120 + 3 * (self.warmup_seconds + self.min_seconds) + SLOWEST_SECONDS * most


# `full` follows MLPerf Mobile's rule for single stream: 1,024 samples and 60 seconds.
TIERS = {
    tier.name: tier
    for tier in (
        Scenario(name="quick", min_count=64, min_seconds=0.5, repeats=3, warmup_seconds=0.2),
        Scenario(name="light", min_count=64, min_seconds=6),
        Scenario(name="standard", min_count=128, min_seconds=10),
        Scenario(name="full", min_count=1024, min_seconds=60, warmup_seconds=2),
    )
}


def scenario(tier: str, kind: str = SINGLE_STREAM) -> Scenario:
    """The scenario of that kind in that tier.

    Raises:
        KdedgeError: there is none of that name.
    """
    if tier not in TIERS:
        raise KdedgeError(f"tier: there is no {tier!r}. Allowed: {', '.join(TIERS)}.")
    if kind not in KINDS:
        raise KdedgeError(f"scenario: there is no {kind!r}. Allowed: {', '.join(KINDS)}.")
    chosen = TIERS[tier]
    changes: dict[str, Any] = {"kind": kind}
    if kind == COLD_START:
        # Each repeat gives only one value; min_count repeats would take too long.
        changes |= {"min_count": 1, "min_seconds": 0, "warmup_count": 0, "warmup_seconds": 0}
        changes |= {"repeats": 4 * chosen.repeats}
    if kind == SUSTAINED:
        changes |= {"min_seconds": SUSTAINED_TIMES * chosen.min_seconds, "repeats": 1}
    return chosen.model_copy(update=changes)

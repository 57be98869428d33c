"""How long to measure."""

from pydantic import BaseModel, ConfigDict, Field

from kdedge.errors import KdedgeError


class Scenario(BaseModel):
    """Single stream, one text at a time, as in an app; counts and seconds both are reached."""

    model_config = ConfigDict(frozen=True)

    name: str
    min_count: int = Field(ge=1, description="inferences in each repeat")
    min_seconds: float = Field(ge=0, description="of each repeat")
    repeats: int = Field(5, ge=1, description="fresh processes for each artifact")
    warmup_count: int = Field(16, ge=0, description="inferences before those that count")
    warmup_seconds: float = Field(0.5, ge=0)
    threads: int = Field(1, ge=1)


# `full` is MLPerf Mobile's rule for single stream: 1,024 samples and 60 seconds.
TIERS = {
    tier.name: tier
    for tier in (
        Scenario(name="quick", min_count=64, min_seconds=0.5, repeats=3, warmup_seconds=0.2),
        Scenario(name="light", min_count=64, min_seconds=6),
        Scenario(name="standard", min_count=128, min_seconds=10),
        Scenario(name="full", min_count=1024, min_seconds=60, warmup_seconds=2),
    )
}


def scenario(name: str) -> Scenario:
    """The tier of that name.

    Raises:
        KdedgeError: there is none of that name.
    """
    if name not in TIERS:
        raise KdedgeError(f"tier: there is no {name!r}. Allowed: {', '.join(TIERS)}.")
    return TIERS[name]

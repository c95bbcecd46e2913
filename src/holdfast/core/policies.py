"""What an environment asks of every change: approvals, caps, freezes, and how it is rolled out.

Nouns only, frozen, as the journal keeps them; `core.policy` and `core.rollout` decide by them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Compatibility: TypeAlias = Literal[
    "NONE",
    "BACKWARD",
    "FORWARD",
    "FULL",
    "BACKWARD_TRANSITIVE",
    "FORWARD_TRANSITIVE",
    "FULL_TRANSITIVE",
]
"""Schema compatibility in Confluent's words: who must be able to read whose values."""

PERCENT_PARTS = 10_000
"""Shares are counted in millionths of the units: one percent is this many."""


class Stage(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One step of a rollout: who is exposed from here on, and for how long at least.

    Exposed are contexts whose ring is named here or in a stage before, and `percent` of the units,
    sticky: whoever was exposed stays so. A stage with `percent` 100 exposes everybody.
    """

    name: str = ""
    rings: tuple[str, ...] = ()
    percent: float = 0.0
    bake_s: float = 0.0


class Gates(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What must hold for a stage to be left.

    - `alpha`: how likely at most a harmless rollout is halted by the error gate, and as much again
      by the latency gate, over its whole life and at any number of looks.
    - `objective_ms`: a request slower than this counts as slow; 0 switches that gate off.
    - `silence_s`: no report from exposed consumers for so long halts; 0 switches it off.
    - `query`: PromQL whose every result must be at most `query_max`, asked of `query_url`.
    """

    alpha: float = 0.0005
    objective_ms: float = 0.0
    silence_s: float = 0.0
    query: str = ""
    query_max: float = 0.0
    query_url: str = ""


class Plan(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Stages in order. `unit` is the attribute that shares are sticky by; `ring` names the ring."""

    stages: tuple[Stage, ...]
    unit: str = "targetingKey"
    ring: str = "ring"
    gates: Gates = Gates()


class Freeze(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """No change from `begin_s` up to `end_s`, in unix seconds, but with break-glass."""

    begin_s: int
    end_s: int
    reason: str = ""


class Shape(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much one new snapshot may differ from the one that a consumer has, in percent.

    Of the settings that the consumer has: `lost_percent` may be gone, `retyped_percent` may have
    another type. `growth_percent`: its bytes may have become this many percent of the old ones.
    Small snapshots, of fewer than `settings_min` settings, are held to the count `settings_min`.
    """

    lost_percent: float = 30.0
    retyped_percent: float = 5.0
    growth_percent: float = 1_000.0
    settings_min: int = 10


class Pace(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The pacing contract of an environment: what its consumers may ask, in seconds.

    - `poll_interval_s` is the steady rate; after `stale_after_s` without a newer statement of
      freshness an answer says that it is stale.
    - `poll_interval_max_s`, `retry_after_max_s`: how far an edge may slow consumers down. Its
      hints are not signed; these bounds are.
    - `streams`: whether consumers listen to streams at all.
    """

    poll_interval_s: int = 30
    poll_interval_max_s: int = 300
    retry_after_max_s: int = 300
    stale_after_s: int = 90
    streams: bool = True


class Policy(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an environment asks of every change in it.

    - `approvals`: how many others than the author must approve.
    - `settings_max`: settings that one change may touch; 0 for any number.
    - `traffic_percent_max`: share of seen requests whose answers one change may move; 100: any.
    - `deletion_percent`: deleting more of a service's settings than this takes a second person.
    - `rollout`: how changes go out; none lets them out at once. `fast` is the pace of kill
      switches, segment edits and deletions, ring by ring all the same.
    - `break_glass_s`: how long a break-glass lasts at most.
    """

    approvals: int = 0
    settings_max: int = 0
    traffic_percent_max: float = 100.0
    deletion_percent: float = 5.0
    freezes: tuple[Freeze, ...] = ()
    compatibility: Compatibility = "FULL_TRANSITIVE"
    rollout: Plan | None = None
    fast: Plan | None = None
    shape: Shape = Shape()
    break_glass_s: int = 3_600


class Approval(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One person's word for one change, by its digest. `name` is that of the token `token`."""

    token: str
    name: str
    actor: str
    digest: str
    at_ms: int


RING_STAGES = (
    Stage(name="ring0", rings=("ring0",), bake_s=600),
    Stage(name="ring1", rings=("ring1",), percent=1, bake_s=1_800),
    Stage(name="ring2", rings=("ring2",), percent=10, bake_s=3_600),
    Stage(name="half", percent=50, bake_s=3_600),
    Stage(name="all", percent=100),
)
FAST_STAGES = (
    Stage(name="ring0", rings=("ring0",), bake_s=2),
    Stage(name="ring1", rings=("ring1",), percent=10, bake_s=2),
    Stage(name="ring2", rings=("ring2",), percent=50, bake_s=2),
    Stage(name="all", percent=100),
)
STANDARD = Policy(
    approvals=1,
    settings_max=100,
    rollout=Plan(stages=RING_STAGES, gates=Gates(silence_s=900)),
    fast=Plan(stages=FAST_STAGES),
)
"""What `holdfast policy set ENVIRONMENT --standard` puts: what production should have."""

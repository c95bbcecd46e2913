"""What consumers tell: who runs what, what they refused, how requests went, which contexts came.

A report goes from a client to its upstream and from edge to edge up to a control plane, as JSON:
`POST /v1/reports` with `{"reports": [...]}`. Counters only grow while a consumer lives, so that a
report that is lost or comes twice changes nothing: whoever adds up takes differences by `consumer`.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.core.model import JSON

Trust: TypeAlias = Literal["none", "probation", "proven", "pinned"]

REPORTS_MAX: Final = 1_000
"""Reports in one request."""
REFUSALS_MAX: Final = 16
OUTCOMES_MAX: Final = 64
CONTEXTS_MAX: Final = 32
HEADS_MAX: Final = 8


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A candidate that was not activated (NACK). `key` names the setting that it failed on."""

    revision: int
    digest: str
    code: str
    message: str
    at_ms: int
    key: str = ""


class Outcomes(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests went on one side of a rollout at one stage, since the consumer's start.

    `errors` and `slow` count at most one of each unit and window; `units` distinct units seen.
    """

    rollout: str
    stage: int
    exposed: bool
    requests: int = 0
    errors: int = 0
    slow: int = 0
    units: int = 0


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A context that was really seen: allow-listed attributes, keys hashed; `count` requests."""

    context: dict[str, JSON]
    count: int = 1


class Witness(msgspec.Struct, frozen=True):
    """A journal head that a signed freshness statement named."""

    revision: int
    hash: str


class ConsumerReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One consumer of one subject, as it is now.

    - `consumer`: random, stable for the life of the process; `sequence` grows with each report.
    - `build`: `holdfast/<version>`; `application`: the consuming program's own name and version.
    - `contract`: digest of the contract that it holds snapshots to; empty for none.
    - `crashes`: how often a crash streak sent it back a generation.
    """

    consumer: str
    service: str
    environment: str
    kind: Literal["sdk", "edge"]
    build: str
    sequence: int
    at_ms: int
    application: str = ""
    ring: str = ""
    revision: int = 0
    digest: str = ""
    trust: Trust = "none"
    since_ms: int = 0
    stale: bool = False
    contract: str = ""
    crashes: int = 0
    refusals: tuple[Refusal, ...] = ()
    outcomes: tuple[Outcomes, ...] = ()
    contexts: tuple[Sample, ...] = ()
    heads: tuple[Witness, ...] = ()


class ReportBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/reports`."""

    reports: tuple[ConsumerReport, ...]

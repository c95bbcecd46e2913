"""What consumers tell: who runs what, what they refused, how requests went, which contexts came.

A report goes from a client to its upstream and from edge to edge up to a control plane, as JSON:
`POST /v1/reports` with `{"reports": [...]}`. Counters only grow while a consumer lives, so that a
report that is lost or comes twice changes nothing: whoever adds up takes differences by `consumer`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from holdfast.core.model import JSON

Trust: TypeAlias = Literal["none", "probation", "proven", "pinned"]

REPORTS_MAX: Final = 1_000
"""Reports in one request."""
REFUSALS_MAX: Final = 16
OUTCOMES_MAX: Final = 64
CONTEXTS_MAX: Final = 32
HEADS_MAX: Final = 8
BODY_BYTES_MAX: Final = 60_000
"""Of one request: edges take bodies up to one evaluation context and its envelope."""

Short: TypeAlias = Annotated[str, Meta(max_length=128)]
Text: TypeAlias = Annotated[str, Meta(max_length=256)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A candidate that was not activated (NACK). `key` names the setting that it failed on."""

    revision: Count
    digest: Short
    code: Short
    message: Text
    at_ms: Count
    key: Short = ""


class Outcomes(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests went on one side of a rollout at one stage, since the consumer's start.

    `errors` and `slow` count at most one of each unit and window; `units` distinct units seen.
    """

    rollout: Short
    stage: Count
    exposed: bool
    requests: Count = 0
    errors: Count = 0
    slow: Count = 0
    units: Count = 0


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """A context that was really seen: allow-listed attributes, keys hashed; `count` requests."""

    context: dict[str, JSON]
    count: Count = 1


class Witness(msgspec.Struct, frozen=True):
    """A journal head that a signed freshness statement named."""

    revision: Count
    hash: Short


class ConsumerReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One consumer of one subject, as it is now.

    - `consumer`: random, stable for the life of the process; `sequence` grows with each report.
    - `build`: `holdfast/<version>`; `application`: the consuming program's own name and version.
    - `contract`: digest of the contract that it holds snapshots to; empty for none.
    - `crashes`: how often a crash streak sent it back a generation.
    """

    consumer: Annotated[str, Meta(min_length=8, max_length=64)]
    service: Short
    environment: Short
    kind: Literal["sdk", "edge"]
    build: Short
    sequence: Count
    at_ms: Count
    application: Text = ""
    ring: Text = ""
    revision: Count = 0
    digest: Short = ""
    trust: Trust = "none"
    since_ms: Count = 0
    stale: bool = False
    contract: Short = ""
    crashes: Count = 0
    refusals: Annotated[tuple[Refusal, ...], Meta(max_length=REFUSALS_MAX)] = ()
    outcomes: Annotated[tuple[Outcomes, ...], Meta(max_length=OUTCOMES_MAX)] = ()
    contexts: Annotated[tuple[Sample, ...], Meta(max_length=CONTEXTS_MAX)] = ()
    heads: Annotated[tuple[Witness, ...], Meta(max_length=HEADS_MAX)] = ()


class ReportBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/reports`."""

    reports: Annotated[tuple[ConsumerReport, ...], Meta(max_length=REPORTS_MAX)]

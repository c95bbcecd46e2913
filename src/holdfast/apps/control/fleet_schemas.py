"""The shapes of reports and of the fleet in the control API's bodies."""

from __future__ import annotations

from msgspec import Struct

from holdfast.core.reports import ConsumerReport


class Taken(Struct, frozen=True):
    """How many reports were taken; the rest were of what the token may not read."""

    taken: int


class ConsumerLine(Struct, frozen=True):
    """One consumer of one service in one environment.

    `age_s` since its newest report came, `known_s` since the first; `silent` when that is long ago;
    `behind`: it runs another revision than the newest.
    """

    report: ConsumerReport
    age_s: float
    known_s: float
    silent: bool
    behind: bool


class FleetSummary(Struct, frozen=True):
    """Over all that match: consumers, and how many are silent, behind, stale or refusing."""

    consumers: int
    silent: int
    behind: int
    stale: int
    refusing: int


class FleetBody(Struct, frozen=True):
    """By environment, service and consumer; `cursor` continues, null at the end."""

    summary: FleetSummary
    consumers: tuple[ConsumerLine, ...]
    cursor: str | None


class RunningVersion(Struct, frozen=True):
    """A revision that a consumer runs; `by` names one of those who do."""

    revision: int
    by: str


class RunningBody(Struct, frozen=True):
    """Revisions of each service that consumers run. `whole`: this node has heard of all."""

    whole: bool
    services: dict[str, tuple[RunningVersion, ...]]

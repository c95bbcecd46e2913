"""Reports taken on behalf of callers, and the fleet shown to them as far as they may see it."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.apps.control import fleet_schemas as shapes
from holdfast.core.access import Grant
from holdfast.core.errors import Forbidden
from holdfast.core.model import Subject
from holdfast.core.reports import ConsumerReport
from holdfast.engine.fleet import SILENT_S, Consumer, Fleet
from holdfast.engine.views import View
from holdfast.ports import Clock


class Telemetry:
    """What consumers tell a control plane. Thread-safe."""

    def __init__(self, fleet: Fleet, view: View, clock: Clock) -> None:
        self._fleet = fleet
        self._view = view
        self._clock = clock
        self.refused = 0

    def take(self, caller: Grant, reports: Iterable[ConsumerReport]) -> tuple[ConsumerReport, ...]:
        """Take the reports of what the caller may read: these. Raises `Forbidden` if it is none."""
        given = tuple(reports)
        mine = tuple(one for one in given if caller.allows("read", one.environment, one.service))
        self.refused += len(given) - len(mine)
        if given and not mine:
            raise Forbidden(f"the token {caller.token} may not read what the reports are of")
        self._fleet.take(mine)
        return mine

    def fleet(
        self, caller: Grant, environment: str, service: str, cursor: str | None, limit: int
    ) -> shapes.FleetBody:
        """One page of the consumers that the caller may see."""
        lines = [
            self._line(each)
            for each in self._fleet.consumers(environment, service)
            if caller.allows("read", each.report.environment, each.report.service)
        ]
        after = [line for line in lines if cursor is None or _cursor(line) > cursor]
        page = tuple(after[:limit])
        return shapes.FleetBody(
            summary=shapes.FleetSummary(
                consumers=len(lines),
                silent=sum(line.silent for line in lines),
                behind=sum(line.behind for line in lines),
                stale=sum(line.report.stale for line in lines),
                refusing=sum(bool(line.report.refusals) for line in lines),
            ),
            consumers=page,
            cursor=_cursor(page[-1]) if len(after) > limit else None,
        )

    def _line(self, each: Consumer) -> shapes.ConsumerLine:
        now_s, report = self._clock(), each.report
        newest = self._view.standing.lineages.get(Subject(report.environment, report.service))
        return shapes.ConsumerLine(
            report=report,
            age_s=max(0.0, round(now_s - each.seen_s, 3)),
            known_s=max(0.0, round(now_s - each.first_s, 3)),
            silent=now_s - each.seen_s > SILENT_S,
            behind=newest is not None and newest.digest != report.digest,
        )


def _cursor(line: shapes.ConsumerLine) -> str:
    report = line.report
    return f"{report.environment}/{report.service}/{report.consumer}"

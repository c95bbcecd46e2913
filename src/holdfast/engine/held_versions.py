"""The types and schemas that consumers hold at this moment, by the revisions that they report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from holdfast.core.compatibility import VERSIONS_MAX, Version
from holdfast.core.state import State, closure
from holdfast.engine.fleet import Consumer

Running: TypeAlias = Mapping[int, str]
"""Revisions that are run, each with the name of one who runs it."""
_NONE: Final[Running] = MappingProxyType({})


def _untold(_service: str) -> Running:
    return _NONE


class HeldVersions:
    """A `core.compatibility.History` of what the fleet runs, apart from what stands.

    Looks at the `VERSIONS_MAX` newest revisions that consumers of the service report, here or,
    as `told(service)` gives them, elsewhere.
    """

    def __init__(
        self,
        state: Callable[[], State],
        state_at: Callable[[int], State],
        consumers: Callable[[], Iterable[Consumer]],
        told: Callable[[str], Running] = _untold,
    ) -> None:
        self._state = state
        self._state_at = state_at
        self._consumers = consumers
        self._told = told

    def __call__(self, service: str, key: str) -> Iterator[Version]:
        """Versions of one setting, newest first; each says who runs it."""
        head = self._state().head.revision
        running = {**self._told(service), **self.running({service})[service]}
        older = sorted((one for one in running if 0 < one < head), reverse=True)
        for revision in older[:VERSIONS_MAX]:
            owner = self._state_at(revision).services.get(service)
            kept = owner.settings.get(key) if owner else None
            if kept is not None:
                origin = f"the schema of revision {revision}, which `{running[revision]}` runs,"
                yield Version(kept.setting.type, kept.setting.schema, origin)

    def running(self, services: Collection[str]) -> dict[str, Running]:
        """What consumers that report here run of each service, the newest revisions of it."""
        state = self._state()
        found: dict[str, dict[int, str]] = {service: {} for service in services}
        read: dict[str, list[str]] = {}
        for one in self._consumers():
            report = one.report
            if not 0 < report.revision <= state.head.revision:
                continue
            if report.service not in read:
                of = closure(state.services, report.service)
                read[report.service] = [name for name in of if name in found]
            for service in read[report.service]:
                found[service].setdefault(report.revision, report.application or report.consumer)
        return {service: _newest(running) for service, running in found.items()}


def _newest(running: Running) -> Running:
    """The head counts on top: for a node that is ahead of this one it is an older revision."""
    return {revision: running[revision] for revision in sorted(running)[-VERSIONS_MAX - 1 :]}

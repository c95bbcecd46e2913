"""The types and schemas that consumers hold at this moment, by the revisions that they report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from holdfast.core.compatibility import VERSIONS_MAX, Version
from holdfast.core.state import State, closure
from holdfast.engine.fleet import Consumer


class HeldVersions:
    """A `core.compatibility.History` of what the fleet runs, apart from what stands.

    Looks at the `VERSIONS_MAX` newest revisions that consumers of the service report.
    """

    def __init__(
        self,
        state: Callable[[], State],
        state_at: Callable[[int], State],
        consumers: Callable[[], Iterable[Consumer]],
    ) -> None:
        self._state = state
        self._state_at = state_at
        self._consumers = consumers

    def __call__(self, service: str, key: str) -> Iterator[Version]:
        """Versions of one setting, newest first; each says who runs it."""
        state = self._state()
        running: dict[int, str] = {}
        for one in self._consumers():
            report = one.report
            if 0 < report.revision < state.head.revision and service in closure(
                state.services, report.service
            ):
                running.setdefault(report.revision, report.application or report.consumer)
        for revision in sorted(running, reverse=True)[:VERSIONS_MAX]:
            owner = self._state_at(revision).services.get(service)
            kept = owner.settings.get(key) if owner else None
            if kept is not None:
                origin = f"the schema of revision {revision}, which `{running[revision]}` runs,"
                yield Version(kept.setting.type, kept.setting.schema, origin)

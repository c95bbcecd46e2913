"""One upstream of an edge: an `HttpSource` that knows its place in a chain of edges.

A catalogue says through which edges it came (`Holdfast-Via`). One that came through this edge says
nothing new, however alive its sender is: that upstream follows us. It counts as one that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from holdfast.adapters.http_source import HttpHints, HttpSource, Timeouts
from holdfast.apps.edge.shard import Shard
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject

HOPS_MAX: Final = 8
"""Edges between this one and a control plane; a longer way is a loop, or as slow as one."""


class Place:
    """Where an edge stands: `name` tells it from others, `via` is the way up from it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.above: tuple[str, ...] = ()
        self.loops = 0

    @property
    def via(self) -> str:
        """What is told to those below."""
        return ", ".join((self.name, *self.above))

    def came(self, via: str, upstream: str) -> None:
        """A catalogue came this way. Raises `Unavailable` for one that came through here."""
        above = tuple(part for part in (each.strip() for each in via.split(",")) if part)
        if self.name in above:
            self.loops += 1
            raise Unavailable(f"{upstream} follows this edge: it can say nothing new")
        if len(above) > HOPS_MAX:
            self.loops += 1
            raise Unavailable(f"{upstream} is {len(above)} edges from a control plane")
        self.above = above


class EdgeSource(HttpSource):
    """A source that tells which subjects its catalogue names, and passes over other shards'."""

    def __init__(  # noqa: PLR0913, PLR0917  who is asked, by whom, for what
        self,
        base_url: str,
        token: str,
        saw: Callable[[str, Iterable[Subject]], None],
        place: Place,
        shard: Shard,
        cell: str = "",
    ) -> None:
        super().__init__(base_url, token, headers={"Holdfast-Cell": cell} if cell else {})
        self._saw = saw
        self._place = place
        self._shard = shard

    def catalogue(self) -> Mapping[Subject, str]:
        digests = self._shard.of(super().catalogue())
        self._place.came(self.via, self.name)
        self._saw(self.name, digests)
        return digests

    def hints(self) -> HttpHints:
        return _Mine(self.name, self._headers, self._timeouts, self._shard)


class _Mine(HttpHints):
    """A stream that tells only of what is served here."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], timeouts: Timeouts, shard: Shard
    ) -> None:
        super().__init__(base_url, headers, timeouts)
        self._shard = shard

    def __iter__(self) -> Iterator[Mapping[Subject, str]]:
        for digests in super().__iter__():
            if mine := self._shard.of(digests):
                yield mine

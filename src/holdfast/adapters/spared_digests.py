"""The record of first digests on an engine, done without where it is rotten: it stops no node.

Files are begun anew (`mending_digests`); a record that other nodes use is left as it is, for them
and for a look, and this node keeps one in memory from then on. What is lost until the record is
mended and the node starts again is that nodes compare digests at once: the journal's entries still
name them one entry later, and every consumer refuses other bytes for a revision that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.adapters.memory import MemoryDigests
from holdfast.core.errors import Damaged
from holdfast.ports import Digests, Imprint


class SparedDigests:
    """The `Digests` port on another one while that is sound. `told` hears of the damage, once."""

    def __init__(self, digests: Digests, told: Callable[[Damaged], None]) -> None:
        self._digests = digests
        self._told = told

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        try:
            return self._digests.put(made)
        except Damaged as error:
            return self._without(error).put(made)

    def all(self) -> Sequence[Imprint]:
        try:
            return self._digests.all()
        except Damaged as error:
            return self._without(error).all()

    def _without(self, error: Damaged) -> Digests:
        if not isinstance(self._digests, MemoryDigests):
            self._told(error)
            self._digests = MemoryDigests()
        return self._digests

"""A bundle that somebody hands to a follower, in place of an upstream that could be asked for it.

It is judged as every candidate is, by the same checks; who brings it counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from holdfast.core.conversation import Answered, Failed, Refused
from holdfast.core.errors import NotFound, Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Fetched, Hints

Verdict: TypeAlias = Answered | Refused | Failed


class Offer(msgspec.Struct, frozen=True):
    """A bundle for a subject that is followed; `told` hears what became of it, on any thread."""

    subject: Subject
    bundle: bytes
    told: Callable[[Verdict], None]


class Handed:
    """The `Source` of one offer: it has this bundle and nothing else."""

    name = "a push"

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    def within(self, total_s: float) -> None:
        """It is there already."""

    def snapshot(self, subject: Subject, have: str | None) -> Fetched:
        if have is None or subject != self._offer.subject:
            raise Unavailable("a push is a delta to what stood where it was made, and nothing more")
        return Fetched(self._offer.bundle)

    def catalogue(self) -> Mapping[Subject, str]:
        return {}

    def segment(self, subject: Subject, digest: str) -> bytes:
        raise NotFound(f"a push carries no segments: {subject} {digest}")

    def hints(self) -> Hints:
        raise Unavailable("a push has no stream")

    def close(self) -> None:
        """Nothing is open."""

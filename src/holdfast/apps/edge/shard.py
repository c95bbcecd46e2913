"""What of all services this edge serves, where they are assigned to edges (`core.cells`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from holdfast.core.cells import Plan, assigned, serves
from holdfast.core.errors import Misdirected
from holdfast.core.model import Subject

T = TypeVar("T")


class Shard:
    """The share of one edge. Without a plan it is everything."""

    def __init__(self, plan: Plan | None = None, name: str = "") -> None:
        self.plan = plan
        self.name = name

    def serves(self, subject: Subject) -> bool:
        return self.plan is None or serves(self.plan, self.name, subject)

    def of(self, digests: Mapping[Subject, T]) -> Mapping[Subject, T]:
        """Those of the subjects that are served here."""
        if self.plan is None:
            return digests
        return {subject: digest for subject, digest in digests.items() if self.serves(subject)}

    def elsewhere(self, *subjects: Subject) -> Misdirected | None:
        """Where to ask, if not one of the subjects is served here."""
        plan = self.plan
        if plan is None or any(map(self.serves, subjects)):
            return None
        edges = dict.fromkeys(edge for one in subjects for edge in assigned(plan, one))
        return Misdirected(f"{subjects[0]} is served by {', '.join(edges)}, not by {self.name}")

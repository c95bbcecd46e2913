"""An edge asks itself first: every probe goes through routes of its own before anybody may ask.

What the follower proves is its evaluator. Between that and a caller stand the table, the routes and
the writing of answers, and a build that has a defect there would answer wrongly at once. So the
probes are asked as a caller would ask them, of the same code on a table that nobody else sees. An
edge that fails this is not ready, and answers nothing: it is its build that is wrong, not the
settings, which were proven just before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from holdfast.apps.distribute import Distribution
from holdfast.apps.edge.door import EdgeDoor
from holdfast.apps.edge.routes import Parts, Routes
from holdfast.apps.edge.shelf import EdgeShelf
from holdfast.apps.edge.table import Active, Table
from holdfast.apps.http import Request, Response
from holdfast.apps.streams import Fanout
from holdfast.core.edition import Edition
from holdfast.core.errors import HoldfastError
from holdfast.core.model import Subject
from holdfast.core.probes import Carried, read
from holdfast.core.wire import UNREADABLE, canonical

AGAIN_MAX: Final = 300
"""Probes asked at each later activation of a subject, those of changed settings first."""
OTHERS_MAX: Final = 100
"""Other subjects of which one probe is asked again."""


class Stage:
    """The routes of an edge on a table that nobody else sees. For one thread."""

    def __init__(self, parts: Parts) -> None:
        """`parts` are those of the edge; what callers see of them is replaced."""
        self._table = Table()
        door = EdgeDoor(parts.clock, open_reads=True)
        shelf = EdgeShelf(lambda _: b"", Edition())
        self._routes = Routes(
            msgspec.structs.replace(
                parts,
                table=self._table,
                door=door,
                distribution=Distribution(shelf, door, Fanout()),
                refetches=Fanout(),
                health=_Ready(),
            )
        )

    def put(self, active: Active) -> Active:
        """Answer from this generation, and count nothing of it: what is asked here is no traffic,
        and must not be sampled as such."""
        mine = self._table.get(active.subject)
        if mine is None or mine.evaluator is not active.evaluator:
            mine = Active(active.snapshot, active.digest, active.evaluator, active.activated_s)
            self._table.put(mine)
        return mine

    def ask(self, subject: Subject, key: str, probe: Carried) -> str:
        """What a caller would get wrong; empty when nothing."""
        body = msgspec.json.encode({"context": probe.context})
        path = f"/{subject}/ofrep/v1/evaluate/flags/{key}"
        try:
            answer = self._routes.handle(Request("POST", path, b"", (), body))
            if isinstance(answer, Response) and answer.status == 200:
                value = msgspec.json.decode(answer.body).get("value")
                if probe.holds(canonical(value)):
                    return ""
        except (HoldfastError, *UNREADABLE, AttributeError):
            pass
        return f"{key!r} of {subject} is answered otherwise than its snapshot says"


class Rehearsal:
    """Owned by the follower's thread."""

    def __init__(self, parts: Parts) -> None:
        self._stage = Stage(parts)
        self._before: dict[Subject, Active] = {}

    def fault(self, active: Active) -> str:
        """What a caller would get wrong after this activation; empty when nothing."""
        before = self._before.get(active.subject)
        mine = self._before[active.subject] = self._stage.put(active)
        asked = probes_of(mine, before)
        for subject, key, probe in (
            *(asked if before is None else islice(asked, AGAIN_MAX)),
            *self._others(active.subject),
        ):
            if fault := self._stage.ask(subject, key, probe):
                return fault
        return ""

    def _others(self, subject: Subject) -> Iterator[tuple[Subject, str, Carried]]:
        for other in islice(self._before.values(), OTHERS_MAX):
            if other.subject != subject:
                yield from islice(probes_of(other, None), 1)


def probes_of(active: Active, before: Active | None) -> Iterator[tuple[Subject, str, Carried]]:
    """Those of changed settings first. Such whose context can't be asked over HTTP are left out."""
    facts = active.snapshot.holdfast
    known = before.snapshot.holdfast.settings if before else {}
    for key in sorted(facts.probes, key=lambda key: known.get(key) == facts.settings[key]):
        for probe in read(key, facts.probes[key]):
            if isinstance(probe.context.get("targetingKey", ""), str):
                yield active.subject, key, probe


class _Ready:
    """The health of a stage that nobody but the rehearsal sees."""

    def ready(self) -> tuple[bool, Mapping[str, Any]]:
        return True, {}

    def expects(self, subject: Subject) -> bool:  # noqa: ARG002  the protocol's
        return False

    def metrics(self) -> tuple[bytes, str]:
        return b"", ""

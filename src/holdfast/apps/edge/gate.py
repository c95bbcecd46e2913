"""The gate of an edge: admission at the door of the parser (`apps.front.Gate`).

With nothing to do it compares two numbers. Once admission has engaged, each request is told by its
target (`apps.edge.asked`) and by its caller: a token that the door has let in before, nobody where
reads are open, or a stranger, whose name counts for nothing until it is proven. A refusal is bytes
that were made before, written before the body is parsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from holdfast.apps.edge.asked import Asked, asked
from holdfast.apps.edge.cors import Cors
from holdfast.apps.edge.door import EdgeDoor, credential
from holdfast.apps.edge.refusals import VARIANTS, Refusals
from holdfast.apps.edge.table import Table
from holdfast.apps.heads import Known
from holdfast.apps.http import Headers
from holdfast.apps.observe import logger
from holdfast.core.admission import Admission, Why
from holdfast.core.model import Subject
from holdfast.core.snapshot import Pacing

TARGETS_MAX: Final = 4_096
"""Targets whose meaning is remembered."""
TARGET_BYTES_MAX: Final = 512
"""Of one of them."""
STRANGER: Final = "?"
"""All callers whose token was never proven here; no id of a token looks like that."""
NOBODY: Final = ""
"""All callers without a token, where reads are open."""
UNNAMED: Final = "other"
"""All services that there are not."""
FREE: Final = frozenset({"healthz", "readyz"})
"""Whoever looks after an edge has no name, as a flood of such has none: to answer all of them costs
hardly more than to refuse them."""

_log = logger("holdfast.admission")


class _Target:
    """A target that was asked for: what it means, and the refusals to send for it now."""

    __slots__ = ("epoch", "free", "ofrep", "pacing", "place", "rank", "refusals", "renewal")

    def __init__(self, what: Asked, place: str, pacing: Pacing) -> None:
        self.rank, self.renewal, self.ofrep = what.rank, what.renewal, what.ofrep
        self.place = place
        self.free = what.place in FREE
        self.pacing = pacing
        self.epoch = -1
        self.refusals: list[bytes] = []


class _Question:
    """What a head asks for, and in whose name, as long as the table's `epoch` stands.

    `refused`: why it was refused last, and who its caller was then.
    """

    __slots__ = ("credential", "epoch", "origin", "rank", "refused", "what")

    def __init__(self, what: _Target, told: Mapping[bytes, bytes], epoch: int) -> None:
        self.what = what
        self.rank = what.renewal if b"if-none-match" in told else what.rank
        self.credential = credential(told)
        self.origin = told.get(b"origin") if what.ofrep else None
        self.epoch = epoch
        self.refused: tuple[Why, str] | None = None


class EdgeGate:
    """Lets in, refuses, measures. Called on the event loop; `admission` may be read from others.

    `clock` is monotonic, in seconds. `forgotten` counts how often too many targets were known.
    """

    def __init__(
        self,
        table: Table,
        door: EdgeDoor,
        cors: Cors,
        wait_budget_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.admission = Admission(wait_budget_s, clock())
        self.alert_s = self.admission.alert_s
        self.forgotten = 0
        self._table = table
        self._door = door
        self._cors = cors
        self._clock = clock
        self._refusals = Refusals()
        self._targets: dict[bytes, _Target] = {}
        self._epoch = -1
        self._turn = 0
        self._pressure = 0.0

    def admit(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        waited_s: float,
        known: Known | None = None,
    ) -> bytes | None:
        """None lets it in; else the whole refusal."""
        if waited_s < self.alert_s or method == b"OPTIONS":
            # A browser's question before its question: answering costs no more than refusing.
            return None
        question = known.asked if known is not None else None
        if not isinstance(question, _Question) or question.epoch != self._table.epoch:
            question = self._question(target, dict(headers))
            if known is not None:
                known.asked = question
        value = question.credential
        if value is None:
            caller = NOBODY if self._door.public else STRANGER
        else:
            caller = self._door.caller(value) or STRANGER
        what, admission = question.what, self.admission
        if what.free:
            return None
        why = admission.judge(self._clock(), waited_s, question.rank, caller, what.place)
        self.alert_s = admission.alert_s
        if why is None:
            return None
        refusal = self._refusal(what, question.origin)
        if known is not None and question.origin is None:
            # Until the batch is over, waits grow, callers have had more, and bounds stand.
            question.refused = why, caller
            known.refusals = what.refusals[self._turn :] + what.refusals[: self._turn]
        return refusal

    def again(self, known: Known, times: int) -> None:
        """What `admit` left there was sent so often."""
        question = known.asked
        if times and isinstance(question, _Question) and question.refused is not None:
            why, caller = question.refused
            self._turn = (self._turn + times) % VARIANTS
            self.admission.again(times, why, question.rank, caller, question.what.place)

    def done(self, took_s: float, requests: int = 1) -> None:
        """So many that were let in were answered in `took_s`, 0 if one never was."""
        if took_s:
            self.admission.done(took_s, requests)

    def batch(self, length_s: float, _requests: int) -> None:
        """All that came at once is answered, after `length_s`."""
        admission = self.admission
        if admission.calm and length_s < admission.wait_budget_s:
            admission.rest()
            return
        admission.batch(self._clock(), length_s)
        self.alert_s = admission.alert_s
        if admission.pressure != self._pressure:  # it changes once in a window
            self._pressure = admission.pressure
            self._refusals.press(self._pressure)
        while admission.turns:
            turn = admission.turns.popleft()
            (_log.warning if turn.state == "engaged" else _log.info)(turn.state, why=turn.why)

    def _question(self, target: bytes, told: Mapping[bytes, bytes]) -> _Question:
        what = self._targets.get(target) if self._epoch == self._table.epoch else None
        return _Question(what or self._learn(target), told, self._table.epoch)

    def _refusal(self, what: _Target, origin: bytes | None) -> bytes:
        self._turn = (self._turn + 1) % VARIANTS
        if origin is not None:
            return self._for_page(what, origin)
        if what.epoch != self._refusals.epoch:
            what.epoch = self._refusals.epoch
            what.refusals = self._refusals.made(what.pacing, [], ofrep=what.ofrep)
        return what.refusals[self._turn]

    def _for_page(self, what: _Target, origin: bytes) -> bytes:
        """A refusal that a web page may read, if it may read answers."""
        headers = self._cors.headers(origin)
        return self._refusals.make(what.pacing, headers, self._turn, ofrep=True)

    def _learn(self, target: bytes) -> _Target:
        """What is asked, and of which subject, if there is such a one here."""
        if self._epoch != self._table.epoch:
            self._epoch, self._targets = self._table.epoch, {}
        what = asked(target)
        subject = Subject(*what.place.split("/")) if "/" in what.place else None
        active = self._table.get(subject) if subject else None
        place = UNNAMED if subject and not active else what.place
        found = _Target(what, place, active.snapshot.holdfast.pacing if active else Pacing())
        if len(target) <= TARGET_BYTES_MAX:
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
                self.forgotten += 1
            self._targets[target] = found
        return found

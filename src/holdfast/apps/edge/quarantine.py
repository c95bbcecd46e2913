"""Subjects that are not answered from here now, for the sake of all others.

A generation that a process died on is spared for a while: 503 for those who ask, with when to ask
again, and the others go on. After some deaths it is put away: what it was before answers, or, where
nothing was, nobody is answered until there is another generation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from holdfast.apps.edge.table import Active, Table
from holdfast.apps.observe import logger
from holdfast.core.model import Subject

FOR_GOOD: Final = float("inf")

_log = logger("holdfast.edge.quarantine")


class _Held:
    __slots__ = ("active", "digest", "until_s")

    def __init__(self, digest: str, until_s: float, active: Active | None) -> None:
        self.digest = digest
        self.until_s = until_s
        self.active = active


class Quarantine:
    """Thread-safe. `put_away` is asked to go back to another generation of the subject."""

    def __init__(self, table: Table, put_away: Callable[[Subject, str], None]) -> None:
        self._table = table
        self._put_away = put_away
        self._lock = threading.Lock()
        self._held: dict[Subject, _Held] = {}

    def __contains__(self, subject: Subject) -> bool:
        return subject in self._held

    def __len__(self) -> int:
        return len(self._held)

    def spare(self, subject: Subject, digest: str, for_s: float) -> None:
        """Do not answer from that generation for so long."""
        with self._lock:
            self._hold(subject, digest, time.monotonic() + for_s)
        _log.critical("not answered for a while", subject=str(subject), digest=digest, for_s=for_s)

    def put_away(self, subject: Subject, digest: str) -> None:
        """Never answer from that generation again."""
        with self._lock:
            self._hold(subject, digest, FOR_GOOD)
        _log.critical("put away", subject=str(subject), digest=digest)
        self._put_away(subject, digest)

    def admits(self, active: Active) -> bool:
        """Whether this generation may answer, now that it is activated."""
        with self._lock:
            held = self._held.get(active.subject)
            if held is None or held.digest != active.digest:
                self._held.pop(active.subject, None)
                return True
            held.active = active
            return False

    def look(self) -> None:
        """Let those answer again whose time is over."""
        now_s = time.monotonic()
        with self._lock:
            for subject, held in list(self._held.items()):
                if held.until_s <= now_s:
                    del self._held[subject]
                    if held.active is not None:
                        self._table.put(held.active)

    def _hold(self, subject: Subject, digest: str, until_s: float) -> None:
        active = self._table.get(subject)
        known = self._held.get(subject)
        if active is not None and active.digest == digest:
            self._held[subject] = _Held(digest, until_s, self._table.drop(subject))
        elif known is not None and known.digest == digest:
            known.until_s = max(known.until_s, until_s)
        elif active is None:
            self._held[subject] = _Held(digest, until_s, None)

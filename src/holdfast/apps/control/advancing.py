"""The thread that moves rollouts: it ticks while any is under way, and at once when one is refused.

On a node that does not lead it takes in what consumers tell, and moves nothing.

Queries are asked on threads of their own: a Prometheus that hangs must not keep a bad rollout.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

import msgspec

from holdfast.apps.observe import logger
from holdfast.core.errors import HoldfastError
from holdfast.engine.advance import Advance, Moved
from holdfast.ports import Clock

TICK_S: Final = 1.0
"""Between two looks."""
DUE_MIN_S: Final = 0.05
QUERY_S: Final = 5.0
"""Between two questions of one rollout's query."""
QUERY_OLD_S: Final = 20.0
"""An answer older than this is none."""
THREADS_MAX: Final = 8
"""Questions under way at once: a server that hangs must not keep others from being asked."""
RUNNING_MAX: Final = 1_000
"""Rollouts whose queries are remembered."""

_log = logger("holdfast.rollout")


class Ask(Protocol):
    def ask(self, base_url: str, query: str) -> list[float]: ...

    def close(self) -> None: ...


class _Asked(msgspec.Struct):
    at_s: float = -math.inf
    value: float | None = None
    answered_s: float = -math.inf
    waiting: Future[list[float]] | None = None


class Queries:
    """The newest answers of the plans' queries; `failed` counts questions without one."""

    def __init__(self, make: Callable[[], Ask], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._source: Ask | None = None
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="holdfast-query")
        self._asked: dict[str, _Asked] = {}
        self.failed = 0

    def __call__(self, rollout: str, url: str, query: str) -> float | None:
        """The highest result, none while there is no answer; never waits."""
        if len(self._asked) >= RUNNING_MAX and rollout not in self._asked:
            self._asked.clear()
        asked, now_s = self._asked.setdefault(rollout, _Asked()), self._clock()
        if asked.waiting is not None and asked.waiting.done():
            self._take(asked, asked.waiting, now_s)
        if asked.waiting is None and now_s - asked.at_s >= QUERY_S:
            asked.at_s = now_s
            asked.waiting = self._threads.submit(self._ask, url, query)
        return asked.value if now_s - asked.answered_s <= QUERY_OLD_S else None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._source is not None:
            self._source.close()

    def _take(self, asked: _Asked, answer: Future[list[float]], now_s: float) -> None:
        asked.waiting = None
        try:
            values = answer.result()
        except HoldfastError as error:
            self.failed += 1
            _log.warning("the query has no answer", why=str(error))
            return
        if values:  # an empty answer measures nothing
            asked.value, asked.answered_s = max(values), now_s

    def _ask(self, url: str, query: str) -> list[float]:
        with self._making:
            if self._source is None:
                self._source = self._make()
        return self._source.ask(url, query)


class Advancing:
    """Ticks until it is closed; `wake` ends a wait. `faults` counts ticks that failed.

    `leads()` says whether this node leads at this moment.
    """

    def __init__(
        self,
        advance: Advance,
        clock: Clock,
        tell: Callable[[Moved], None],
        leads: Callable[[], bool],
    ) -> None:
        self._advance = advance
        self._leads = leads
        self._clock = clock
        self._tell = tell
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="holdfast-advance", daemon=True)
        self.faults = 0

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is news: look at once. From any thread."""
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(TICK_S)

    def _run(self) -> None:
        while not self._closed:
            try:
                for moved in self._advance.tick(leads=self._leads()):
                    self._log(moved)
                    self._tell(moved)
            except Exception:  # noqa: BLE001  whatever it is: the next tick looks again
                self.faults += 1
                _log.exception("a look at the rollouts failed")
            self._wake.wait(self._wait_s())
            self._wake.clear()

    def _wait_s(self) -> float:
        due_s = self._advance.due_s()
        if due_s is None:
            return TICK_S
        return min(TICK_S, max(DUE_MIN_S, due_s - self._clock()))

    def _log(self, moved: Moved) -> None:
        if moved.error:
            _log.error(
                "a verdict could not be committed",
                rollout=moved.rollout,
                action=moved.verdict.action,
                why=moved.error,
            )
            return
        alarming = moved.verdict.action in ("roll-back", "hold")
        (_log.warning if alarming else _log.info)(
            moved.verdict.action,
            rollout=moved.rollout,
            revision=moved.revision,
            why=moved.verdict.reason,
        )

"""Admission: whom to refuse when there is more to do than can be done, and when to leave it be.

A pure state machine over one server that answers in batches (`core.admission_queue`). It is told
of requests, answers and batches, with the time; it tells why a request is to be refused, and what
has changed (`turns`). Nothing is refused before a queue stands, or a burst has filled the server
for `BURST` times the wait budget. Then each request is let in as long as it has not waited longer
than its bound, which depends on how important it is and on whether its caller has had his share:

    times the wait budget   important  interactive  bulk  export
    light caller                  128          128    64      32
    with nobody heavy              64           64     4       2
    heavy, light service           64            4     3     1.5
    heavy, heavy service           64            3     2       1

So the least important work of the heaviest callers goes first. What light callers ask for is less
than their share and can't be the overload: they are refused only what would come too late anyway.
Thousands of consumers that share a token and hear of a change at once are one heavy caller; what
they need to activate it waits, since to send them away would only make it late.
`core.admission_trial` says whether all this is of use.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from enum import IntEnum
from itertools import product
from typing import Final

import msgspec

from holdfast.core.admission_limit import Limit
from holdfast.core.admission_queue import INTERVAL_S, Queue
from holdfast.core.admission_shares import Shares
from holdfast.core.admission_trial import FUSE_S, STANDING_S, USEFUL_S, Arms, Trial

WAIT_BUDGET_S: Final = 0.005
BURST: Final = 4.0
SERVED_LEAST: Final = 3
"""A queue is several requests; behind a single slow one it is a stall, past all refusing."""
BUSY_LEAST: Final = 0.5
"""Of a wait, how much answering others must explain; the rest is the machine's."""
CALM_WINDOWS: Final = 5
"""Without a refusal and without a queue: then it lets go."""
CAPACITY: Final = 0.9
"""Of the time of a window, what is there to be shared."""
TURNS_MAX: Final = 64
PRICE_SMOOTHING: Final = 0.1
PRICE_LEAST_S: Final = 1e-6


class Rank(IntEnum):
    """How important a request is, the most important first.

    `IMPORTANT`: health, and what running consumers need to activate. `INTERACTIVE`: somebody waits
    for one answer. `BULK`: many answers at once. `EXPORT`: whole snapshots, reports, the rest.
    """

    IMPORTANT = 0
    INTERACTIVE = 1
    BULK = 2
    EXPORT = 3


BOUNDS: Final = (
    (128.0, 128.0, 64.0, 32.0),
    (64.0, 64.0, 4.0, 2.0),
    (64.0, 4.0, 3.0, 1.5),
    (64.0, 3.0, 2.0, 1.0),
)
PRICES_S: Final = (20e-6, 20e-6, 300e-6, 200e-6)
"""Before any was measured."""


class Why(IntEnum):
    """Why a request is refused: it `WAITED` too long, its caller has had his `SHARE`, or there is
    a `LIMIT` on costly ones at a time."""

    WAITED = 0
    SHARE = 1
    LIMIT = 2


_BULK: Final = Rank.BULK
_WAITED, _SHARE, _LIMIT = Why
# Members of an enumeration by name take longer than what is decided with them.


class Turn(msgspec.Struct, frozen=True):
    """A change of state: `engaged`, `released`, `aside`, `disarmed`, `armed`; and why."""

    state: str
    why: str


class Admission:
    """See the module. Who calls it asks `judge` only of requests that have waited for `alert_s`,
    and may call `rest` instead of `batch` while it is `calm` (armed, with nothing to do) and a
    batch was below `wait_budget_s`.

    `admitted` counts by rank, `refused` by rank and reason, both while it is engaged. `pressure` is
    the work that was asked for in the last window, in times of what can be done.
    """

    __slots__ = (
        "_begun",
        "_bounds_s",
        "_calm_windows",
        "_costly",
        "_paid",
        "_queue",
        "_rank",
        "_refused_before",
        "_shared_s",
        "_useful",
        "_wait_budget_s",
        "_window_s",
        "admitted",
        "alert_s",
        "busy_s",
        "calm",
        "changes",
        "engaged",
        "limit",
        "pressure",
        "prices_s",
        "refusals",
        "refused",
        "served",
        "services",
        "tokens",
        "trial",
        "turns",
        "wait_budget_s",
    )

    def __init__(self, wait_budget_s: float, now_s: float) -> None:
        self._wait_budget_s = wait_budget_s
        self._budget(wait_budget_s)
        self._queue = Queue(now_s)
        self._window_s = self._shared_s = now_s
        self.limit = Limit()
        self.tokens, self.services = Shares(), Shares()
        self.trial = Trial()
        self.prices_s = list(PRICES_S)
        self._paid = [0] * len(PRICES_S)
        self.engaged = False
        self.calm = True
        self.pressure = 0.0
        self.admitted = [0] * len(Rank)
        self.refused = [[0] * len(Why) for _ in Rank]
        self.refusals = 0
        self.changes: Counter[str] = Counter()
        self.turns: deque[Turn] = deque(maxlen=TURNS_MAX)
        self.busy_s = 0.0
        self.served = 0
        self._useful = 0
        self._refused_before = self._calm_windows = self._costly = 0
        self._begun = False
        self._rank: Rank | None = None
        self.alert_s = BURST * wait_budget_s

    @property
    def standing_s(self) -> float:
        """The least time in front of the server over the last interval."""
        return self._queue.standing_s

    # -- requests

    def judge(
        self, now_s: float, waited_s: float, rank: Rank, token: Hashable, service: Hashable
    ) -> Why | None:
        """Why to refuse a request that waited so long behind others of its batch; none: let it in.

        `token` and `service` stand for its caller and for what it asks for.
        """
        if not self._begun:
            self._begin(now_s - waited_s)
        waited_s += self._queue.before_s / 2
        if not self.engaged and not self._must_engage(now_s, waited_s):
            return None
        # What is important is accounted for apart, or a caller's bulk work would cost him that.
        price_s, important = self.prices_s[rank], rank == 0
        level = 0 if self.tokens.tells else 1
        heavy = self.tokens.is_heavy((important, token), price_s)
        if self.services.is_heavy((important, service), price_s):
            level = 3 if heavy else level
        elif heavy:
            level = 2
        why = None
        if waited_s > self._bounds_s[level][rank]:
            why = _SHARE if level > 1 else _WAITED
        elif rank >= _BULK and level > 1 and self._costly >= self.limit.most:
            why = _LIMIT
        if why is not None:
            self.refused[rank][why] += 1
            self.refusals += 1
            self._rank = None
            return why
        self._rank = rank
        self._costly += rank >= _BULK
        self.admitted[rank] += 1
        return None

    def again(self, times: int, why: Why, rank: Rank, token: Hashable, service: Hashable) -> None:
        """So many more were refused in this batch for the same reason as one that was judged.

        Who asks the same in the same batch need not be judged: within a batch waits grow, callers
        have had more, and bounds stand. (In the first window of all, what a caller had is held
        against what all had, which may grow more; that lasts a batch.)
        """
        cost_s, important = times * self.prices_s[rank], rank == 0
        self.tokens.is_heavy((important, token), cost_s, times)
        self.services.is_heavy((important, service), cost_s, times)
        self.refused[rank][why] += times
        self.refusals += times

    def _must_engage(self, now_s: float, waited_s: float) -> bool:
        """Whether so long a wait is a queue that can't be left to itself."""
        queued = self.served >= SERVED_LEAST and self.busy_s > BUSY_LEAST * waited_s
        if not queued or waited_s < self.alert_s:
            return False
        if self.trial.arms is Arms.OFF:
            self._turn("armed", "a queue without defence")
        self.trial.burn()
        self._engage(now_s, f"a queue of {waited_s * 1000:.0f} ms")
        return True

    def done(self, took_s: float, requests: int = 1) -> None:
        """The request that was let in last was answered, at this price; or several, that were never
        judged."""
        self.busy_s += took_s
        self.served += requests
        rank = self._rank
        if rank is not None:
            self._paid[rank] += 1
            share = max(PRICE_SMOOTHING, 1 / self._paid[rank])
            self.prices_s[rank] += (max(took_s, PRICE_LEAST_S) - self.prices_s[rank]) * share

    # -- batches

    def rest(self) -> None:
        """A short batch is over, and nothing was to be decided."""
        self._queue.rest()
        self.busy_s = 0.0
        self.served = 0

    def batch(self, now_s: float, length_s: float) -> None:
        """A batch is over that took so long."""
        if not self._begun:
            self._begin(now_s - length_s)
        if self._queue.before_s / 2 + length_s <= USEFUL_S:
            self._useful += self.served
        if self.engaged:
            least = self.wait_budget_s / self.prices_s[Rank.BULK]
            self.limit.learn(length_s, self._costly, least)
        if self._queue.end(now_s, length_s):
            self._window(now_s)
        self._begun, self._rank = False, None
        self.busy_s = 0.0
        self.served = self._costly = 0

    def _begin(self, start_s: float) -> None:
        self._begun = True
        if self._queue.begin(start_s):
            self._window_s, self._useful = start_s, 0

    def _window(self, now_s: float) -> None:
        """An interval is over: does a queue stand, and is it of use to refuse?"""
        length_s, self._window_s = now_s - self._window_s, now_s
        useful_per_s, self._useful = self._useful / length_s, 0
        before, engaged = self.trial.arms, self.engaged
        standing = self._queue.last_s > STANDING_S
        refusing = self.refusals > self._refused_before
        self._refused_before = self.refusals
        arms = self.trial.window(now_s, useful_per_s, refusing=refusing, standing=standing)
        eased = self.trial.is_eased(now_s)
        self._budget(max(self._wait_budget_s, WAIT_BUDGET_S if eased else 0.0))
        if engaged and now_s - self._shared_s > INTERVAL_S / 2:
            capacity_s = CAPACITY * (now_s - self._shared_s)
            self.pressure = self.tokens.turn(capacity_s) / capacity_s
            self.services.turn(capacity_s)
            self._shared_s = now_s
        if arms is not before:
            self._rearm(now_s, before, arms, useful_per_s)
        elif arms is Arms.ON and self._queue.standing_s > self.wait_budget_s:
            self._engage(now_s, f"a queue stands for {self._queue.standing_s * 1000:.1f} ms")
        elif engaged:
            self._ease(refusing=refusing)
        elif arms is Arms.ON:
            self._stand_by()

    def _budget(self, wait_budget_s: float) -> None:
        """From now on that is the budget, and bounds are what follows from it."""
        self.wait_budget_s = wait_budget_s
        self._bounds_s = [[times * wait_budget_s for times in level] for level in BOUNDS]
        for level, rank in product(range(2), range(_BULK)):
            # No setting may be so strict that what matters and hardly costs anything goes first.
            usual_s = BOUNDS[level][rank] * WAIT_BUDGET_S
            self._bounds_s[level][rank] = max(self._bounds_s[level][rank], usual_s)

    def _stand_by(self) -> None:
        """Armed, with nothing to do."""
        self.engaged, self.calm = False, True
        self.alert_s = BURST * self.wait_budget_s

    def _rearm(self, now_s: float, before: Arms, arms: Arms, useful_per_s: float) -> None:
        said = f"{useful_per_s:.0f} useful answers/s"
        if arms is Arms.ON and before is Arms.ASIDE:
            self._engage(now_s, f"{said} without, less than with")
        elif arms is Arms.ON:
            self._stand_by()
            self._turn("armed", "its time without defence is over")
        else:
            tried = arms is Arms.ASIDE
            self.engaged = self.calm = False
            self.alert_s = FUSE_S if tried else BURST * WAIT_BUDGET_S
            self._turn(
                "aside" if tried else "disarmed",
                f"{said} with; a trial without" if tried else f"{said} without, no less than with",
            )

    def _engage(self, now_s: float, why: str) -> None:
        self._calm_windows = 0
        self.calm, self.alert_s = False, -1.0
        if not self.engaged:
            self.engaged = True
            self._shared_s = now_s
            self._turn("engaged", why)

    def _ease(self, *, refusing: bool) -> None:
        """No queue stands. Is that so without refusing anything?"""
        self._calm_windows = 0 if refusing else self._calm_windows + 1
        if self._calm_windows >= CALM_WINDOWS:
            self._stand_by()
            self.tokens.clear()
            self.services.clear()
            self._turn("released", "nothing left to refuse")

    def _turn(self, state: str, why: str) -> None:
        self.changes[state] += 1
        self.turns.append(Turn(state, why))

"""An edge goes on asking itself while it serves: a few probes a second, over all that it answers.

The rehearsal (`holdfast.apps.edge.rehearsal`) asks before anybody else may. What was right then may
be wrong later: functions are made anew for contexts that come, memories go bad. Nothing here asks
anybody outside: an edge that has proven its answers is ready whatever is dead behind it.

It looks at what failed for callers, too. A generation that fails where the one before it answers is
what `holdfast.core.proof` refuses when probes show it; here callers do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from holdfast.apps.edge.rehearsal import Stage, probes_of
from holdfast.apps.edge.routes import Parts
from holdfast.apps.edge.table import Active, Table
from holdfast.core.evaluate import Evaluator
from holdfast.core.model import Subject
from holdfast.core.probes import Carried

PROBES_PER_LOOK: Final = 5
"""There is a look every second."""
LOOK_S: Final = 0.002
"""Of computing in one look; probes that are left over wait for the next."""
FAILED_MIN: Final = 20
"""Failed evaluations of a generation before they say anything about it,"""
FAILED_SHARE: Final = 0.1
"""and their share of all: contexts may be anything, and some are made to fail."""


class Rounds:
    """`began` is for the follower's thread, `look` and `failing` for one other."""

    def __init__(self, parts: Parts, table: Table, probation_s: float) -> None:
        self._table = table
        self._probation_s = probation_s
        self._stage = Stage(parts)
        self._walk = self._all()
        self._fresh: dict[Subject, tuple[Active, Evaluator, int]] = {}
        self.asked = 0

    def began(self, active: Active, before: Active | None) -> None:
        """This generation answers from now on, instead of that one."""
        if before is not None and before.digest != active.digest:
            asked = before.sampler.asked
            self._fresh[active.subject] = (active, before.evaluator, asked)

    def look(self) -> str:
        """Ask the next few probes; what a caller would get wrong, empty when nothing."""
        began_s = time.thread_time()
        for _ in range(PROBES_PER_LOOK):
            found = next(self._walk)
            if found is None or time.thread_time() - began_s > LOOK_S:
                return ""
            active, key, probe = found
            self.asked += 1
            fault = self._stage.ask(active.subject, key, probe)
            if fault and self._table.get(active.subject) is active:
                return fault
        return ""

    def failing(self, now_s: float) -> Iterator[tuple[Active, str]]:
        """Generations on probation that fail where the one before answers, and a setting of each.

        `now_s` is unix seconds.
        """
        for subject, (active, before, asked) in list(self._fresh.items()):
            if now_s - active.activated_s > self._probation_s:
                self._fresh.pop(subject, None)
                continue
            new = active.evaluator
            least = max(FAILED_MIN, FAILED_SHARE * (active.sampler.asked - asked))
            if new.failed >= least and (key := regressed(new, before)):
                self._fresh.pop(subject, None)
                yield active, key

    def _all(self) -> Iterator[tuple[Active, str, Carried] | None]:
        while True:
            for active in self._table:
                self._stage.put(active)
                for _, key, probe in probes_of(active, None):
                    yield active, key, probe
                    if self._table.get(active.subject) is not active:
                        break
            yield None


def regressed(new: Evaluator, before: Evaluator) -> str:
    """A setting that failed in contexts in all of which the generation before answers."""
    failures = tuple(new.failing)
    for key, context in failures:
        if key not in before or before.evaluate(key, dict(context)).error_code is not None:
            return ""
    return failures[-1][0] if failures else ""

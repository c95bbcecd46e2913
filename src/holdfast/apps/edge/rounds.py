"""An edge goes on asking itself while it serves: a few probes a second, over all that it answers.

The rehearsal (`holdfast.apps.edge.rehearsal`) asks before anybody else may. What was right then may
be wrong later: functions are made anew for contexts that come, memories go bad. Nothing here asks
anybody outside: an edge that has proven its answers is ready whatever is dead behind it.

It looks at what failed for callers, too. A generation that fails where the one before it answers is
what `holdfast.core.proof` refuses when probes show it; here callers do. Who asks after a change may
choose contexts that fail, so that those only raise the question: what was asked before decides.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

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
WITNESSES_MIN: Final = 16
"""Contexts from before the generation without which nothing is said about it,"""
WITNESSED_SHARE: Final = 0.1
"""and the share of them in which a setting fails that sends it back."""
JUDGED_S: Final = 0.1
"""Of computing, for one setting in all these contexts; those that are left over say nothing."""


class _Fresh(msgspec.Struct):
    """A generation on probation: `before` answered until it came, `asked` times.

    `witnesses` are contexts of that time; `judged` settings were tried in them, one in each look.
    """

    active: Active
    before: Evaluator
    asked: int
    witnesses: list[dict[str, Any]]
    judged: set[str] = set()


class Rounds:
    """`began` is for the follower's thread, `look` and `failing` for one other."""

    def __init__(self, parts: Parts, table: Table, probation_s: float) -> None:
        self._table = table
        self._probation_s = probation_s
        self._stage = Stage(parts)
        self._walk = self._all()
        self._fresh: dict[Subject, _Fresh] = {}
        self.asked = 0

    def began(self, active: Active, before: Active | None) -> None:
        """This generation is about to answer, instead of that one."""
        if before is not None and before.digest != active.digest:
            sampler = before.sampler
            self._fresh[active.subject] = _Fresh(
                active, before.evaluator, sampler.asked, sampler.witnesses()
            )

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
        for subject, fresh in list(self._fresh.items()):
            active, new = fresh.active, fresh.active.evaluator
            if now_s - active.activated_s > self._probation_s:
                self._fresh.pop(subject, None)
                continue
            least = max(FAILED_MIN, FAILED_SHARE * (active.sampler.asked - fresh.asked))
            suspects = regressed(new, fresh.before) - fresh.judged if new.failed >= least else ()
            for key in sorted(suspects)[:1]:
                fresh.judged.add(key)
                if fails(key, new, fresh.before, fresh.witnesses):
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


def regressed(new: Evaluator, before: Evaluator) -> set[str]:
    """Settings that failed of late in contexts in which the generation before answers."""
    return {key for key, context in tuple(new.failing) if _answers(before, key, context)}


def fails(
    key: str, new: Evaluator, before: Evaluator, witnesses: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether the setting fails, and did not before, in a share of these contexts that counts."""
    asked = found = 0
    until_s = time.thread_time() + JUDGED_S
    for context in witnesses:
        if time.thread_time() > until_s:
            break
        asked += 1
        found += not _answers(new, key, context) and _answers(before, key, context)
    return asked >= WITNESSES_MIN and found >= WITNESSED_SHARE * asked


def _answers(evaluator: Evaluator, key: str, context: Mapping[str, Any]) -> bool:
    return key in evaluator and evaluator.evaluate(key, dict(context)).error_code is None

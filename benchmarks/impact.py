"""Impact of a change of 20 settings over 100,000 contexts really seen, in one process.

The change touches every kind of rule: lists, splits by an attribute and by the targetingKey,
versions, segments. Each context is a distinct one, so that nothing is saved by counting alike ones
twice: the hardest case.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from holdfast.core.authoring import SourceFile, plan
from holdfast.core.fold import after
from holdfast.core.impact import Impact, impact
from holdfast.core.model import Edit, Environment, PutEnvironment, Subject
from holdfast.core.reports import Sample
from holdfast.core.state import EMPTY, State

SERVICE = "calling"
WHERE = Subject("production", SERVICE)
CONTEXTS = 100_000
CHANGED = 20
SETTINGS = 1_000
ROUNDS = 3


def document(changed: int = 0) -> str:
    """A service of `SETTINGS` settings; the first `changed` of them are edited."""
    lines = [
        f"service: {SERVICE}", "owners: [calling]",
        "attributes: {tenant: string, ring: string, version: string, user: string}",
        "segments:", "  pilot: {by: tenant, members: [t1, t2, t3, t4, t5]}", "settings:",
    ]  # fmt: skip
    rules = (
        'when: tenant in ["t1", "t2", "t{n}"], serve: b',
        'when: tenant in segment("pilot") && ring == "ring{m}", serve: b',
        'when: semver(version) >= semver("1.{m}.0"), serve: b',
        "split: {{by: user, weights: {{a: {w}, b: 10}}}}",
        "split: {{weights: {{a: {w}, b: 10}}}}",
    )
    for number in range(SETTINGS):
        shift = 7 if number < changed else 0
        rule = rules[number % len(rules)].format(
            n=number + shift, m=(number + shift) % 4, w=90 - shift
        )
        rule = rule.replace("when: ", "when: '", 1).replace(", serve", "', serve")
        lines += [
            f"  setting-{number}:", "    type: string", "    variants: {a: a, b: b}",
            "    environments:", "      production:", "        default: a",
            f"        rules: [{{{rule}}}]",
        ]  # fmt: skip
    return "\n".join(lines)


def state_of(state: State, text: str) -> State:
    planned = plan([SourceFile(f"{SERVICE}.yaml", text.encode())], state.services)
    assert not planned.problems, planned.problems
    edits: tuple[Edit, ...] = planned.edits
    if not state.environments:
        edits = (PutEnvironment(WHERE.environment, Environment()), *edits)
    return after(state, edits)


def contexts(count: int) -> list[Sample]:
    chance = random.Random(1)
    made = []
    for number in range(count):
        context: dict[str, Any] = {
            "targetingKey": f"{number:016x}",
            "user": f"user-{chance.randrange(count)}",
            "tenant": f"t{chance.randrange(2_000)}",
            "ring": f"ring{chance.randrange(5)}",
            "version": f"1.{chance.randrange(9)}.{chance.randrange(20)}",
        }
        made.append(Sample(context, chance.randrange(1, 9)))
    return made


def measure() -> tuple[float, Impact]:
    """Seconds of the best round, and what it found."""
    old = state_of(EMPTY, document())
    new = state_of(old, document(CHANGED))
    samples = {WHERE: contexts(CONTEXTS)}
    best, found = float("inf"), Impact()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = impact(old, new, samples, tables=lambda _: None, now_s=0.0)
        best = min(best, time.perf_counter() - began)
    return best, found


def main() -> None:
    seconds, found = measure()
    (one,) = found.subjects
    print(f"{CONTEXTS:,} contexts, {len(one.settings) + one.unmoved} settings: {seconds:.2f} s")
    print(f"{one.moved.percent:.2f} % of {one.seen.requests:,} requests, {one.moved.users:,} users")


if __name__ == "__main__":
    main()

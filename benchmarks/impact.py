"""Impact of a change of 20 settings over 100,000 contexts really seen, in one process.

The change touches every kind of rule: lists, splits by an attribute and by the targetingKey,
versions, segments. Each context is a distinct one, so that nothing is saved by counting alike ones
twice: the hardest case.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
import timeit
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from holdfast.core.authoring import SourceFile, plan
from holdfast.core.fold import after
from holdfast.core.impact import Impact, impact
from holdfast.core.model import Edit, Environment, PutEnvironment, Subject
from holdfast.core.reports import Sample
from holdfast.core.sampling import Sampler
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


def measure(samples: dict[Subject, list[Sample]]) -> tuple[list[float], Impact]:
    """CPU seconds of each round (it is one thread), and what the change does."""
    old = state_of(EMPTY, document())
    new = state_of(old, document(CHANGED))
    rounds, found = [], Impact()
    for _ in range(ROUNDS):
        began = time.process_time()
        found = impact(old, new, samples, tables=lambda _: None, now_s=0.0)
        rounds.append(time.process_time() - began)
    return rounds, found


def offer_ns() -> float:
    """What it costs to offer a request's context, less a call that does nothing."""
    sampler = Sampler(WHERE, random.Random(1).random)
    sampler.allow(("tenant", "ring"))
    context, number = contexts(1)[0].context, 200_000
    pairs = []
    for _ in range(15):
        took = [
            timeit.timeit("call(c)", globals={"call": call, "c": context}, number=number,
                          timer=time.process_time)
            for call in (sampler.offer, _nothing)
        ]  # fmt: skip
        pairs.append(took[0] - took[1])
    return statistics.median(pairs) / number * 1e9


def _nothing(_: Any) -> None:
    """A call, and no more."""


def main() -> None:
    rounds, found = measure({WHERE: contexts(CONTEXTS)})
    (one,) = found.subjects
    figures = {
        "contexts": CONTEXTS,
        "settings": len(one.settings) + one.unmoved,
        "of_settings": SETTINGS,
        "cpu_s": statistics.median(rounds),
        "rounds": rounds,
        "moved_percent": one.moved.percent,
        "offer_ns": offer_ns(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

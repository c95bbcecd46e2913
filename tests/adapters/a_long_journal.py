"""A journal of any length, made as a node makes it: each digest is of a snapshot that was built.

Ten services of one setting each, so that an entry builds one small snapshot and 100,000 entries
take about a minute.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from holdfast.core.build import Fragments
from holdfast.core.history import seal
from holdfast.core.lineage import Standing, step, unrecorded
from holdfast.core.model import (
    Edit,
    Entry,
    Environment,
    Head,
    PutEnvironment,
    PutService,
    PutSetting,
    Rule,
    Service,
    Setting,
    Subject,
    Targeting,
)
from holdfast.core.replay import evaluator_of
from holdfast.core.snapshot import decode
from holdfast.ports import Imprint, Journal, Stores

SERVICES = 10
BATCH = 128


def edits_of(number: int) -> tuple[Edit, ...]:
    """Those of entry `number`, from 1."""
    if number == 1:
        services = (PutService(f"service-{each}", Service()) for each in range(SERVICES))
        return (PutEnvironment("production", Environment()), *services)
    tenant = f"tenant-{number % 7}"
    rule = Rule(
        when=f'tenant == "{tenant}"', logic={"==": [{"var": "tenant"}, tenant]}, serve="many"
    )
    where = {"production": Targeting("few", rules=(rule,))}
    setting = Setting("integer", {"few": number, "many": -number}, where)
    return (PutSetting(f"service-{number % SERVICES}", "setting", setting),)


def grow(stores: Stores, entries: int) -> None:
    """Let a new journal grow to so many entries; the newest digests go on record beside it."""
    standing, fragments, waiting = Standing(), Fragments(), list[Entry]()
    for number in range(1, entries + 1):
        recorded = unrecorded(standing)
        head = standing.state.head
        entry = seal(head, number * 1_000, "ann", "a change", edits_of(number), recorded)
        standing = step(standing, entry, fragments).standing
        waiting.append(entry)
        if len(waiting) == BATCH or number == entries:
            stores.journal.append_all(waiting)
            waiting = []
    stores.digests.put(
        [
            Imprint(subject, one.revision, one.hash, one.digest, "a build")
            for subject, one in sorted(standing.lineages.items())
        ]
    )


class Taken(msgspec.Struct):
    """What a whole replay of a journal gives."""

    head: Head
    digests: dict[tuple[Subject, int], str]
    answers: list[object]


def taken(journal: Journal, evaluations: int, seed: int) -> Taken:
    """Every digest, and as many evaluations drawn over the whole of history."""
    chance, fragments = random.Random(seed), Fragments()
    last = journal.head().revision
    snapshots = min(last - 1, 200)
    asked = set(chance.sample(range(2, last + 1), snapshots))
    found = Taken(Head(0, ""), {}, [])
    standing = Standing()
    for entry in journal.read():
        made = step(standing, entry, fragments)
        standing = made.standing
        for subject in made.bodies:
            lineage = standing.lineages[subject]
            found.digests[subject, lineage.revision] = lineage.digest
        if entry.revision in asked:
            for body in made.bodies.values():
                found.answers += answers(body, evaluations // snapshots + 1, chance)
    found.head = standing.state.head
    return found


def answers(body: bytes, count: int, chance: random.Random) -> Iterator[object]:
    evaluator = evaluator_of(decode(body), {})
    for _ in range(count):
        context = {"targetingKey": f"u{chance.random()}", "tenant": f"tenant-{chance.randrange(8)}"}
        for key in evaluator.keys():  # noqa: SIM118 - it is no mapping
            outcome = evaluator.evaluate(key, context)
            yield (outcome.value, outcome.variant, str(outcome.reason))

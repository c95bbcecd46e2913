"""What an honest publisher made, nobody ever refuses; and what didn't move, answers as before.

Random histories through the real write door, the shelf, bundles and deltas, into consumers that
skip revisions as they please. `tests.end_to_end.honest` has the parts.
"""

from __future__ import annotations

import random

import pytest
from tests.end_to_end.honest import FREE_TO_DELETE, Author, Consumer, Keys, Node, foundation

from holdfast.core import limits, lineage
from holdfast.core.build import Fragments
from holdfast.core.lineage import Standing, decode_standing, encode_standing, rebuild
from holdfast.core.model import (
    DeleteService,
    DeleteSetting,
    Environment,
    PutEnvironment,
    PutRoot,
    PutService,
    PutSetting,
    Service,
    Setting,
    Subject,
    Targeting,
)

CONSUMERS = 4
LONG_LIST = 5
SEEDS = range(6)
CHANGES = 40


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a short history passes: what is beyond them must be right too."""
    monkeypatch.setattr(limits, "REMOVED_MAX", 2)
    monkeypatch.setattr(limits, "INLINE_MEMBERS_MAX", LONG_LIST)
    monkeypatch.setattr(limits, "SEGMENTS_MAX", 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_honest_history_is_refused_or_changes_an_answer_unexplained(seed: int) -> None:
    play(seed, CHANGES)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_no_honest_history_is_refused_or_changes_an_answer_unexplained_long(seed: int) -> None:
    play(seed, 200)


def test_a_setting_reached_by_a_newer_way_and_then_by_the_old_one_again_is_not_refused() -> None:
    """Its revision goes back to that of the old way, and its source stayed where it was."""
    keys = Keys()
    node, consumer = Node(keys), Consumer(keys.roots)
    assert node.commit(*foundation(keys))
    for service, includes in (
        ("mail", ("base",)),
        ("shared", ()),
        ("shop", ("shared", "mail")),
        ("shared", ("base",)),
        ("shop", ("mail",)),
    ):
        assert node.commit(PutService(service, Service(includes=includes)))
        look_around(consumer, node, random.Random(0), 1.0)


def test_a_key_that_two_services_removed_went_with_the_later_removal() -> None:
    """The consumer sees neither removal, and the service that included them was made anew."""
    keys = Keys()
    node, consumer = Node(keys), Consumer(keys.roots)
    subject = Subject("production", "shop")
    free = Environment(policy=FREE_TO_DELETE)
    to = Setting("boolean", {"on": True}, {"production": Targeting("on")})
    for edits in (
        [PutRoot(1, keys.chain[0]), PutEnvironment("production", free)],
        [PutService("mail", Service()), PutSetting("mail", "x", to)],
        [DeleteSetting("mail", "x")],
        [PutService("base", Service(includes=("mail",))), PutSetting("base", "x", to)],
        [PutService("shop", Service(includes=("base",)))],
    ):
        assert node.commit(*edits)
    consumer.look(node, subject, delta=False)
    assert node.commit(DeleteSetting("base", "x"))
    assert node.commit(DeleteService("shop"))
    assert node.commit(PutService("shop", Service()), PutSetting("shop", "y", to))
    consumer.look(node, subject, delta=False)
    assert "x" not in consumer.held[subject].evaluator


def play(seed: int, changes: int) -> None:
    chance = random.Random(seed)
    keys = Keys()
    node, author = Node(keys), Author(chance, LONG_LIST)
    consumers = [Consumer(keys.roots) for _ in range(CONSUMERS)]
    patience = [chance.uniform(0.05, 1) for _ in consumers]
    digests: dict[tuple[Subject, int], str] = {}
    assert node.commit(*foundation(keys))
    committed = 0
    for _ in range(changes):
        committed += node.commit(*author.change(node.view.state))
        if chance.random() < 0.05:
            rotate(node, keys, chance)
        for subject, made in node.view.standing.lineages.items():
            assert digests.setdefault((subject, made.revision), made.digest) == made.digest
        for consumer, often in zip(consumers, patience, strict=True):
            look_around(consumer, node, chance, often)
    assert committed > changes / 10
    for consumer in [*consumers, Consumer(keys.roots)]:
        look_around(consumer, node, chance, 1.0)
    check_replays(node, keys, chance)


def rotate(node: Node, keys: Keys, chance: random.Random) -> None:
    if chance.random() < 0.3:
        assert node.commit(keys.rotate_root())
    else:
        assert node.commit(keys.rotate(revoke=chance.random() < 0.5))


def look_around(consumer: Consumer, node: Node, chance: random.Random, often: float) -> None:
    for subject in sorted(node.view.standing.live):
        if chance.random() < often:
            consumer.look(node, subject, delta=chance.random() < 0.5)


def check_replays(node: Node, keys: Keys, chance: random.Random) -> None:
    """From zero, from a checkpoint anywhere, step by step or after a restart: the same bytes."""
    kept = chance.randrange(node.journal.head().revision)
    standing, fragments = Standing(), Fragments()
    for entry in node.journal.read(0):
        standing = lineage.step(standing, entry, fragments).standing
        if entry.revision == kept:
            standing, fragments = decode_standing(encode_standing(standing)), Fragments()
    assert encode_standing(standing) == encode_standing(node.view.standing)
    again = Node(keys, node.journal, node.blobs)
    assert encode_standing(again.view.standing) == encode_standing(standing)
    for subject in standing.live:
        now, then = node.shelf.newest(subject), again.shelf.newest(subject)
        assert now is not None
        assert then is not None
        assert rebuild(standing, subject) == now.body == then.body
        assert now.bundle == then.bundle

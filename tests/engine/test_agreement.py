"""A build that makes other bytes than were published: found, and kept from doing harm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from a_node import Node, setting
from departing import plant_a_defect

from holdfast.adapters.memory import MemoryDigests, MemoryJournal
from holdfast.core.errors import Unavailable
from holdfast.core.history import seal
from holdfast.core.model import (
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
    Service,
    Subject,
)
from holdfast.core.reproduce import Departure, NotReproducible, outline
from holdfast.core.wire import digest
from holdfast.engine.agreement import Agreement
from holdfast.ports import Digests, Imprint

SHOP = (
    PutEnvironment("production", Environment()),
    PutService("shop", Service()),
    PutSetting("shop", "tiles", setting(9)),
    PutSetting("shop", "other", setting(9)),
)
SUBJECT = Subject("production", "shop")


class Forgetful(MemoryJournal):
    """Keeps no checkpoints, as after their files were deleted."""

    def checkpoint(self) -> None:
        return None


def test_every_entry_records_the_digests_of_the_one_before(node: Node) -> None:
    node.commit(*SHOP)
    first = node.view.standing.lineages
    node.commit(PutSetting("shop", "tiles", setting(10)))
    node.commit(PutService("shop", Service(owners=("ann",))))
    entries = [*node.journal.read()]
    assert entries[0].published == {}
    assert entries[1].published == {str(one): f"1:{each.digest}" for one, each in first.items()}
    second = node.view.standing.lineages[SUBJECT]
    assert entries[2].published == {str(SUBJECT): f"2:{second.digest}"}
    assert node.view.standing.unrecorded <= node.view.standing.live


def published(digests: Digests | None, *, entries: int = 1) -> Node:
    """A node of the right build, with some entries."""
    node = Node(Forgetful(), agreement=Agreement(digests, "holdfast/right"))
    node.commit(*SHOP)
    for value in range(1, entries):
        node.commit(PutSetting("shop", "other", setting(value)))
    return node


def refused(node: Node) -> tuple[Departure, ...]:
    """All that a departed node has to refuse; its departures."""
    made = node.shelf.made
    with pytest.raises(NotReproducible):
        node.shelf.newest(SUBJECT)
    with pytest.raises(NotReproducible):
        node.shelf.warm()
    with pytest.raises(NotReproducible):
        node.commit(PutSetting("shop", "other", setting(77)))
    assert node.shelf.made == made
    return node.view.agreement.departures


def test_a_build_with_a_defect_is_found_at_its_start_by_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests = MemoryDigests()
    right = published(digests)
    bundle = right.shelf.newest(SUBJECT)
    plant_a_defect(monkeypatch)
    other = Node(right.journal, agreement=Agreement(digests, "holdfast/wrong"))
    (departure,) = refused(other)
    assert (departure.environment, departure.service, departure.revision) == (*astuple(), 1)
    assert departure.settings == ("tiles",)
    assert departure.by == "holdfast/right"
    assert "tiles" in str(departure)
    assert right.shelf.newest(SUBJECT) is bundle
    assert right.journal.head().revision == 1


class Unreadable(MemoryDigests):
    """A record that a failing disk does not give back."""

    def all(self) -> Sequence[Imprint]:
        raise Unavailable("digests.db: disk I/O error")


def test_a_record_that_can_t_be_read_keeps_no_build_from_departing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = published(digests := Unreadable())
    plant_a_defect(monkeypatch)
    (departure,) = refused(Node(right.journal, agreement=Agreement(digests)))
    assert departure.settings == (), "what differs is not known then"


def test_without_a_record_it_is_found_by_what_the_journal_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = published(None, entries=2)
    plant_a_defect(monkeypatch)
    (departure,) = refused(Node(right.journal))
    assert (departure.revision, departure.settings) == (1, ())


def test_with_a_checkpoint_it_is_found_when_its_bundles_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Node(agreement=Agreement(digests := MemoryDigests(), "holdfast/right"))
    right.commit(*SHOP)
    right.view.save_checkpoint()
    plant_a_defect(monkeypatch)
    other = Node(right.journal, agreement=Agreement(digests))
    assert other.view.replayed == 0
    with pytest.raises(NotReproducible):
        other.shelf.warm()
    assert other.shelf.made == 0, "nothing was signed, of other subjects neither"
    assert refused(other)[0].settings == ("tiles",)


def test_with_a_checkpoint_its_first_change_is_refused_before_any_bundle_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Node(agreement=Agreement(digests := MemoryDigests()))
    right.commit(*SHOP)
    right.view.save_checkpoint()
    plant_a_defect(monkeypatch)
    other = Node(right.journal, agreement=Agreement(digests))
    with pytest.raises(NotReproducible):
        other.commit(PutService("mail", Service()), PutSetting("mail", "tiles", setting(1)))
    assert right.journal.head().revision == 1
    assert {one.subject.service for one in digests.all()} == {"_access", "shop"}


def test_a_node_that_follows_another_build_s_change_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A defect that shows in new settings only: who was first is believed, the other stops."""
    digests, journal = MemoryDigests(), MemoryJournal()
    right = Node(journal, agreement=Agreement(digests, "holdfast/right"))
    follower = Node(journal, agreement=Agreement(digests, "holdfast/wrong"))
    told: list[Sequence[Departure]] = []
    follower.view.agreement.subscribe(told.append)
    right.commit(*SHOP)
    plant_a_defect(monkeypatch)
    with pytest.raises(NotReproducible):
        follower.view.catch_up()
    assert len(told) == 1
    assert follower.view.state.head.revision == 0
    refused(follower)


def test_who_died_between_the_record_and_the_journal_leaves_nothing_behind() -> None:
    digests = MemoryDigests()
    node = published(digests)
    edit = PutSetting("shop", "tiles", setting(10))
    head = node.view.state.head
    with node.view.exclusive():
        node.view.claim(node.view.prepare(seal(head, 5, "ann", "never appended", [edit])))
    again = Node(node.journal, agreement=Agreement(digests))
    again.commit(edit)
    assert again.view.agreement.departures == ()
    again.shelf.warm()


def test_a_lost_record_is_written_again_from_what_stands() -> None:
    node = published(MemoryDigests(), entries=3)
    fresh = MemoryDigests()
    Node(node.journal, agreement=Agreement(fresh))
    newest = {one: each.digest for one, each in node.view.standing.lineages.items()}
    assert {one.subject: one.digest for one in fresh.all()} == newest


def test_unprotected_the_wrong_bytes_are_signed_and_handed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The damage: without a record, and without digests in the entries, nobody notices."""
    right = Node(Forgetful())
    for each in SHOP:
        head = right.journal.head()
        right.journal.append(seal(head, head.revision, "ann", "", [each]))
    right.view.catch_up()
    good = right.shelf.newest(SUBJECT)
    plant_a_defect(monkeypatch)
    other = Node(right.journal)
    other.shelf.warm()
    bad = other.shelf.newest(SUBJECT)
    assert good
    assert bad
    assert (bad.revision, bad.digest) == (good.revision, digest(bad.body))
    assert bad.digest != good.digest
    assert other.commit(PutSetting("shop", "other", setting(3))).revision == len(SHOP) + 1


def test_an_outline_tells_settings_and_sections_apart(node: Node) -> None:
    node.commit(*SHOP)
    published = node.shelf.newest(SUBJECT)
    assert published
    made: dict[str, Any] = msgspec.json.decode(outline(published.body))
    assert made["settings"].keys() == {"other", "tiles"}
    assert {"holdfast.probes", "holdfast.removed", "metadata"} <= made["parts"].keys()


def astuple() -> tuple[str, str]:
    return SUBJECT.environment, SUBJECT.service

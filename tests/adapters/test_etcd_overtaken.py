"""Records in etcd that lie in parts, replaced or deleted while they are read: that is no damage."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.adapters.etcd_writing import grow

from holdfast.adapters.etcd_address import parse_address
from holdfast.adapters.etcd_blobs import EtcdBlobs
from holdfast.adapters.etcd_digests import EtcdDigests
from holdfast.adapters.etcd_journal import EtcdJournal
from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_proposals import EtcdProposals
from holdfast.adapters.etcd_records import PARTS, READS_MAX
from holdfast.adapters.etcd_store import EtcdStore
from holdfast.adapters.etcd_wire import KeyValue, Transaction
from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Checkpoint, Imprint, Proposal

BODY = bytes(range(256)) * 12_000
OUTLINE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1_000))
"""Longer than what stands with its record, however it is compressed."""


class Overtaken(EtcdLine):
    """A node's line to etcd, on which others act just before parts are read.

    `changing` acts before each change, and is told its number, from 1 on.
    """

    meanwhile: Callable[[], object] | None = None
    changing: Callable[[int], object] | None = None
    changes = 0

    def change(self, *steps: Any, **more: Any) -> Transaction:
        self.changes += 1
        if self.changing is not None:
            self.changing(self.changes)
        return super().change(*steps, **more)

    def between(self, key: bytes, end: bytes, **more: object) -> Iterator[KeyValue]:
        if self.meanwhile is not None and key.startswith(self.key(PARTS)):
            self.meanwhile()
        return super().between(key, end, **more)  # type: ignore[arg-type]

    def once(self, act: Callable[[], object]) -> None:
        def meanwhile() -> None:
            self.meanwhile = None
            act()

        self.meanwhile = meanwhile


@pytest.fixture
def other(etcd_url: str) -> Iterator[EtcdStore]:
    with contextlib.closing(EtcdStore(etcd_url)) as store:
        yield store


@pytest.fixture
def line(etcd_url: str) -> Iterator[Overtaken]:
    with contextlib.closing(Overtaken(parse_address(etcd_url))) as line:
        yield line


@pytest.fixture
def third(etcd_url: str) -> Iterator[Overtaken]:
    with contextlib.closing(Overtaken(parse_address(etcd_url))) as line:
        yield line


def imprint(revision: int) -> Imprint:
    shop = Subject("production", "shop")
    return Imprint(shop, revision, "ab" * 32, "cd" * 32, "holdfast/1", 1, OUTLINE)


def test_digests_that_another_node_replaces_are_read_as_they_are_then(
    other: EtcdStore, line: Overtaken
) -> None:
    digests = EtcdDigests(line)
    other.digests.put([imprint(1)])
    line.once(lambda: other.digests.put([imprint(2)]))
    assert [one.revision for one in digests.all()] == [1, 2]
    line.once(lambda: other.digests.put([imprint(3)]))
    assert digests.put([imprint(4)]) == [imprint(4)]
    assert [one.revision for one in other.digests.all()] == [1, 2, 3, 4]


def test_digests_that_are_always_replaced_are_not_waited_for(
    other: EtcdStore, line: Overtaken
) -> None:
    other.digests.put([imprint(1)])
    newest = [1]

    def again() -> None:
        newest.append(newest[-1] + 1)
        other.digests.put([imprint(newest[-1])])

    line.meanwhile = again
    with pytest.raises(Unavailable, match="try again"):
        EtcdDigests(line).all()
    assert len(newest) == READS_MAX + 1


def test_a_blob_that_is_deleted_is_none_and_one_that_is_put_again_is_there(
    other: EtcdStore, line: Overtaken
) -> None:
    def delete() -> None:
        [stored] = other.blobs.all()
        assert other.blobs.delete(stored)

    def put_again() -> None:
        delete()
        other.blobs.put(BODY)

    blobs, digest = EtcdBlobs(line), other.blobs.put(BODY)
    line.once(put_again)
    assert blobs.get(digest) == BODY
    line.once(delete)
    assert blobs.get(digest) is None


def test_a_blob_whose_parts_were_deleted_and_begun_anew_is_put_again_as_a_whole(
    other: EtcdStore, line: Overtaken, third: Overtaken
) -> None:
    """Somebody collects it meanwhile, and a third one who puts it, too, dies after one part."""

    def die(number: int) -> None:
        if number == 2:
            raise InterruptedError

    def collect(number: int) -> None:
        if number == 3:
            [stored] = other.blobs.all()
            assert other.blobs.delete(stored)
            with pytest.raises(InterruptedError):
                EtcdBlobs(third).put(BODY)
            assert len(list(third.under(PARTS, keys_only=True))) == 1

    other.blobs.put(BODY)
    line.changing, third.changing = collect, die
    blobs = EtcdBlobs(line)
    digest = blobs.put(BODY)
    assert blobs.get(digest) == BODY


def test_a_proposal_that_is_deleted_is_none(other: EtcdStore, line: Overtaken) -> None:
    large = Proposal("large", hashlib.sha256(BODY).hexdigest(), BODY, "ann", 7)
    small = Proposal("small", hashlib.sha256(b"{}").hexdigest(), b"{}", "ann", 7)
    proposals = EtcdProposals(line)
    for read in (lambda: proposals.get("large"), lambda: proposals.all()[1:] or None):
        other.proposals.put(large)
        other.proposals.put(small)
        line.once(lambda: other.proposals.delete(large))
        assert read() is None


def test_a_checkpoint_that_goes_for_newer_ones_is_no_damage(
    other: EtcdStore, line: Overtaken
) -> None:
    grow(other.journal, 3)
    other.journal.save_checkpoint(Checkpoint(1, BODY))

    def two_more() -> None:
        for revision in (2, 3):
            other.journal.save_checkpoint(Checkpoint(revision, BODY))

    journal = EtcdJournal(line)
    line.once(two_more)
    assert journal.checkpoint() is None
    assert journal.checkpoint() == Checkpoint(3, BODY)


def test_parts_that_are_missing_from_a_record_that_stands_are_damage(
    other: EtcdStore, line: Overtaken
) -> None:
    digest = other.blobs.put(BODY)
    key = line.key(f"{PARTS}blobs/{digest}/{digest}/00001")
    line.change((), ({"request_delete_range": {"key": key}},))
    with pytest.raises(Damaged, match="not what was put there"):
        EtcdBlobs(line).get(digest)

"""What every blob store and every store of proposals promises; run on each adapter."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest

from holdfast.adapters.etcd_address import parse_address
from holdfast.adapters.etcd_blobs import EtcdBlobs
from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_proposals import EtcdProposals
from holdfast.adapters.memory import MemoryBlobs, MemoryProposals
from holdfast.adapters.postgres_blobs import PostgresBlobs
from holdfast.adapters.postgres_line import PostgresLine
from holdfast.adapters.postgres_proposals import PostgresProposals
from holdfast.adapters.postgres_schema import make_tables
from holdfast.adapters.sqlite_blobs import SqliteBlobs
from holdfast.adapters.sqlite_proposals import SqliteProposals
from holdfast.core import limits
from holdfast.core.errors import TooLarge
from holdfast.core.policies import Approval
from holdfast.ports import Blobs, Failure, Proposal, Proposals, Rejection, Schedule

MakeProposals: TypeAlias = Callable[..., Proposals]


@pytest.fixture(params=["memory", "sqlite", "postgres", "etcd"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    if request.param == "postgres":
        with postgres(request) as line:
            yield PostgresBlobs(line)
    elif request.param == "etcd":
        with etcd(request) as etcd_line:
            yield EtcdBlobs(etcd_line)
    elif request.param == "sqlite":
        yield SqliteBlobs(tmp_path / "blobs.db")
    else:
        yield MemoryBlobs()


@pytest.fixture(params=["memory", "sqlite", "postgres", "etcd"])
def make_proposals(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeProposals]:
    if request.param == "postgres":
        with postgres(request) as line:
            yield lambda **bounds: PostgresProposals(line, **bounds)
    elif request.param == "etcd":
        with etcd(request) as etcd_line:
            yield lambda **bounds: EtcdProposals(etcd_line, **bounds)
    elif request.param == "sqlite":
        yield lambda **bounds: SqliteProposals(tmp_path / "proposals.db", **bounds)
    else:
        yield MemoryProposals


@contextlib.contextmanager
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresLine]:
    with contextlib.closing(PostgresLine(request.getfixturevalue("postgres_url"))) as line:
        make_tables(line)
        yield line


@contextlib.contextmanager
def etcd(request: pytest.FixtureRequest) -> Iterator[EtcdLine]:
    address = parse_address(request.getfixturevalue("etcd_url"))
    with contextlib.closing(EtcdLine(address)) as line:
        yield line


def proposal(name: str, change: bytes = b"{}") -> Proposal:
    return Proposal(
        proposal=name,
        digest=hashlib.sha256(change).hexdigest(),
        change=change,
        author="ann",
        at_ms=7,
    )


@pytest.mark.parametrize("body", [b"", b"a\nb\n", bytes(range(256)) * 4_000])
def test_a_blob_comes_back_under_its_digest(blobs: Blobs, body: bytes) -> None:
    digest = blobs.put(body)
    assert digest == hashlib.sha256(body).hexdigest()
    assert blobs.put(body) == digest
    assert blobs.get(digest) == body


@pytest.mark.parametrize("digest", ["", "0" * 64, "no digest", "../" * 20])
def test_a_blob_that_is_not_there_is_none(blobs: Blobs, digest: str) -> None:
    assert blobs.get(digest) is None


def test_a_blob_has_a_bound(blobs: Blobs) -> None:
    with pytest.raises(TooLarge):
        blobs.put(bytes(limits.SEGMENT_BYTES_MAX + 1))


def test_all_blobs_are_told_by_digest_with_their_bytes(blobs: Blobs) -> None:
    assert list(blobs.all()) == []
    sizes = {blobs.put(bytes(size)): size for size in (3, 0, 2_000_000)}
    assert [(one.digest, one.bytes) for one in blobs.all()] == sorted(sizes.items())


def test_a_blob_is_deleted_once(blobs: Blobs) -> None:
    kept, gone = blobs.put(b"kept"), blobs.put(b"gone")
    [stored] = [one for one in blobs.all() if one.digest == gone]
    assert blobs.delete(stored)
    assert not blobs.delete(stored)
    assert blobs.get(gone) is None
    assert [one.digest for one in blobs.all()] == [kept]


def test_a_blob_that_was_put_again_is_not_deleted_by_an_older_look(blobs: Blobs) -> None:
    digest = blobs.put(b"body")
    [seen] = blobs.all()
    blobs.put(b"body")
    assert not blobs.delete(seen)
    assert blobs.get(digest) == b"body"
    [seen_again] = blobs.all()
    assert blobs.delete(seen_again)
    blobs.put(b"body")
    assert not blobs.delete(seen)
    assert not blobs.delete(seen_again)
    assert blobs.get(digest) == b"body"


def test_proposals_come_back_oldest_first(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    for name in ("c", "a", "b"):
        proposals.put(proposal(name, name.encode()))

    assert [one.proposal for one in proposals.all()] == ["c", "a", "b"]
    assert proposals.get("a") == proposal("a", b"a")
    assert proposals.get("z") is None


def test_a_proposal_put_again_replaces_the_old_one(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    for name, change in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        proposals.put(proposal(name, change))
    assert [(one.proposal, one.change) for one in proposals.all()] == [("b", b"2"), ("a", b"3")]


def test_a_deleted_proposal_is_gone_and_can_not_be_deleted_again(
    make_proposals: MakeProposals,
) -> None:
    proposals = make_proposals()
    proposals.put(proposal("a"))
    assert proposals.delete(proposal("a"))
    assert not proposals.delete(proposal("a"))
    assert proposals.all() == [] or proposals.all() == ()


def test_beyond_their_number_the_oldest_proposals_go(make_proposals: MakeProposals) -> None:
    proposals = make_proposals(proposals_max=3)
    for name in "abcde":
        proposals.put(proposal(name))
    assert [one.proposal for one in proposals.all()] == ["c", "d", "e"]


def test_beyond_their_bytes_the_oldest_proposals_go(make_proposals: MakeProposals) -> None:
    proposals = make_proposals(bytes_max=100)
    for name in "abc":
        proposals.put(proposal(name, b"x" * 45))
    assert [one.proposal for one in proposals.all()] == ["b", "c"]
    with pytest.raises(TooLarge):
        proposals.put(proposal("d", b"x" * 101))
    assert len(proposals.all()) == 2


FULL = msgspec.structs.replace(
    proposal("a"),
    token="t1",
    name="ann",
    approvals=(Approval("t2", "bob", "bob (t2)", "0" * 64, 8), Approval("t3", "eve", "eve", "", 9)),
    rejection=Rejection("eve", 9, "not today"),
    schedule=Schedule(1_800_000_000, "t1", "ann (t1)"),
    failure=Failure(10, "frozen", "production is frozen"),
)


def test_a_proposal_keeps_all_that_was_said_of_it(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    proposals.put(FULL)
    assert proposals.get("a") == FULL
    assert list(proposals.all()) == [FULL]


def test_a_proposal_is_replaced_in_its_place(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    for name in "abc":
        proposals.put(proposal(name))
    full = msgspec.structs.replace(FULL, proposal="b")
    assert proposals.replace(proposal("b"), full)
    assert list(proposals.all()) == [proposal("a"), full, proposal("c")]


def test_of_two_who_replace_the_same_one_does(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    proposals.put(proposal("a"))
    assert not proposals.replace(proposal("b"), FULL)
    assert not proposals.replace(proposal("z"), proposal("z", b"1"))
    assert proposals.replace(proposal("a"), FULL)
    assert not proposals.replace(proposal("a"), proposal("a", b"other"))
    assert not proposals.replace(msgspec.structs.replace(FULL, failure=None), proposal("a"))
    assert proposals.get("a") == FULL


def test_a_proposal_that_was_replaced_is_not_deleted(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    proposals.put(proposal("a"))
    approved = msgspec.structs.replace(proposal("a"), approvals=FULL.approvals)
    for now in (approved, proposal("a", b"other")):
        before = proposals.get("a")
        assert before
        assert proposals.replace(before, now)
        assert not proposals.delete(before)
        assert proposals.get("a") == now


def test_of_many_threads_that_replace_the_same_one_does(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    proposals.put(proposal("a"))
    ready, done = threading.Barrier(4), []

    def replace(number: int) -> None:
        ready.wait(20)
        done.append(proposals.replace(proposal("a"), proposal("a", b"%d" % number)))

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(done) == [False, False, False, True]


def test_what_is_due_comes_earliest_first(make_proposals: MakeProposals) -> None:
    proposals = make_proposals()
    proposals.put(proposal("never"))
    for name, at_s in (("late", 300), ("soon", 100), ("next", 200), ("twin", 200)):
        schedule = Schedule(at_s, "t1", "ann")
        proposals.put(msgspec.structs.replace(proposal(name), schedule=schedule))
    assert [one.proposal for one in proposals.due(99.9)] == []
    assert [one.proposal for one in proposals.due(100)] == ["soon"]
    assert [one.proposal for one in proposals.due(200.5)] == ["soon", "next", "twin"]
    kept = proposals.get("soon")
    assert kept is not None
    proposals.replace(kept, msgspec.structs.replace(kept, schedule=None))
    assert [one.proposal for one in proposals.due(1e9)] == ["next", "twin", "late"]

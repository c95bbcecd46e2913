"""What lies beside the journal in etcd: shared servers, sick members, damage."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.adapters.etcd_writing import next_entry

from holdfast.adapters.etcd_address import parse_address
from holdfast.adapters.etcd_blobs import BLOBS
from holdfast.adapters.etcd_digests import DIGESTS, SUBJECTS_MAX
from holdfast.adapters.etcd_leases import HELD, TOKEN
from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_proposals import CHANGES, FACTS, PLACE
from holdfast.adapters.etcd_records import PARTS
from holdfast.adapters.etcd_store import EtcdStore
from holdfast.adapters.etcd_sweep import give_back
from holdfast.adapters.etcd_wire import KeptAlive, delete, past, put
from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.model import Subject
from holdfast.gameday.etcd import EtcdCluster
from holdfast.ports import Imprint, Proposal

BODY = bytes(range(256)) * 12_000


@pytest.fixture
def store(etcd_url: str) -> Iterator[EtcdStore]:
    with contextlib.closing(EtcdStore(etcd_url)) as store:
        yield store


@pytest.fixture
def line(etcd_url: str) -> Iterator[EtcdLine]:
    with contextlib.closing(EtcdLine(parse_address(etcd_url))) as line:
        yield line


def proposal(name: str, change: bytes) -> Proposal:
    return Proposal(name, hashlib.sha256(change).hexdigest(), change, "ann", 7)


def imprint(service: str, revision: int = 1, outline: bytes = b"") -> Imprint:
    subject = Subject("production", service)
    return Imprint(subject, revision, "ab" * 32, "cd" * 32, "holdfast/1", 1, outline)


def overwrite(line: EtcdLine, name: str, value: bytes) -> None:
    line.change((), (put(line.key(name), value),))


def lose_parts(line: EtcdLine) -> None:
    key = line.key(PARTS)
    line.change((), (delete(key, past(key)),))


def test_two_stores_on_one_server_do_not_see_each_other(etcd_cluster: EtcdCluster) -> None:
    with (
        contextlib.closing(EtcdStore(f"{etcd_cluster.url}/alike")) as one,
        contextlib.closing(EtcdStore(f"{etcd_cluster.url}/alike2")) as other,
        contextlib.closing(EtcdStore(f"{etcd_cluster.url}/alike/nested")) as nested,
    ):
        one.journal.append(next_entry(one.journal.head()))
        one.blobs.put(b"a list")
        for each in (other, nested):
            assert each.journal.head().revision == 0
            assert list(each.blobs.all()) == []


def test_the_state_of_three_members_names_the_one_that_is_away(tmp_path: Path) -> None:
    with (
        EtcdCluster(tmp_path / "etcd", 3) as cluster,
        contextlib.closing(EtcdStore(f"{cluster.url}?timeout_s=2")) as store,
    ):
        status = store.status()
        assert status["healthy"]
        assert status["leader"] == cluster.leader().name
        assert [member["healthy"] for member in status["members"]] == [True] * 3

        away = cluster.followers()[0]
        away.kill()
        status = store.status()
        assert status["healthy"]
        assert {member["name"]: member["healthy"] for member in status["members"]} == {
            member.name: member is not away for member in cluster.members
        }
        assert store.compact()["defragmented_members"] == 2

        also_away = cluster.followers()[0]
        also_away.kill()
        with pytest.raises(Unavailable, match="no quorum: of 3 members") as caught:
            EtcdStore(f"{cluster.url}?timeout_s=2")
        for member in cluster.members:
            told = f"{member.name} (http://127.0.0.1:{member.port})"
            assert (told in str(caught.value)) == (member in (away, also_away))
        status = store.status()
        assert not status["healthy"]
        assert status["round_trip_ms"] is None
        with pytest.raises(Unavailable):
            store.journal.head()
        for member in cluster.members:
            member.kill()
        with pytest.raises(Unavailable):
            store.status()


def test_space_that_ran_out_is_told_and_given_back(tmp_path: Path) -> None:
    quota = 4 * 1024 * 1024
    with (
        EtcdCluster(tmp_path / "etcd", options=[f"--quota-backend-bytes={quota}"]) as cluster,
        contextlib.closing(EtcdStore(f"{cluster.url}?timeout_s=20")) as store,
    ):
        digest = store.blobs.put(BODY)
        with pytest.raises(Unavailable, match="compact"):
            store.blobs.put(BODY[::-1])
        assert "NOSPACE" in str(store.status()["errors"])
        [kept] = store.blobs.all()
        assert store.blobs.delete(kept)
        with contextlib.closing(EtcdLine(parse_address(cluster.url))) as line:
            lose_parts(line)
            assert store.compact()["freed_bytes"] >= 0  # etcd remembers the newest revisions yet
            give_back(line, margin=0)
        assert store.status()["errors"] == []
        assert store.blobs.put(BODY) == digest


# Blobs


def test_a_blob_whose_parts_changed_is_refused(store: EtcdStore, line: EtcdLine) -> None:
    digest = store.blobs.put(BODY)
    overwrite(line, f"{PARTS}{BLOBS}{digest}/{digest}/00001", b"other bytes")
    with pytest.raises(Damaged, match=digest):
        store.blobs.get(digest)
    store.blobs.put(BODY)
    assert store.blobs.get(digest) == BODY


def test_a_blob_in_the_place_of_another_is_refused(store: EtcdStore, line: EtcdLine) -> None:
    one, other = store.blobs.put(b"one"), store.blobs.put(b"other")
    found, _ = line.get(BLOBS + other)
    assert found is not None
    overwrite(line, BLOBS + one, found.value)
    with pytest.raises(Damaged, match="member lists"):
        store.blobs.get(one)


def test_a_blob_that_is_deleted_leaves_no_part(store: EtcdStore, line: EtcdLine) -> None:
    store.blobs.put(BODY)
    [stored] = store.blobs.all()
    assert stored.bytes == len(BODY)
    assert len(list(line.under(PARTS))) == 3
    assert store.blobs.delete(stored)
    assert list(line.under(PARTS)) == []


# Digests


def test_more_subjects_than_a_transaction_takes(store: EtcdStore) -> None:
    made = [imprint(f"service-{number}") for number in range(2 * SUBJECTS_MAX + 5)]
    assert list(store.digests.put(made)) == made
    other = [msgspec.structs.replace(one, digest="ef" * 32) for one in made]
    assert list(store.digests.put(other[::-1])) == made[::-1]
    assert len(store.digests.all()) == len(made)


def test_a_large_outline_lies_in_parts_and_goes_with_the_next(
    store: EtcdStore, line: EtcdLine
) -> None:
    outline = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(40_000))
    large = imprint("shop", 1, outline)
    store.digests.put([large])
    assert list(store.digests.all()) == [large]
    assert len(list(line.under(PARTS))) == 2
    store.digests.put([imprint("shop", 2)])
    assert [one.outline for one in store.digests.all()] == [b"", b""]
    assert list(line.under(PARTS)) == []


@pytest.mark.parametrize("value", [b"rubbish", b'{"digest":"' + b"ab" * 32 + b'","bytes":1}\nx'])
def test_damaged_digests_are_refused(store: EtcdStore, line: EtcdLine, value: bytes) -> None:
    store.digests.put([imprint("shop")])
    overwrite(line, f"{DIGESTS}production/shop", value)
    for call in (store.digests.all, lambda: store.digests.put([imprint("shop", 2)])):
        with pytest.raises(Damaged, match="Delete that key"):
            call()


def test_digests_of_another_subject_are_refused(store: EtcdStore, line: EtcdLine) -> None:
    store.digests.put([imprint("shop")])
    found, _ = line.get(f"{DIGESTS}production/shop")
    assert found is not None
    overwrite(line, f"{DIGESTS}production/mail", found.value)
    with pytest.raises(Damaged, match="another subject"):
        store.digests.all()


# Proposals


def test_a_large_change_is_proposed_and_leaves_nothing(store: EtcdStore, line: EtcdLine) -> None:
    store.proposals.put(proposal("large", BODY))
    store.proposals.put(proposal("small", b"{}"))
    assert list(store.proposals.all()) == [proposal("large", BODY), proposal("small", b"{}")]
    changed = msgspec.structs.replace(proposal("large", BODY), name="ann")
    assert store.proposals.replace(proposal("large", BODY), changed)
    assert store.proposals.get("large") == changed
    assert store.proposals.delete(changed)
    assert list(line.under(PARTS)) == []


@pytest.mark.parametrize("area", [FACTS, CHANGES])
def test_damaged_proposals_are_refused(store: EtcdStore, line: EtcdLine, area: str) -> None:
    store.proposals.put(proposal("one", b"1"))
    store.proposals.put(proposal("two", b"2"))
    found, _ = line.get(f"{area}two")
    assert found is not None
    overwrite(line, f"{area}one", found.value)
    with pytest.raises(Damaged, match="proposed again"):
        store.proposals.get("one")
    overwrite(line, f"{area}one", b"rubbish")
    with pytest.raises(Damaged):
        store.proposals.all()


def test_a_damaged_place_is_refused(store: EtcdStore, line: EtcdLine) -> None:
    store.proposals.put(proposal("one", b"1"))
    overwrite(line, PLACE, b"first")
    with pytest.raises(Damaged, match="no number"):
        store.proposals.put(proposal("two", b"2"))


# The lease


def test_a_lease_is_etcds_own_and_is_gone_with_it(store: EtcdStore, line: EtcdLine) -> None:
    lease = store.leases.take("one", "", 60)
    assert lease is not None
    found, _ = line.get(HELD)
    assert found is not None
    assert found.lease != 0
    store.leases.give_up(lease)
    left = line.call("/v3/lease/keepalive", {"ID": str(found.lease)}, KeptAlive)
    assert left.result.ttl_s == 0


@pytest.mark.parametrize("name", [HELD, TOKEN])
def test_a_damaged_lease_is_refused(store: EtcdStore, line: EtcdLine, name: str) -> None:
    store.leases.take("one", "", 60)
    overwrite(line, name, b"rubbish")
    with pytest.raises(Damaged):
        store.leases.take("two", "", 60)

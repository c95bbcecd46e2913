"""What every record of first digests promises; run on each adapter."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.adapters.etcd_store import EtcdStore
from holdfast.adapters.memory import IMPRINTS_KEPT, MemoryDigests
from holdfast.adapters.postgres_store import PostgresStore
from holdfast.adapters.sqlite_digests import SqliteDigests
from holdfast.core.model import Subject
from holdfast.core.wire import digest
from holdfast.ports import Digests, Imprint

SHOP = Subject("production", "shop")


@pytest.fixture(params=["memory", "sqlite", "postgres", "etcd"])
def digests(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Digests]:
    if request.param == "postgres":
        with contextlib.closing(PostgresStore(request.getfixturevalue("postgres_url"))) as store:
            yield store.digests
    elif request.param == "etcd":
        with contextlib.closing(EtcdStore(request.getfixturevalue("etcd_url"))) as etcd:
            yield etcd.digests
    elif request.param == "sqlite":
        yield SqliteDigests(tmp_path / "digests.db")
    else:
        yield MemoryDigests()


def imprint(revision: int, text: str = "right", **more: Any) -> Imprint:
    made = Imprint(
        subject=SHOP,
        revision=revision,
        entry=digest(f"entry {revision}".encode()),
        digest=digest(text.encode()),
        build="holdfast/1",
        outline=f"{revision} {text}".encode(),
    )
    return msgspec.structs.replace(made, **more)


def test_the_first_imprint_stands_and_a_later_one_is_told_of_it(digests: Digests) -> None:
    first = imprint(1)
    assert list(digests.put([first])) == [first]
    assert list(digests.put([imprint(1, "wrong", build="holdfast/2")])) == [first]
    assert list(digests.all()) == [first]


def test_what_stands_comes_back_in_the_order_of_what_was_put(digests: Digests) -> None:
    digests.put([imprint(1)])
    other = imprint(1, subject=Subject("production", "mail"))
    stands = digests.put([imprint(2), other, imprint(1, "wrong")])
    assert [(one.subject, one.revision, one.digest) for one in stands] == [
        (SHOP, 2, imprint(2).digest),
        (other.subject, 1, other.digest),
        (SHOP, 1, imprint(1).digest),
    ]


@pytest.mark.parametrize("other", [{"entry": "ab" * 32}, {"format": 2}])
def test_another_entry_or_format_is_another_place(digests: Digests, other: Any) -> None:
    digests.put([imprint(1)])
    aside = imprint(1, "aside", **other)
    assert list(digests.put([aside])) == [aside]


def test_only_the_newest_outline_is_kept(digests: Digests) -> None:
    for revision in (1, 2, 3):
        digests.put([imprint(revision)])
    assert [one.outline for one in digests.all()] == [b"", b"", b"3 right"]


def test_of_each_subject_the_newest_few_are_kept(digests: Digests) -> None:
    made = [imprint(revision) for revision in range(1, IMPRINTS_KEPT + 5)]
    for one in made:
        digests.put([one])
    assert [one.revision for one in digests.all()] == [one.revision for one in made[4:]]


def test_of_writers_at_the_same_time_one_is_first_for_all(digests: Digests) -> None:
    stands: list[str] = []

    def put(number: int) -> None:
        stands.extend(one.digest for one in digests.put([imprint(1, str(number))]))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(stands) == 8
    assert len(set(stands)) == 1


def test_digests_on_disk_are_there_after_a_restart(tmp_path: Path) -> None:
    first = SqliteDigests(tmp_path / "digests.db")
    first.put([imprint(1)])
    first.close()
    again = SqliteDigests(tmp_path / "digests.db")
    assert list(again.put([imprint(1, "wrong")])) == [imprint(1)]
    again.close()

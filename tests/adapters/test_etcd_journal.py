"""The journal in etcd: watches over what etcd forgot, large entries, parts, damage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pytest
from tests.adapters.etcd_writing import DEADLINE_S, grow, in_thread, next_entry, watched

from holdfast.adapters.etcd_address import parse_address
from holdfast.adapters.etcd_journal import HEAD, EtcdJournal
from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_records import PARTS, EtcdRecords
from holdfast.adapters.etcd_sweep import give_back
from holdfast.adapters.etcd_wire import Nothing, delete, past, put
from holdfast.core.errors import Conflict, Damaged, Unavailable
from holdfast.core.history import encode_entry, seal
from holdfast.core.model import GENESIS, DeleteSetting, Entry, Head
from holdfast.core.wire import canonical
from holdfast.ports import Checkpoint

LARGE = "k" * 3_000_000


@pytest.fixture
def line(etcd_url: str) -> Iterator[EtcdLine]:
    with contextlib.closing(EtcdLine(parse_address(etcd_url))) as line:
        yield line


@pytest.fixture
def journal(line: EtcdLine) -> EtcdJournal:
    return EtcdJournal(line)


def name_of(revision: int) -> str:
    return f"entries/{revision:016d}"


# Watches


def compact(line: EtcdLine) -> None:
    _, revision = line.get(HEAD)
    question = {"revision": str(revision), "physical": True}
    line.call("/v3/kv/compaction", question, Nothing)


def test_compaction_makes_no_gap_in_a_watch(line: EtcdLine, journal: EtcdJournal) -> None:
    seen: list[Entry] = []
    with in_thread(lambda: seen.extend(watched(journal, 60))):
        for _ in range(20):
            grow(journal, 3)
            compact(line)
    assert seen == list(journal.read())


def test_a_watch_from_before_what_etcd_remembers_ends_at_once(
    line: EtcdLine, journal: EtcdJournal
) -> None:
    grow(journal, 3)
    compact(line)
    line.wait_for_change(HEAD, 1, DEADLINE_S, lambda: False)
    assert [entry.revision for entry in journal.watch(1, DEADLINE_S)] == [2, 3]


# Large and many


def test_an_entry_larger_than_a_request_is_read_as_it_was_written(
    line: EtcdLine, journal: EtcdJournal
) -> None:
    small, large = grow(journal, 1), grow(journal, 1, LARGE)
    journal.append(next_entry(journal.head()))
    assert len(encode_entry(large[0])) > 2_000_000
    assert list(journal.read())[:2] == [*small, *large]
    assert journal.head().revision == 3
    assert len(list(line.under(PARTS, keys_only=True))) == 3


def test_pages_that_are_too_large_are_asked_for_in_smaller_ones(journal: EtcdJournal) -> None:
    made = [grow(journal, 1, "k" * 1_000_000)[0] for _ in range(14)]
    assert list(journal.read()) == made
    assert list(journal.read(11)) == made[11:]


def test_many_entries_are_read_page_by_page(journal: EtcdJournal) -> None:
    made = grow(journal, 1_300)
    assert list(journal.read()) == made
    assert list(journal.read(1_100, 150)) == made[1_100:1_250]
    assert list(journal.watch(1_290, 0.0)) == made[1_290:]


def test_many_entries_on_another_head_are_a_conflict(journal: EtcdJournal) -> None:
    made = grow(journal, 3)
    with pytest.raises(Conflict):
        journal.append_all(made)
    with pytest.raises(Conflict):
        journal.append_all([next_entry(Head(3, made[-1].hash)), next_entry(GENESIS)])


# Parts


def test_parts_that_nobody_refers_to_go_and_all_others_stay(
    line: EtcdLine, journal: EtcdJournal
) -> None:
    grow(journal, 1, LARGE)
    journal.save_checkpoint(Checkpoint(1, bytes(2_500_000)))
    EtcdRecords(line).pack(name_of(2), b"x" * 2_500_000)
    assert give_back(line)["swept_parts"] == 0  # they are new: somebody may be about to refer
    assert give_back(line, margin=0)["swept_parts"] == 3
    assert give_back(line, margin=0)["swept_parts"] == 0
    assert len(list(journal.read())) == 1
    assert journal.checkpoint() == Checkpoint(1, bytes(2_500_000))


def test_an_entry_whose_parts_were_swept_away_meanwhile_is_not_written(
    line: EtcdLine, journal: EtcdJournal
) -> None:
    entry = next_entry(GENESIS, LARGE)
    packed = EtcdRecords(line).pack(name_of(1), encode_entry(entry))
    give_back(line, margin=0)
    assert not line.change(packed.guards, (packed.write,)).succeeded
    journal.append(entry)
    assert list(journal.read()) == [entry]


# Damage


def overwrite(line: EtcdLine, name: str, value: bytes) -> None:
    line.change((), (put(line.key(name), value),))


def remove(line: EtcdLine, names: Sequence[str]) -> None:
    line.change((), [delete(line.key(name)) for name in names])


def value_of(line: EtcdLine, name: str) -> bytes:
    found, _ = line.get(name)
    assert found is not None
    return found.value


def flip(line: EtcdLine) -> None:
    overwrite(line, name_of(3), value_of(line, name_of(3)).replace(b"ann", b"eve"))


def swap(line: EtcdLine) -> None:
    overwrite(line, name_of(3), value_of(line, name_of(4)))


def forge(line: EtcdLine) -> None:
    """An entry that is whole in itself, and not the one that the next one follows."""
    body = encode_entry(seal(Head(2, "0" * 64), 7, "eve", "why", [DeleteSetting("shop", "k")]))
    line.change((), (EtcdRecords(line).pack(name_of(3), body).write,))


def lose_parts(line: EtcdLine) -> None:
    key = line.key(PARTS)
    line.change((), (delete(key, past(key)),))


@pytest.mark.parametrize(
    "harm",
    [
        flip,
        swap,
        forge,
        lose_parts,
        lambda line: overwrite(line, name_of(3), b"rubbish"),
        lambda line: remove(line, [name_of(3)]),
        lambda line: remove(line, [name_of(6)]),
        lambda line: remove(line, [name_of(5), name_of(6)]),
        lambda line: remove(line, [HEAD]),
        lambda line: overwrite(line, HEAD, b"{}"),
        lambda line: overwrite(line, HEAD, b'{"hash":"' + b"ab" * 32 + b'","revision":6}'),
        lambda line: overwrite(line, HEAD, b'{"hash":"' + b"ab" * 32 + b'","revision":9}'),
    ],
    ids=[
        "flipped", "swapped", "forged", "parts", "rubbish", "hole", "last", "end", "no head",
        "head", "another head", "higher head",
    ],
)  # fmt: skip
def test_damage_is_refused_with_the_way_out(
    line: EtcdLine, journal: EtcdJournal, harm: Callable[[EtcdLine], None]
) -> None:
    grow(journal, 4)
    grow(journal, 1, LARGE)
    grow(journal, 1)
    harm(line)
    with pytest.raises(Damaged, match="restore"):
        EtcdJournal(line)
    with pytest.raises((Damaged, Unavailable)):
        list(journal.read())


def test_nothing_is_written_over_an_entry_above_the_head(
    line: EtcdLine, journal: EtcdJournal
) -> None:
    other = EtcdJournal(line)
    made = grow(journal, 2)
    remove(line, [HEAD])
    with pytest.raises(Damaged):
        other.append(next_entry(GENESIS))
    assert b"ann" in value_of(line, name_of(made[0].revision))


def test_damage_before_the_start_is_not_in_the_way(line: EtcdLine, journal: EtcdJournal) -> None:
    made = grow(journal, 6)
    flip(line)
    assert list(journal.read(4)) == made[4:]


def test_a_head_from_before_is_not_believed_until_a_restart(
    line: EtcdLine, journal: EtcdJournal
) -> None:
    """As after a backup of etcd's was restored under running nodes."""
    made = grow(journal, 3)
    assert journal.head().revision == 3
    overwrite(line, HEAD, canonical(Head(2, made[1].hash)))
    remove(line, [name_of(3)])
    for call in (journal.head, lambda: list(journal.read()), lambda: journal.watch(3, 0.0)):
        with pytest.raises(Unavailable, match="restart"):
            call()
    assert EtcdJournal(line).head().revision == 2


def test_a_damaged_checkpoint_is_passed_over(line: EtcdLine, journal: EtcdJournal) -> None:
    grow(journal, 3)
    for revision in (1, 2, 3):
        journal.save_checkpoint(Checkpoint(revision, b"%d" % revision * 2_000_000))
    lost = f"{PARTS}checkpoints/{3:016d}/"
    key = line.key(lost)
    line.change((), (delete(key, past(key)),))
    assert journal.checkpoint() == Checkpoint(2, b"2" * 2_000_000)
    overwrite(line, f"checkpoints/{2:016d}", b"rubbish")
    assert journal.checkpoint() is None
    assert list(line.under(f"{PARTS}checkpoints/{1:016d}/")) == []

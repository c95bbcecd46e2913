"""The first digest of each snapshot, in etcd: one record for each subject.

    PREFIX/digests/ENVIRONMENT/SERVICE      its newest imprints, as compressed MessagePack

A record is replaced as a whole, if it is as it was read. Up to `SUBJECTS_MAX` subjects go in one
transaction, more of them in several: each imprint stands under the hash of an entry that was not
appended yet, so one of a call that failed half-way is found by nobody, and goes with the oldest.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_records import EtcdRecords
from holdfast.adapters.etcd_wire import Comparison, KeyValue, Operation, first, get, unchanged
from holdfast.adapters.memory import MemoryDigests
from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Imprint

DIGESTS: Final = "digests/"
SUBJECTS_MAX: Final = 32
"""In one transaction: four operations and comparisons each, and at most 512 KiB."""
INLINE_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
TRIES_MAX: Final = 16
"""Each but the last failed since another node put digests of the same subjects in that moment."""
_RESTORE: Final = (
    "Delete that key: digests stand in the journal too, and the newest ones are put again at the"
    " next start. Start the build that ran last, so that it is the one that is believed"
)

_decoder: Final = msgspec.msgpack.Decoder(list[Imprint])


class EtcdDigests:
    """The `Digests` port. What is kept of a subject is decided by the twin in memory."""

    def __init__(self, line: EtcdLine) -> None:
        self._line = line
        self._records = EtcdRecords(line, INLINE_BYTES_MAX)

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        subjects = list(dict.fromkeys(one.subject for one in made))
        stands: dict[tuple[Subject, int, str, int], Imprint] = {}
        for start in range(0, len(subjects), SUBJECTS_MAX):
            some = subjects[start : start + SUBJECTS_MAX]
            mine = [one for one in made if one.subject in some]
            stands |= zip(map(_place, mine), self._put(some, mine), strict=True)
        return [stands[_place(one)] for one in made]

    def all(self) -> Sequence[Imprint]:
        kept = [one for found in self._line.under(DIGESTS) for one in self._imprints(found)]
        return sorted(kept, key=_place)

    def _put(self, subjects: Sequence[Subject], made: Sequence[Imprint]) -> Sequence[Imprint]:
        """What stands for each of `made`, which are of these subjects."""
        reads = [get(self._line.key(_name(subject))) for subject in subjects]
        for _ in range(TRIES_MAX):
            found = [first(each) for each in self._line.look(*reads)]
            before = {
                subject: self._imprints(each) if each else []
                for subject, each in zip(subjects, found, strict=True)
            }
            twin = MemoryDigests()
            twin.put([one for kept in before.values() for one in kept])
            stands, after = twin.put(made), _by_subject(twin.all())
            compare: list[Comparison] = []
            writes: list[Operation] = []
            for subject, each in zip(subjects, found, strict=True):
                if after[subject] != before[subject]:
                    self._replace(subject, each, after[subject], compare, writes)
            if not writes or self._line.change(compare, writes).succeeded:
                return stands
        what = "other nodes put digests of the same subjects all the time"
        raise Unavailable(f"{self._line.where}: {what}: try again")

    def _replace(
        self,
        subject: Subject,
        found: KeyValue | None,
        kept: Sequence[Imprint],
        compare: list[Comparison],
        writes: list[Operation],
    ) -> None:
        name = _name(subject)
        packed = self._records.pack(name, zlib.compress(msgspec.msgpack.encode(kept), 1))
        compare += [unchanged(self._line.key(name), found.mod_revision if found else 0)]
        compare += packed.guards
        writes.append(packed.write)
        if found is not None and (label := self._records.label(found)).parts:
            writes.append(self._records.remove_parts(name, label.digest))

    def _imprints(self, found: KeyValue) -> list[Imprint]:
        name = self._line.name(found.key)
        try:
            unpacking = zlib.decompressobj()
            body = unpacking.decompress(self._records.unpack(found), BODY_BYTES_MAX)
            kept = _decoder.decode(body)
        except (Damaged, msgspec.MsgspecError, UnicodeDecodeError, zlib.error):
            raise self._records.damaged(f"{name} is not what was put there", _RESTORE) from None
        if any(_name(one.subject) != name for one in kept):
            raise self._records.damaged(f"{name} holds digests of another subject", _RESTORE)
        return kept


def _name(subject: Subject) -> str:
    return f"{DIGESTS}{subject.environment}/{subject.service}"


def _place(one: Imprint) -> tuple[Subject, int, str, int]:
    return one.subject, one.revision, one.entry, one.format


def _by_subject(kept: Sequence[Imprint]) -> dict[Subject, list[Imprint]]:
    found: dict[Subject, list[Imprint]] = {}
    for one in kept:
        found.setdefault(one.subject, []).append(one)
    return found

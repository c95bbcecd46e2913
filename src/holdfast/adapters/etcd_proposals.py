"""Proposals in etcd: bounded, the oldest go first.

PREFIX/proposals/place          the place given last, in digits: who puts one takes the next
PREFIX/proposals/facts/ID       a record: all but the change, its size and its digest
PREFIX/proposals/changes/ID     a record: the change's canonical bytes
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_records import EtcdRecords, Gone
from holdfast.adapters.etcd_wire import Comparison, KeyValue, Operation, first, get, put, unchanged
from holdfast.adapters.sqlite_proposals import PROPOSALS_BYTES_MAX, PROPOSALS_MAX
from holdfast.core.errors import TooLarge, Unavailable
from holdfast.ports import Proposal

PLACE: Final = "proposals/place"
FACTS: Final = "proposals/facts/"
CHANGES: Final = "proposals/changes/"
TRIES_MAX: Final = 16
"""Each but the last failed since somebody else put one in that moment."""
_DELETED_AT_ONCE: Final = 32
_RESTORE: Final = "Delete it by its key: it must then be proposed again"


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`proposal` without its change; `covered` is the SHA-256 of that."""

    place: int
    bytes: int
    covered: str
    proposal: Proposal


class _Kept(msgspec.Struct, frozen=True):
    facts: _Facts
    mod_revision: int


_facts: Final = msgspec.json.Decoder(_Facts)
_encode: Final = msgspec.json.Encoder(order="sorted").encode


class EtcdProposals:
    """The `Proposals` port."""

    def __init__(
        self,
        line: EtcdLine,
        *,
        proposals_max: int = PROPOSALS_MAX,
        bytes_max: int = PROPOSALS_BYTES_MAX,
    ) -> None:
        self._line = line
        self._records = EtcdRecords(line)
        self._proposals_max = proposals_max
        self._bytes_max = bytes_max

    def put(self, proposal: Proposal) -> None:
        if len(proposal.change) > self._bytes_max:
            raise TooLarge(f"a proposal of {len(proposal.change)} bytes, at most {self._bytes_max}")
        change = self._records.pack(CHANGES + proposal.proposal, proposal.change)
        for _ in range(TRIES_MAX):
            found, _ = self._line.get(PLACE)
            place = self._given(found) + 1
            facts = self._records.pack(FACTS + proposal.proposal, _encoded(proposal, place))
            key = self._line.key(PLACE)
            compare = (unchanged(key, found.mod_revision if found else 0), *change.guards)
            writes = (put(key, b"%d" % place), facts.write, change.write)
            if self._line.change(compare, writes).succeeded:
                self._drop_oldest()
                return
        raise Unavailable(f"{self._line.where}: too many propose at the same time: try again")

    def replace(self, old: Proposal, new: Proposal) -> bool:
        if new.proposal != old.proposal:
            return False
        found = self._standing(old)
        if found is None:
            return False
        place, guards = found
        writes: list[Operation] = []
        if new.change != old.change:
            change = self._records.pack(CHANGES + old.proposal, new.change)
            writes.append(change.write)
            guards += change.guards
        writes.append(self._records.pack(FACTS + old.proposal, _encoded(new, place)).write)
        return self._line.change(guards, writes, twice=False).succeeded

    def get(self, proposal: str) -> Proposal | None:
        names = (FACTS + proposal, CHANGES + proposal)
        read = self._line.look(*(get(self._line.key(name)) for name in names))
        facts, change = (first(found) for found in read)
        if facts is None or change is None:
            return None
        return self._whole(self._decoded(facts), change)

    def all(self) -> Sequence[Proposal]:
        kept = self._kept()
        changes = {self._line.name(each.key): each for each in self._line.under(CHANGES)}
        whole = (self._joined(each, changes) for each in kept)
        return [proposal for proposal in whole if proposal is not None]

    def due(self, now_s: float) -> Sequence[Proposal]:
        kept = [
            (one.facts.proposal.schedule.at_s, one)
            for one in self._kept()
            if one.facts.proposal.schedule is not None
        ]
        come = [(at_s, one) for at_s, one in kept if at_s <= now_s]
        return self._with_changes([one for _, one in sorted(come, key=lambda each: each[0])])

    def delete(self, old: Proposal) -> bool:
        found = self._standing(old)
        if found is None:
            return False
        _, guards = found
        return self._line.change(guards, self._removal([old.proposal]), twice=False).succeeded

    def _standing(self, old: Proposal) -> tuple[int, list[Comparison]] | None:
        """The place of `old`, and what holds for as long as it is there so; None where it isn't."""
        names = (FACTS + old.proposal, CHANGES + old.proposal)
        read = self._line.look(*(get(self._line.key(name)) for name in names))
        facts, change = (first(found) for found in read)
        if facts is None or change is None:
            return None
        kept = self._decoded(facts).facts
        if kept != _of(old, kept.place):
            return None
        return kept.place, [unchanged(each.key, each.mod_revision) for each in (facts, change)]

    def _given(self, found: KeyValue | None) -> int:
        """The place given last."""
        if found is None:
            return 0
        if not found.value.isdigit():
            what, way_out = (
                f"{PLACE} is no number",
                "Put one there that is above every place so far",
            )
            raise self._records.damaged(what, way_out)
        return int(found.value)

    def _kept(self) -> list[_Kept]:
        """The facts of each, oldest first."""
        found = [self._decoded(each) for each in self._line.under(FACTS)]
        return sorted(found, key=lambda each: each.facts.place)

    def _with_changes(self, kept: Sequence[_Kept]) -> list[Proposal]:
        """Those of them that are still there, whole."""
        whole = (self.get(each.facts.proposal.proposal) for each in kept)
        return [proposal for proposal in whole if proposal is not None]

    def _joined(self, kept: _Kept, changes: Mapping[str, KeyValue]) -> Proposal | None:
        """One of many, whole; read anew where it was replaced between the two reads."""
        name = kept.facts.proposal.proposal
        change = changes.get(CHANGES + name)
        if change is None or self._records.label(change).digest != kept.facts.covered:
            return self.get(name)
        return self._whole(kept, change)

    def _drop_oldest(self) -> None:
        """What is beyond the bounds goes, and what was put meanwhile is counted like the rest."""
        held, size, beyond = 0, 0, []
        for each in reversed(self._kept()):
            held, size = held + 1, size + each.facts.bytes
            if held > self._proposals_max or size > self._bytes_max:
                beyond.append(each.facts.proposal.proposal)
        for start in range(0, len(beyond), _DELETED_AT_ONCE):
            self._line.change((), self._removal(beyond[start : start + _DELETED_AT_ONCE]))

    def _removal(self, proposals: Sequence[str]) -> list[Operation]:
        names = [prefix + each for each in proposals for prefix in (FACTS, CHANGES)]
        return [step for name in names for step in self._records.remove(name)]

    def _decoded(self, found: KeyValue) -> _Kept:
        name = self._line.name(found.key)
        try:
            facts = _facts.decode(self._records.unpack(found))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._records.damaged(f"{name} is not what was put there", _RESTORE) from None
        if FACTS + facts.proposal.proposal != name:
            raise self._records.damaged(f"{name} is of another proposal", _RESTORE)
        return _Kept(facts, found.mod_revision)

    def _whole(self, kept: _Kept, change: KeyValue) -> Proposal | None:
        """None where it was deleted meanwhile."""
        try:
            body = self._records.unpack(change)
        except Gone:
            return None
        if hashlib.sha256(body).hexdigest() != kept.facts.covered:
            what = f"{self._line.name(change.key)} is not the change of its proposal"
            raise self._records.damaged(what, _RESTORE)
        return msgspec.structs.replace(kept.facts.proposal, change=body)


def _of(proposal: Proposal, place: int) -> _Facts:
    covered = hashlib.sha256(proposal.change).hexdigest()
    bare = msgspec.structs.replace(proposal, change=b"")
    return _Facts(place, len(proposal.change), covered, bare)


def _encoded(proposal: Proposal, place: int) -> bytes:
    return _encode(_of(proposal, place))

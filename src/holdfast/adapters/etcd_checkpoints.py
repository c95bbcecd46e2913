"""Checkpoints in etcd, the newest two kept; a damaged one is passed over, and never an error."""

from __future__ import annotations

from typing import Final

from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_records import EtcdRecords, Gone
from holdfast.adapters.memory import CHECKPOINTS_KEPT
from holdfast.core.errors import Damaged
from holdfast.ports import Checkpoint

CHECKPOINTS: Final = "checkpoints/"
_INLINE_BYTES_MAX: Final = 4096
"""They are listed more often than read."""


class EtcdCheckpoints:
    """Records under `checkpoints/`. `passed_over` counts damage."""

    def __init__(self, line: EtcdLine) -> None:
        self._line = line
        self._records = EtcdRecords(line, _INLINE_BYTES_MAX)
        self.passed_over = 0

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep one durably; raises `Unavailable`."""
        packed = self._records.pack(_name(checkpoint.revision), checkpoint.body)
        self._line.change(packed.guards, (packed.write,))
        for old in self._newest_first()[CHECKPOINTS_KEPT:]:
            self._line.change((), self._records.remove(old))

    def newest(self, revision_max: int) -> Checkpoint | None:
        """The newest whole one not above `revision_max`, which is the journal's head."""
        for name in self._newest_first():
            revision = _revision(name)
            found, _ = self._line.get(name)
            if found is not None and revision is not None and revision <= revision_max:
                try:
                    return Checkpoint(revision, self._records.unpack(found))
                except Gone:
                    continue  # two newer ones came
                except Damaged:
                    self.passed_over += 1
        return None

    def _newest_first(self) -> list[str]:
        found = self._line.under(CHECKPOINTS, keys_only=True)
        return sorted((self._line.name(each.key) for each in found), reverse=True)


def _name(revision: int) -> str:
    return f"{CHECKPOINTS}{revision:016d}"


def _revision(name: str) -> int | None:
    digits = name.removeprefix(CHECKPOINTS)
    return int(digits) if digits.isdecimal() else None

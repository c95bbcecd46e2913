"""The streams of an edge: two fan-outs in one room, and what switches them off.

Off by a setting, by a file that is looked for once a second, or because every snapshot here was
signed with `streams: false`. Nothing but promptness is lost: clients poll on.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from holdfast.apps.edge.table import Active
from holdfast.apps.observe import logger
from holdfast.apps.streams import Fanout, Room, Tally

OFF_FILE: Final = "streams-off"
"""In the cache directory; while it is there, streams are off."""
SHARE: Final = 0.9
"""Of the connections of an edge: as many may be streams, the others are kept for questions."""

_log = logger("holdfast.edge")


class Hints:
    """See the module. `look` may be called from any thread."""

    def __init__(
        self, cache_dir: Path, connections_max: int, *, on: bool = True, cuts: bool = True
    ) -> None:
        self.room = Room(int(connections_max * SHARE), cuts=cuts)
        self.changes, self.refetches = Fanout(self.room), Fanout(self.room)
        self._file = cache_dir / OFF_FILE
        self._on = on
        self._why = ""
        self.look(())

    @property
    def tallies(self) -> tuple[Tally, Tally]:
        return self.changes.tally, self.refetches.tally

    def look(self, table: Iterable[Active]) -> None:
        """See whether streams are on, and end those that are open when they no longer are."""
        why = self._why_off(table)
        if why == self._why:
            return
        self._why = why
        self.room.switch(off=bool(why))
        if why:
            _log.warning("streams are off: clients poll", why=why)
        else:
            _log.warning("streams are on again")

    def close(self) -> None:
        """End all of them; on the event loop."""
        self.changes.close()
        self.refetches.close()

    def _why_off(self, table: Iterable[Active]) -> str:
        if not self._on:
            return "--no-streams"
        if self._is_there():
            return f"{self._file} is there"
        pacing = [active.snapshot.holdfast.pacing for active in table]
        if pacing and not any(each.streams for each in pacing):
            return "every snapshot is signed with streams: false"
        return ""

    def _is_there(self) -> bool:
        """As far as the disk can say; where it can't, streams go on."""
        try:
            return self._file.exists()
        except OSError:
            return False

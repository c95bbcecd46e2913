"""A control-plane node whose watch hears nothing while a file is there, as by a line that was cut.

python -m tests.end_to_end.lagging_node FILE control --store …
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.apps.cli import main
from holdfast.core.model import Entry


def lag(held: Path) -> None:
    watch = SqliteJournal.watch

    def deaf(self: SqliteJournal, after: int, timeout_s: float) -> Sequence[Entry]:
        if held.exists():
            time.sleep(timeout_s)
            return ()
        return watch(self, after, timeout_s)

    SqliteJournal.watch = deaf  # type: ignore[method-assign]


if __name__ == "__main__":
    lag(Path(sys.argv[1]))
    main(sys.argv[2:])

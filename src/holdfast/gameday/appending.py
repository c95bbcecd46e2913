"""A journal that grows, and says after each append what was acknowledged; for `syscalls`.

    python -m holdfast.gameday.appending DIRECTORY SEED ENTRIES

Large entries among small ones make SQLite carry its log over into the file now and then.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Final

from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.history import seal
from holdfast.core.model import PutSetting, Setting
from holdfast.ports import Checkpoint

LARGE_EVERY: Final = 8
LARGE_CHARS: Final = 400_000
SMALL_CHARS: Final = 2_000
CHECKPOINT_EVERY: Final = 10


def main(directory: Path, seed: int, entries: int) -> None:
    """Append, and write `ack REVISION HASH` to standard output after each."""
    chance = random.Random(seed)  # noqa: S311  sizes, no secret
    journal = SqliteJournal(directory / "journal.db")
    for number in range(1, entries + 1):
        head = journal.head()
        most = SMALL_CHARS if number % LARGE_EVERY else LARGE_CHARS
        setting = Setting("string", {"on": "x" * chance.randrange(most // 2, most)})
        entry = seal(head, number, "nobody", "it grows", [PutSetting("shop", "text", setting)])
        journal.append(entry)
        os.write(1, f"ack {entry.revision} {entry.hash}\n".encode())
        if number % CHECKPOINT_EVERY == 0:
            journal.save_checkpoint(Checkpoint(number, b"state %d" % number))
    journal.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

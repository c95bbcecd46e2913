"""The journal on disks that are really sick: a refused append is no entry, and none is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.adapters.memory import MemoryDigests
from holdfast.adapters.mending_digests import MendingDigests
from holdfast.adapters.sqlite_digests import SqliteDigests
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import Damaged
from holdfast.core.model import Subject
from holdfast.gameday.disks import KINDS, Disk, Kind
from holdfast.ports import Imprint

WRITER = """
import sys, json
from pathlib import Path
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import HoldfastError
from holdfast.core.history import seal
from holdfast.core.model import DeleteSetting
journal = SqliteJournal(Path(sys.argv[1]))
for line in sys.stdin:
    head, code = journal.head(), ""
    edits = [DeleteSetting("shop", f"k{n:05d}") for n in range(int(line))]
    try:
        journal.append(seal(head, head.revision, "child", "why", edits))
    except HoldfastError as error:
        code = error.code
    read = sum(1 for _ in journal.read())
    print(json.dumps([code, journal.head().revision, read]), flush=True)
"""
CODES = {
    "full": {"disk-full"},
    "read-only": {"disk-read-only"},
    "fsync error": {"disk-fault"},
    "short write": {"disk-full", "disk-fault"},
}
BIG = 3_000
"""Edits of an entry that no page cache nor a rest of the log holds."""


class Writer:
    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            (sys.executable, "-c", WRITER, str(path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def append(self, edits: int = 1) -> tuple[str, int, int]:
        """(code of what was raised, head, entries read)"""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{edits}\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self.process.stdout.readline(), type=tuple[str, int, int])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "disk", 1024 * 1024) as disk:
        yield disk


@pytest.fixture
def writer(disk: Disk) -> Iterator[Writer]:
    writer = Writer(disk.path / "journal.db")
    yield writer
    writer.process.kill()
    writer.process.communicate()


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_append_is_no_entry_and_says_why(kind: Kind, disk: Disk, writer: Writer) -> None:
    assert writer.append() == ("", 1, 1)
    with disk.sick(kind, writer.process.pid):
        code, head, read = writer.append(BIG)
        assert code in CODES[kind]
        assert (head, read) == (1, 1), "what was there is read as before"
        assert writer.append(BIG)[1:] == (1, 1)
    assert writer.append(BIG) == ("", 2, 2)
    writer.process.kill()
    writer.process.wait()
    journal = SqliteJournal(disk.path / "journal.db")
    assert [entry.revision for entry in journal.read()] == [1, 2]
    journal.close()


OPENER = """
import sys
from pathlib import Path
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import HoldfastError
sys.stdin.readline()
try:
    SqliteJournal(Path(sys.argv[1])).close()
except HoldfastError as error:
    print(error.code)
"""


def test_a_journal_that_can_not_be_opened_for_want_of_room_says_so(disk: Disk) -> None:
    path = disk.path / "journal.db"
    SqliteJournal(path).close()
    with subprocess.Popen(
        (sys.executable, "-c", OPENER, str(path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as opener:
        with disk.sick("full", opener.pid):
            told, _ = opener.communicate("now\n")
        assert told.strip() == ("disk-full" if disk.mounted else "disk-fault")
    assert SqliteJournal(path).head().revision == 0


def imprint(revision: int) -> Imprint:
    return Imprint(Subject("production", "shop"), revision, "ab" * 32, "cd" * 32, "build")


@pytest.mark.parametrize("how", ["header", "row", "empty"])
def test_a_rotten_record_of_digests_is_begun_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "digests.db"
    digests = SqliteDigests(path)
    digests.put([imprint(1)])
    digests.close()
    content = path.read_bytes()
    path.write_bytes(
        {
            "header": b"rot" + content[3:],
            "row": content.replace(b"\xcd" * 32, b"\xce" * 32),
            "empty": b"",
        }[how]
    )
    told: list[Damaged] = []
    mending = MendingDigests(path, told.append)
    assert mending.put([imprint(1)]) == [imprint(1)]
    assert (mending.mended, len(told)) == (1, 1)
    assert list(mending.all()) == [imprint(1)]
    mending.close()
    assert path.with_name("digests.db.damaged").exists(), "for a look"
    again = MendingDigests(path, told.append)
    assert list(again.all()) == [imprint(1)]
    assert len(told) == 1
    again.close()


def test_a_record_that_is_sound_is_as_before(tmp_path: Path) -> None:
    mending, memory = MendingDigests(tmp_path / "digests.db"), MemoryDigests()
    for digests in (mending, memory):
        digests.put([imprint(1)])
    assert list(mending.all()) == list(memory.all())
    mending.close()

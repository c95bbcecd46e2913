"""The SQLite journal against what only a file, a disk and other processes can do to it."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import Damaged, OperatorError, Unavailable
from holdfast.core.history import seal, verify_link
from holdfast.core.model import GENESIS, Entry, Head, PutSetting, Setting, Targeting
from holdfast.ports import Checkpoint

DEADLINE_S = 60.0
CASES = 1_000
CASES_LONG = 10_000

PRELUDE = """
import sys
from pathlib import Path
from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import Conflict, Unavailable
from holdfast.core.history import seal
from holdfast.core.model import DeleteSetting
journal = SqliteJournal(Path(sys.argv[1]))
def entry(word):
    head = journal.head()
    return seal(head, head.revision, "child", "why", [DeleteSetting("shop", word)])
"""


def next_entry(head: Head) -> Entry:
    value = head.revision
    setting = Setting("integer", {"few": value}, {"production": Targeting("few")}, "words " * 20)
    return seal(head, value, "ann", "why", [PutSetting("shop", f"k{value % 7}", setting)])


def grow(journal: SqliteJournal, entries: int) -> list[Entry]:
    made = []
    for _ in range(entries):
        made.append(next_entry(journal.head()))
        journal.append(made[-1])
    return made


def program(text: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(text), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[bytes]) -> bytes:
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    return out


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(path)
    yield made
    made.close()


class TestRestarts:
    def test_what_was_appended_is_there_after_a_restart(self, path: Path) -> None:
        journal = SqliteJournal(path)
        made = grow(journal, 30)
        journal.save_checkpoint(Checkpoint(20, b"state"))
        journal.close()

        again = SqliteJournal(path)
        assert list(again.read()) == made
        assert again.checkpoint() == Checkpoint(20, b"state")
        again.close()

    def test_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(self, path: Path) -> None:
        journal = SqliteJournal(path)
        grow(journal, 5)
        for revision in (1, 2, 3):
            journal.save_checkpoint(Checkpoint(revision, b"state of %d" % revision))
        files = sorted(path.with_name("journal.db-checkpoints").iterdir())
        assert [file.name for file in files] == ["checkpoint-2", "checkpoint-3"]

        body = files[1].read_bytes()
        files[1].write_bytes(body[:-1] + b"X")
        assert journal.checkpoint() == Checkpoint(2, b"state of 2")
        files[0].write_bytes(b"")
        assert journal.checkpoint() is None
        journal.close()

    def test_a_checkpoint_that_cannot_be_written_is_unavailable(
        self, journal: SqliteJournal, path: Path
    ) -> None:
        grow(journal, 1)
        path.with_name("journal.db-checkpoints").write_bytes(b"in the way")
        with pytest.raises(Unavailable):
            journal.save_checkpoint(Checkpoint(1, b"state"))

    def test_any_flip_or_cut_of_a_checkpoint_is_seen(self, path: Path) -> None:
        journal = SqliteJournal(path)
        grow(journal, 1)
        journal.save_checkpoint(Checkpoint(1, b"a state of some length"))
        file = path.with_name("journal.db-checkpoints") / "checkpoint-1"
        body = file.read_bytes()
        for place in range(len(body)):
            file.write_bytes(flipped(body, place, 1))
            assert journal.checkpoint() is None
            file.write_bytes(body[:place])
            assert journal.checkpoint() is None
        file.write_bytes(body)
        assert journal.checkpoint() == Checkpoint(1, b"a state of some length")
        journal.close()


class TestOtherProcesses:
    def test_entries_of_another_process_are_watched(
        self, journal: SqliteJournal, path: Path
    ) -> None:
        process = program('journal.append(entry("x"))', path)
        assert [entry.actor for entry in journal.watch(0, DEADLINE_S)] == ["child"]
        finished(process)

    def test_of_two_processes_on_one_revision_exactly_one_wins(self, path: Path) -> None:
        SqliteJournal(path).close()
        text = """
            mine = entry(sys.argv[2])
            print("ready", flush=True)
            sys.stdin.readline()
            try:
                journal.append(mine)
                print("won")
            except Conflict as conflict:
                print("lost", conflict.expected_revision, conflict.actual_revision)
        """
        processes = [program(text, path, word) for word in ("left", "right")]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        outs = sorted(process.communicate(b"go\n", DEADLINE_S)[0] for process in processes)
        assert outs == [b"lost 0 1\n", b"won\n"]

    def test_two_processes_that_try_again_make_one_chain(self, path: Path) -> None:
        SqliteJournal(path).close()
        text = """
            left = 40
            while left:
                try:
                    journal.append(entry(f"{sys.argv[2]}{left}"))
                    left -= 1
                except Conflict:
                    pass
        """
        for process in [program(text, path, word) for word in ("left", "right")]:
            finished(process)
        journal = SqliteJournal(path)
        assert len(list(journal.read())) == 80
        journal.close()

    def test_a_process_killed_while_it_appends_loses_nothing_acknowledged(self, path: Path) -> None:
        text = """
            while True:
                made = entry("x" * 500)
                journal.append(made)
                print(made.revision, made.hash, flush=True)
        """
        chance, acknowledged = random.Random(7), GENESIS
        for _ in range(5):
            process = program(text, path)
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(chance.randrange(1, 60))]
            process.kill()
            lines += process.stdout.readlines()
            process.communicate(timeout=DEADLINE_S)
            journal = SqliteJournal(path)
            for line in lines:
                if not line.endswith(b"\n"):
                    continue
                revision, digest = line.split()
                acknowledged = Head(int(revision), digest.decode())
                entry = next(iter(journal.read(acknowledged.revision - 1, 1)))
                assert entry.hash == acknowledged.hash
            previous = GENESIS
            for entry in journal.read():
                verify_link(previous, entry)
                previous = Head(entry.revision, entry.hash)
            assert previous == journal.head()
            assert previous.revision >= acknowledged.revision
            journal.close()
        assert acknowledged.revision > 0

    def test_a_forked_child_is_refused_and_does_the_parent_no_harm(
        self, journal: SqliteJournal, path: Path
    ) -> None:
        text = """
            import os
            journal.append(entry("before"))
            child = os.fork()
            if child == 0:
                calls = (journal.head, lambda: list(journal.read()), lambda: journal.watch(0, 0.0))
                refused = 0
                for call in calls:
                    try:
                        call()
                    except Unavailable as error:
                        refused += "before a fork" in str(error)
                journal.close()
                os._exit(0 if refused == 3 else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            journal.append(entry("after"))
            journal.close()
        """
        assert finished(program(text, path)) == b"0\n"
        assert [entry.revision for entry in journal.read()] == [1, 2]


class TestDisks:
    def test_a_full_disk_is_said_and_nothing_half_written(self, path: Path) -> None:
        SqliteJournal(path).close()
        text = """
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            kept = 0
            try:
                while kept < 2_000:
                    journal.append(entry("x" * 400 + str(kept)))
                    kept += 1
            except Unavailable:
                assert journal.head().revision == kept, (journal.head(), kept)
                print(kept, flush=True)
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                journal.append(entry("room again"))
                journal.close()
        """
        kept = int(finished(program(text, path)))
        journal = SqliteJournal(path)
        assert 0 < kept < 2_000
        assert len(list(journal.read())) == kept + 1
        journal.close()

    def test_a_directory_that_is_not_there_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="no/such"):
            SqliteJournal(tmp_path / "no" / "such" / "journal.db")

    def test_a_journal_that_others_hold_is_unavailable_after_a_bounded_wait(
        self, path: Path
    ) -> None:
        journal = SqliteJournal(path, busy_timeout_s=0.05)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            journal.append(next_entry(GENESIS))
        other.execute("ROLLBACK")
        other.close()
        assert len(grow(journal, 1)) == 1
        journal.close()

    def test_a_file_that_may_not_be_written_is_unavailable(self, path: Path) -> None:
        SqliteJournal(path).close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()
        body = bytearray(path.read_bytes())
        body[18] = (
            3  # a file format version to write that this SQLite doesn't know: read-only to it
        )
        path.write_bytes(body)
        with pytest.raises(OperatorError):
            SqliteJournal(path)


def flipped(body: bytes, place: int, bits: int) -> bytes:
    return body[:place] + bytes([body[place] ^ bits]) + body[place + 1 :]


def damage(chance: random.Random, body: bytes) -> bytes:
    """One random flip of one to eight bits of a byte, or a cut."""
    if chance.random() < 0.2:
        return body[: chance.randrange(len(body))]
    return flipped(body, chance.randrange(len(body)), chance.randrange(1, 256))


def outcome(path: Path) -> list[Entry] | str:
    """All that a journal gives, or how it refuses."""
    try:
        journal = SqliteJournal(path)
    except (Damaged, Unavailable) as error:
        return str(error)
    try:
        return list(journal.read())
    except Damaged as error:
        return str(error)
    finally:
        journal.close()


class TestDamage:
    def test_a_flip_or_a_cut_anywhere_gives_nothing_wrong(self, path: Path) -> None:
        damage_closed_file(path, CASES, seed=1)

    @pytest.mark.long
    def test_a_flip_or_a_cut_anywhere_gives_nothing_wrong_at_length(self, path: Path) -> None:
        damage_closed_file(path, CASES_LONG, seed=2)

    def test_a_flip_or_a_cut_of_the_log_of_a_killed_process_loses_nothing_unseen(
        self, path: Path
    ) -> None:
        files, made = killed(path)
        log = files["journal.db-wal"]
        assert len(log) > 10_000
        chance, refused = random.Random(3), 0
        for _ in range(100):
            put(path, {**files, "journal.db-wal": damage(chance, log)})
            found = outcome(path)
            assert isinstance(found, str) or found == made
            refused += isinstance(found, str)
        put(path, {name: body for name, body in files.items() if not name.endswith("-wal")})
        assert isinstance(outcome(path), str)
        assert refused > 50

    def test_without_its_witness_the_end_of_a_damaged_log_is_lost_unseen(self, path: Path) -> None:
        files, made = killed(path)
        log = files["journal.db-wal"]
        put(path, {**files, "journal.db-wal": flipped(log, len(log) * 2 // 3, 1)})
        path.with_name("journal.db-head").unlink()
        found = outcome(path)
        assert not isinstance(found, str)
        assert found != made
        assert found == made[: len(found)]

    def test_a_damaged_witness_says_nothing_and_is_written_anew(self, path: Path) -> None:
        journal = SqliteJournal(path)
        made = grow(journal, 3)
        journal.close()
        body = witness(path).read_bytes()
        for place in range(len(body)):
            witness(path).write_bytes(flipped(body, place, 1))
            assert outcome(path) == made
        journal = SqliteJournal(path)
        grow(journal, 1)
        journal.close()
        path.unlink()
        with pytest.raises(Damaged, match="it held 4 entries"):
            SqliteJournal(path)

    @pytest.mark.parametrize("body", [b"", b"x", b"SQLite format 3\0", bytes(8_192)])
    def test_what_is_no_journal_is_refused_with_the_way_out(self, path: Path, body: bytes) -> None:
        path.write_bytes(body)
        with pytest.raises(Damaged, match="put back a backup") as caught:
            SqliteJournal(path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == body

    def test_a_file_that_vanished_is_not_begun_anew(self, path: Path) -> None:
        journal = SqliteJournal(path)
        grow(journal, 3)
        journal.close()
        path.unlink()
        with pytest.raises(Damaged, match="missing, and it held 3 entries"):
            SqliteJournal(path)

    def test_an_older_copy_put_back_is_refused_until_the_loss_is_accepted(self, path: Path) -> None:
        journal = SqliteJournal(path)
        grow(journal, 3)
        journal.close()
        backup = path.read_bytes()
        journal = SqliteJournal(path)
        grow(journal, 2)
        journal.close()

        path.write_bytes(backup)
        with pytest.raises(Damaged, match=r"entry 5 was acknowledged.*journal\.db-head"):
            SqliteJournal(path)
        path.with_name("journal.db-head").unlink()
        again = SqliteJournal(path)
        assert again.head().revision == 3
        again.close()

    @pytest.mark.parametrize(
        ("tamper", "said"),
        [
            (
                "UPDATE entries SET body = CAST(replace(body, 'ann', 'eve') AS BLOB)",
                "entry 1",
            ),
            ("UPDATE entries SET hash = zeroblob(32) WHERE revision = 3", "entry 3"),
            ("DELETE FROM entries WHERE revision = 3", "entry 4 does not continue entry 2"),
            ("DELETE FROM entries WHERE revision >= 5", "its last entry is 4, its head 6"),
            ("UPDATE head SET revision = 5", "its last entry is 6, its head 5"),
            ("DELETE FROM head", "no head"),
            ("DROP TABLE entries", "its tables"),
            ("PRAGMA application_id = 7", "its header"),
        ],
    )
    def test_tampering_is_refused_by_name(self, path: Path, tamper: str, said: str) -> None:
        journal = SqliteJournal(path)
        grow(journal, 6)
        journal.close()
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(tamper)
        connection.close()
        with pytest.raises(Damaged, match=said):
            SqliteJournal(path)

    def test_damage_that_comes_while_it_is_open_is_seen_on_reading(self, path: Path) -> None:
        journal = SqliteJournal(path)
        grow(journal, 6)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("UPDATE entries SET hash = zeroblob(32) WHERE revision = 3")
        other.close()
        with pytest.raises(Damaged, match="entry 3"):
            list(journal.read())
        journal.close()


def damage_closed_file(path: Path, cases: int, seed: int) -> None:
    journal = SqliteJournal(path)
    made = grow(journal, 60)
    journal.close()
    files = {"journal.db": path.read_bytes(), "journal.db-head": witness(path).read_bytes()}
    chance, refused = random.Random(seed), 0
    for _ in range(cases):
        put(path, {**files, "journal.db": damage(chance, files["journal.db"])})
        found = outcome(path)
        assert isinstance(found, str) or found == made
        refused += isinstance(found, str)
    assert refused > cases // 2


def witness(path: Path) -> Path:
    return path.with_name("journal.db-head")


def killed(path: Path) -> tuple[dict[str, bytes], list[Entry]]:
    """The files of a process killed after its appends, and what it had appended."""
    text = """
        for number in range(40):
            journal.append(entry("x" * 200 + str(number)))
        print("done", flush=True)
        sys.stdin.readline()
    """
    process = program(text, path)
    assert process.stdout is not None
    assert process.stdout.readline() == b"done\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)
    files = {
        file.name: file.read_bytes()
        for file in path.parent.iterdir()
        if file.is_file() and not file.name.endswith("-shm")
    }
    journal = SqliteJournal(path)
    made = list(journal.read())
    journal.close()
    assert len(made) == 40
    return files, made


def put(path: Path, files: dict[str, bytes]) -> None:
    """Make the journal's files exactly these."""
    for file in path.parent.iterdir():
        if file.is_file():
            file.unlink()
    for name, body in files.items():
        path.with_name(name).write_bytes(body)

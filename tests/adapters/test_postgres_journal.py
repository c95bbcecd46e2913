"""The journal in PostgreSQL when its server, the line to it, or its rows go bad."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from holdfast.adapters.entry_rows import BATCH, sealed
from holdfast.adapters.postgres_ear import PostgresEar
from holdfast.adapters.postgres_journal import PostgresJournal
from holdfast.adapters.postgres_line import Line, PostgresLine
from holdfast.adapters.postgres_store import PostgresStore
from holdfast.core.errors import Conflict, Damaged, Unavailable
from holdfast.core.history import seal
from holdfast.core.model import GENESIS, DeleteSetting, Entry, Head
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import until
from holdfast.gameday.proxy import ANSWERS_LOST, PASS, QUESTIONS_LOST, Fault, Proxy, Way
from holdfast.ports import Checkpoint, Journal

DEADLINE_S = 30.0
LONG_S = 1_000.0
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
_schemas = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that is killed and stopped; data survive that without `fsync`, as the machine lives."""
    with Postgres(settings={"fsync": "off"}) as running:
        yield running


@pytest.fixture
def url(server: Postgres) -> str:
    return f"{server.url}?schema=journal_{next(_schemas)}&timeout_s=20"


def opened(url: str) -> contextlib.closing[PostgresStore]:
    return contextlib.closing(PostgresStore(url))


def schema_of(url: str) -> str:
    return url.partition("schema=")[2].partition("&")[0]


def by_way_of(url: str, port: int, timeout_s: float) -> str:
    """The same store by way of a proxy, with a short time-out."""
    before, _, after = url.partition("@")
    database = after.partition("/")[2].partition("?")[0]
    where = f"{before}@127.0.0.1:{port}/{database}"
    return f"{where}?schema={schema_of(url)}&timeout_s={timeout_s}"


def next_entry(head: Head, word: str = "k") -> Entry:
    return seal(head, head.revision, "ann", "why", [DeleteSetting("shop", word)])


def grow(journal: Journal, entries: int = 1) -> None:
    for _ in range(entries):
        journal.append(next_entry(journal.head()))


@contextlib.contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """`work` in a thread of its own, which ends in time."""
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


class TestWatching:
    def test_a_notice_of_another_node_wakes_who_watches(self, url: str) -> None:
        line = PostgresLine(url)
        with opened(url) as other:
            journal = PostgresJournal(line, poll_interval_s=LONG_S)
            seen: list[int] = []
            for revision in range(1, 4):
                with meanwhile(lambda: seen.extend(_revisions(journal, len(seen)))):
                    grow(other.journal)
                assert seen == list(range(1, revision + 1))
            journal.close()
        line.close()

    def test_an_entry_that_nobody_tells_of_is_found(self, server: Postgres, url: str) -> None:
        with opened(url) as store:
            seen: list[int] = []
            entry = next_entry(GENESIS)
            with meanwhile(lambda: seen.extend(_revisions(store.journal, 0))):
                _insert_in_silence(store, entry)
            assert seen == [1]

    def test_a_restart_in_the_middle_of_a_watch_makes_no_gap(
        self, server: Postgres, url: str
    ) -> None:
        with opened(url) as watched, opened(url) as writing:
            seen: list[int] = []

            def watch() -> None:
                while len(seen) < 6:
                    seen.extend(_revisions(watched.journal, len(seen)))

            with meanwhile(watch):
                for _ in range(2):
                    grow(writing.journal)
                    server.kill()
                    server.start()
                    grow(writing.journal, 2)
            assert seen == [1, 2, 3, 4, 5, 6]

    def test_a_watch_of_a_dead_server_says_so_when_its_time_is_over(
        self, server: Postgres, url: str
    ) -> None:
        with opened(url) as store:
            server.kill()
            try:
                with pytest.raises(Unavailable):
                    store.journal.watch(0, 0.2)
            finally:
                server.start()
            assert list(store.journal.watch(0, 0.0)) == []

    def test_a_watch_of_a_stopped_server_goes_on_when_it_does(
        self, server: Postgres, url: str
    ) -> None:
        with opened(by_way_of(url, server.port, 4.0)) as store, opened(url) as other:
            seen: list[int] = []
            with meanwhile(lambda: seen.extend(_revisions(store.journal, 0))):
                server.stop()
                with pytest.raises(Unavailable), opened(by_way_of(url, server.port, 0.5)):
                    pass
                server.cont()
                grow(other.journal)
            assert seen == [1]

    def test_one_ear_serves_all_who_watch_in_a_process(self, server: Postgres, url: str) -> None:
        with opened(url) as store:
            seen: list[int] = []
            count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            with contextlib.ExitStack() as stack:
                for _ in range(4):
                    watch = lambda: seen.extend(_revisions(store.journal, 0))  # noqa: E731
                    stack.enter_context(meanwhile(watch))
                while server.ask(count) != [(1,)]:
                    pass
                grow(store.journal)
            assert seen == [1] * 4


class TestAppending:
    def test_what_was_acknowledged_outlives_kills_in_the_middle_of_appends(
        self, server: Postgres, url: str
    ) -> None:
        acknowledged: list[Head] = []
        enough = threading.Event()

        def write(store: PostgresStore, word: str) -> None:
            while not enough.is_set():
                with contextlib.suppress(Conflict, Unavailable):
                    entry = next_entry(store.journal.head(), word)
                    store.journal.append(entry)
                    acknowledged.append(Head(entry.revision, entry.hash))

        with contextlib.ExitStack() as stack:
            stores = [stack.enter_context(opened(url)) for _ in range(3)]
            for number, store in enumerate(stores):
                stack.enter_context(
                    meanwhile(lambda store=store, word=f"w{number}": write(store, word))  # type: ignore[misc]
                )
            stack.callback(enough.set)
            for _ in range(3):
                wanted = len(acknowledged) + 20
                while len(acknowledged) < wanted:
                    enough.wait(0.01)
                server.kill()
                server.start()
            enough.set()
        with opened(url) as again:
            there = [Head(entry.revision, entry.hash) for entry in again.journal.read()]
        assert set(acknowledged) <= set(there)
        assert len({head.revision for head in acknowledged}) == len(acknowledged)

    @pytest.mark.parametrize(
        ("fault", "stands"), [(ANSWERS_LOST, True), (QUESTIONS_LOST, False)], ids=["answer", "call"]
    )
    def test_a_lost_answer_is_told_and_not_guessed(
        self, server: Postgres, url: str, fault: Fault, stands: bool
    ) -> None:
        with Proxy(server.port) as proxy, opened(by_way_of(url, proxy.port, 3.0)) as store:
            head = store.journal.head()
            proxy.be(fault)
            with pytest.raises(Unavailable, match="not known"):
                store.journal.append(next_entry(head, "lost"))
            with opened(url) as other:
                assert len(other.journal.watch(0, DEADLINE_S if stands else 0.0)) == stands
            proxy.cut()
            proxy.be(PASS)
            assert (store.journal.head().revision == 1) is stands
            grow(store.journal)

    def test_an_entry_that_waited_for_a_mark_to_go_is_there_whole(
        self, server: Postgres, url: str
    ) -> None:
        """Its one statement began on the head's row as it was, and goes on with what it became."""
        with opened(url) as store, opened(url) as other:
            other.journal._line.rows("UPDATE head SET mark = 'filling: nearly done'")
            entry = next_entry(GENESIS)
            with other.journal._line.transaction() as line:
                line.execute(b"UPDATE head SET mark = ''")
                with meanwhile(lambda: store.journal.append(entry)):
                    until(lambda: server.ask(WAITING) == [(1,)], "the append to wait", DEADLINE_S)
                    line.execute(b"COMMIT; BEGIN")
            assert list(other.journal.read()) == [entry]
            grow(other.journal)

    def test_wherever_a_line_breaks_an_entry_is_there_whole_or_not_at_all(
        self, server: Postgres, url: str
    ) -> None:
        for bytes_passed in range(0, 1_200, 150):
            with Proxy(server.port) as proxy, opened(by_way_of(url, proxy.port, 5.0)) as store:
                head = store.journal.head()
                entry = next_entry(head, "x" * 100)
                proxy.be(Fault(up=Way(reset_after=bytes_passed)))
                with contextlib.suppress(Unavailable):
                    store.journal.append(entry)
            with opened(url) as other:
                assert other.journal.head() in (head, Head(entry.revision, entry.hash))

    def test_a_journal_longer_than_a_page_is_moved_and_read(self, url: str) -> None:
        head, entries = GENESIS, []
        for _ in range(3 * BATCH):
            entries.append(next_entry(head, "x" * 50))
            head = Head(entries[-1].revision, entries[-1].hash)
        with opened(url) as store:
            store.journal.append_all(entries)
            assert list(store.journal.read()) == entries
            with pytest.raises(Conflict):
                store.journal.append_all(entries[:2])
        with opened(url) as again:
            assert again.journal.head() == head


class TestDamage:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entries SET body = body || ' ' WHERE revision = 3",
            "UPDATE entries SET hash = sha256('x') WHERE revision = 3",
            "DELETE FROM entries WHERE revision = 3",
            "DELETE FROM entries WHERE revision = 5",
            "DELETE FROM entries",
            "UPDATE entries SET revision = 9 WHERE revision = 5",
            "UPDATE entries SET (body, hash) = (SELECT body, hash FROM entries WHERE revision = 2)",
            "INSERT INTO entries SELECT 6, hash, body FROM entries WHERE revision = 5",
            "UPDATE head SET revision = 4",
            "UPDATE head SET hash = sha256('x')",
            "DELETE FROM head",
            "DROP TABLE entries",
        ],
    )
    def test_damage_is_refused_at_start_with_the_way_out(
        self, server: Postgres, url: str, statement: str
    ) -> None:
        with opened(url) as store:
            grow(store.journal, 5)
        server.ask(f"SET search_path = {schema_of(url)}; {statement}")
        with pytest.raises(Damaged, match="restore a backup"):
            PostgresStore(url)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entries SET body = body || ' ' WHERE revision = 3",
            "DELETE FROM entries WHERE revision = 3",
            "DELETE FROM entries WHERE revision = 5",
            "UPDATE entries SET revision = 9 WHERE revision = 5",
        ],
    )
    def test_damage_that_comes_later_is_refused_when_it_is_read(
        self, server: Postgres, url: str, statement: str
    ) -> None:
        with opened(url) as store:
            grow(store.journal, 5)
            server.ask(f"SET search_path = {schema_of(url)}; {statement}")
            with pytest.raises(Damaged):
                list(store.journal.read())
            with pytest.raises(Damaged):
                store.journal.watch(0, 0.0)

    def test_a_row_beyond_the_head_is_not_written_over(self, server: Postgres, url: str) -> None:
        with opened(url) as store:
            grow(store.journal, 5)
            more = "INSERT INTO entries SELECT 6, hash, body FROM entries WHERE revision = 5"
            server.ask(f"SET search_path = {schema_of(url)}; {more}")
            with pytest.raises(Damaged):
                grow(store.journal)

    def test_a_damaged_checkpoint_is_passed_over(self, server: Postgres, url: str) -> None:
        with opened(url) as store:
            grow(store.journal, 2)
            store.journal.save_checkpoint(Checkpoint(1, b"one"))
            store.journal.save_checkpoint(Checkpoint(2, b"two"))
            change = "UPDATE checkpoints SET body = 'twa' WHERE revision = 2"
            server.ask(f"SET search_path = {schema_of(url)}; {change}")
            assert store.journal.checkpoint() == Checkpoint(1, b"one")
            assert store.journal.passed_over == 1

    def test_a_head_that_went_back_is_not_believed(self, server: Postgres, url: str) -> None:
        """As after a fail-over to a server that had not got the last entry."""
        with opened(url) as store:
            grow(store.journal, 4)
            fourth = store.journal.head()
            grow(store.journal)
            fourth_row = "SELECT revision, hash FROM entries WHERE revision = 4"
            back = "DELETE FROM entries WHERE revision = 5"
            head = f"UPDATE head SET (revision, hash) = ({fourth_row})"  # noqa: S608  our own
            server.ask(f"SET search_path = {schema_of(url)}; {back}; {head}")
            with pytest.raises(Unavailable, match="seen before"):
                store.journal.head()
            with pytest.raises(Unavailable, match="seen before"):
                list(store.journal.read())
        with opened(url) as restarted:
            assert restarted.journal.head() == fourth


class Slow(PostgresLine):
    """A line on which others act while a connection of its own is being opened."""

    kept: Line | None = None
    meanwhile: Callable[[], None] | None = None

    def opened(self, budget_s: float, **parameters: str) -> Line:
        self.kept = super().opened(budget_s, **parameters)
        if self.meanwhile is not None:
            self.meanwhile()
        return self.kept


def test_an_ear_that_is_closed_while_it_begins_to_listen_hangs_up(server: Postgres) -> None:
    """Nobody else would, and the connection stayed open for as long as the process."""
    with contextlib.closing(Slow(f"{server.url}?timeout_s=20")) as line:
        ear = PostgresEar(line, "channel")
        line.meanwhile = ear.close
        ear.wait(0.0)
        assert line.kept is not None
        assert line.kept.closed


def _revisions(journal: Journal, after: int) -> list[int]:
    return [entry.revision for entry in journal.watch(after, DEADLINE_S)]


def _insert_in_silence(store: PostgresStore, entry: Entry) -> None:
    """What `append` does, but for the notice."""
    with store.journal._line.transaction() as line:
        line.execute(b"INSERT INTO entries VALUES (%s, %b, %b)", sealed(entry))
        line.execute(b"UPDATE head SET revision = %s, hash = %b", sealed(entry)[:2])

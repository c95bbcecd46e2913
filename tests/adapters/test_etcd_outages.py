"""The journal in etcd while answers are lost, streams break, and leaders are killed."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from tests.adapters.etcd_writing import grow, in_thread, next_entry, watched

from holdfast.adapters.etcd_line import ROUND_S
from holdfast.adapters.etcd_store import EtcdStore
from holdfast.core.errors import Conflict, Unavailable
from holdfast.core.model import GENESIS, DeleteSetting, Entry, Head
from holdfast.gameday.etcd import EtcdCluster
from holdfast.gameday.processes import until
from holdfast.gameday.proxy import ANSWERS_LOST, PASS, QUESTIONS_LOST, REFUSED, Proxy

WAIT_S = 3
"""Of a call whose time is to pass: a thread that is held up for a second makes it all the same."""
PATIENT_S = 20


def direct_to(cluster: EtcdCluster, prefix: str) -> contextlib.closing[EtcdStore]:
    """The same store with nothing in between."""
    return contextlib.closing(EtcdStore(f"{cluster.url}/{prefix}?timeout_s={PATIENT_S}"))


# Answers that are lost


@contextlib.contextmanager
def two_ways(
    cluster: EtcdCluster, prefix: str, timeout_s: float = PATIENT_S
) -> Iterator[tuple[Proxy, Proxy, EtcdStore]]:
    """A store that reaches one member by two lines, the first one first."""
    port = cluster.members[0].port
    with Proxy(port) as one, Proxy(port) as other:
        url = f"etcd://127.0.0.1:{one.port},127.0.0.1:{other.port}/{prefix}?timeout_s={timeout_s}"
        with contextlib.closing(EtcdStore(url)) as store:
            store.marked()
            yield one, other, store


def test_an_append_whose_answer_is_lost_is_told_to_be_unknown(etcd_cluster: EtcdCluster) -> None:
    with (
        Proxy(etcd_cluster.members[0].port) as proxy,
        contextlib.closing(
            EtcdStore(f"etcd://127.0.0.1:{proxy.port}/unknown?timeout_s={WAIT_S}")
        ) as store,
    ):
        entry = next_entry(store.journal.head())
        proxy.be(ANSWERS_LOST)
        with pytest.raises(Unavailable, match="entry 1 was written is not known"):
            store.journal.append(entry)
        proxy.be(PASS)
        until(lambda: store.journal.head() == Head(1, entry.hash), "the entry", 20)


def test_an_append_whose_answer_is_lost_is_asked_about_by_another_way(
    etcd_cluster: EtcdCluster,
) -> None:
    with two_ways(etcd_cluster, "another-way") as (one, _, store):
        one.be(ANSWERS_LOST)
        entry = next_entry(GENESIS)
        with in_thread(lambda: store.journal.append(entry)):
            one.cut()
        assert list(store.journal.read()) == [entry]


def test_asked_again_without_a_look_its_own_entry_would_be_a_conflict(etcd_url: str) -> None:
    """What the look at the entry's place protects from."""
    with contextlib.closing(EtcdStore(etcd_url)) as store:
        entry = next_entry(GENESIS)
        store.journal.append(entry)
        with pytest.raises(Conflict):
            store.journal.append(entry)


def test_a_question_that_arrives_late_writes_nothing(etcd_cluster: EtcdCluster) -> None:
    with two_ways(etcd_cluster, "late", WAIT_S) as (one, other, store):
        other.be(QUESTIONS_LOST)
        one.be(QUESTIONS_LOST)
        first = next_entry(GENESIS)
        with pytest.raises(Unavailable, match="not known"):
            store.journal.append(first)
        with direct_to(etcd_cluster, "late") as direct:
            direct.journal.append(next_entry(GENESIS, "another"))
            one.be(PASS)
            other.be(PASS)
            direct.journal.append(next_entry(direct.journal.head()))
            assert [entry.edits[0] for entry in direct.journal.read()] == [
                DeleteSetting("shop", "another"),
                DeleteSetting("shop", "k"),
            ]


def test_it_is_a_conflict_only_when_somebody_else_wrote(etcd_cluster: EtcdCluster) -> None:
    with two_ways(etcd_cluster, "truth") as (one, other, store):
        one.be(QUESTIONS_LOST)
        other.be(QUESTIONS_LOST)
        refused: list[Conflict] = []

        def append() -> None:
            with pytest.raises(Conflict) as caught:
                store.journal.append(next_entry(GENESIS))
            refused.append(caught.value)

        with (
            direct_to(etcd_cluster, "truth") as direct,
            in_thread(append),
        ):
            direct.journal.append(next_entry(GENESIS, "faster"))
            other.be(PASS)
        assert (refused[0].expected_revision, refused[0].actual_revision) == (0, 1)


def test_an_append_that_was_never_sent_is_not_unknown(etcd_cluster: EtcdCluster) -> None:
    with (
        Proxy(etcd_cluster.members[0].port) as proxy,
        contextlib.closing(
            EtcdStore(f"etcd://127.0.0.1:{proxy.port}/unsent?timeout_s={PATIENT_S}")
        ) as store,
    ):
        proxy.be(REFUSED)
        proxy.cut()
        until(lambda: proxy.open == 0, "the end of all connections", 20)
        with pytest.raises(Unavailable, match="does not answer") as caught:
            store.journal.append(next_entry(GENESIS))
        assert "not known" not in str(caught.value)


class _WithoutALeader(http.server.BaseHTTPRequestHandler):
    """A member of a cluster that has no quorum: it reads, and drops what it is to write."""

    asked: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        writes = b"request_put" in body
        if writes:
            self.asked.append(body)
        answer = b'{"error":"raft proposal dropped","code":2}' if writes else EMPTY
        self.send_response(500 if writes else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


EMPTY = b'{"header":{"revision":"7"},"succeeded":true,"responses":[{},{}]}'


def test_a_member_that_refuses_at_once_is_not_asked_without_a_pause() -> None:
    """It is not answered by a call for each millisecond of the time that an append has."""
    _WithoutALeader.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _WithoutALeader) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        url = f"etcd://127.0.0.1:{server.server_address[1]}?timeout_s={WAIT_S}"
        with (
            contextlib.closing(EtcdStore(url)) as store,
            pytest.raises(Unavailable, match="not known"),
        ):
            store.journal.append(next_entry(GENESIS))
        server.shutdown()
        serving.join()
    assert 2 <= len(_WithoutALeader.asked) <= WAIT_S / ROUND_S + 1


# Watches


def test_a_broken_stream_makes_no_gap_in_a_watch(etcd_cluster: EtcdCluster) -> None:
    with (
        two_ways(etcd_cluster, "broken") as (one, other, store),
        direct_to(etcd_cluster, "broken") as direct,
    ):
        seen: list[Entry] = []
        with in_thread(lambda: seen.extend(watched(store.journal, 30))):
            for turn in range(10):
                bad, good = (one, other) if turn % 2 else (other, one)
                good.be(PASS)
                bad.be((ANSWERS_LOST, REFUSED, QUESTIONS_LOST)[turn % 3])
                bad.cut()
                grow(direct.journal, 3)
        assert seen == list(direct.journal.read())


def test_a_watch_of_a_store_that_is_away_says_so(etcd_cluster: EtcdCluster) -> None:
    with two_ways(etcd_cluster, "away") as (one, other, store):
        one.be(REFUSED)
        other.be(REFUSED)
        for proxy in (one, other):
            proxy.cut()
        with pytest.raises(Unavailable):
            store.journal.watch(0, 0.5)


def test_three_members_two_kills_no_gap_and_nothing_lost(tmp_path: Path) -> None:
    """A writer and a watcher go on while the leader is killed, then the next one is stopped."""
    with (
        EtcdCluster(tmp_path / "etcd", 3) as cluster,
        contextlib.closing(EtcdStore(f"{cluster.url}?timeout_s={PATIENT_S}")) as writer,
        contextlib.closing(EtcdStore(f"{cluster.url}?timeout_s={PATIENT_S}")) as watcher,
    ):
        acknowledged: list[str] = []
        done = threading.Event()
        seen: list[Entry] = []

        def write() -> None:
            while not done.is_set():
                with contextlib.suppress(Unavailable):
                    entry = next_entry(writer.journal.head())
                    writer.journal.append(entry)
                    acknowledged.append(entry.hash)

        def watch() -> None:
            while not (done.is_set() and len(seen) >= len(acknowledged)):
                with contextlib.suppress(Unavailable):
                    seen.extend(watcher.journal.watch(len(seen), 1.0))

        def written(more: int) -> None:
            goal = len(acknowledged) + more
            while len(acknowledged) < goal:
                done.wait(0.01)

        with in_thread(write), in_thread(watch):
            written(20)
            killed = cluster.leader()
            killed.kill()
            written(20)
            killed.start()
            cluster.wait_healthy()
            stopped = cluster.leader()
            stopped.stop()
            written(20)
            stopped.cont()
            written(5)
            done.set()
        journal = list(writer.journal.read())
        assert [entry.hash for entry in journal if entry.hash in set(acknowledged)] == acknowledged
        assert seen == journal[: len(seen)]

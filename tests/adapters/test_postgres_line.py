"""Connections to PostgreSQL: bounded, encrypted when asked to, found again, discreet."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.adapters.certificates import make_tls
from tests.adapters.tls_front import TlsFront

from holdfast.adapters.postgres_line import PostgresLine
from holdfast.core.errors import Unavailable
from holdfast.gameday.etcd import Tls
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import free_ports

DEADLINE_S = 20.0
SHORT = "timeout_s=4"
"""For a time-out that is waited for: the half of it for a connection outlasts a held-up thread."""
ONE = "SELECT 1"
SECRET = "geheim/ß %41"
QUOTED = "geheim%2F%C3%9F%20%2541"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres(password=SECRET, settings={"fsync": "off"}) as running:
        yield running


def url_of(server: Postgres, *ports: int, query: str = "timeout_s=20", secret: str = QUOTED) -> str:
    before, _, after = server.url_by(*(ports or (server.port,))).rpartition("@")
    scheme = before.partition("://")[0]
    return f"{scheme}://holdfast:{secret}@{after}?{query}"


@contextlib.contextmanager
def line_to(url: str, **bounds: int) -> Iterator[PostgresLine]:
    with contextlib.closing(PostgresLine(url, **bounds)) as line:
        yield line


def ask(url: str) -> None:
    with line_to(url) as line:
        line.rows(ONE)


def test_a_statement_gives_its_rows_and_a_transaction_is_done_or_not(server: Postgres) -> None:
    with line_to(url_of(server)) as line:
        assert line.rows("SELECT %s::int, %b::bytea", (7, b"\0x")) == [(7, b"\0x")]
        line.rows("CREATE TABLE public.numbers (number int)")
        with line.transaction() as open_line:
            open_line.execute(b"INSERT INTO public.numbers VALUES (1)")
        with contextlib.suppress(ZeroDivisionError), line.transaction() as open_line:
            open_line.execute(b"INSERT INTO public.numbers VALUES (2)")
            raise ZeroDivisionError
        assert line.rows("SELECT number FROM public.numbers") == [(1,)]


def test_a_commit_waits_for_the_disk_whatever_the_server_is_set_to(server: Postgres) -> None:
    with psycopg.connect(url_of(server, query="")) as plain:
        plain.execute("ALTER ROLE holdfast SET synchronous_commit = off")
    try:
        with line_to(url_of(server)) as line:
            assert line.rows("SHOW synchronous_commit") == [("on",)]
    finally:
        server.ask("ALTER ROLE holdfast RESET synchronous_commit")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://holdfast:{secret}@127.0.0.1:{port}/postgres?no_such=1&password={secret}",
        "postgresql://holdfast:%zz{secret}@127.0.0.1:{port}/postgres",
        "postgresql://holdfast%3A{secret}@127.0.0.1:{port}/postgres",
        "postgresql://holdfast%3A{secret}:{secret}@127.0.0.1:{port}/postgres",
        "postgresql://holdfast:{secret}@127.0.0.1:no-port/postgres",
        "postgresql://holdfast:{secret}@127.0.0.1:1/postgres",
        "postgresql://holdfast:{secret}@no.such.host.invalid/postgres",
        "postgresql://holdfast:{secret}@127.0.0.1:{port}/no_such_database",
        "postgresql://nobody:{secret}@127.0.0.1:{port}/postgres",
        "postgresql://holdfast:{secret}@127.0.0.1:{port}/postgres?sslmode=verify-full",
        "postgresql://holdfast:{secret}@127.0.0.1:{port}/postgres?schema=Robert'--",
    ],
)
def test_no_error_and_no_log_holds_the_password(
    server: Postgres, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "otherwise-unheard-of"
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unavailable) as caught:
        ask(url.format(secret=wrong, port=server.port))
    told, error = [], caught.value
    while error is not None:
        told.append(f"{error!r} {error}")
        error = error.__cause__  # type: ignore[assignment]
    assert wrong not in " ".join(told)
    assert wrong not in caplog.text


def test_a_wrong_password_is_told_with_what_where_and_the_way_out(server: Postgres) -> None:
    with line_to(url_of(server, secret="wrong")) as line, pytest.raises(Unavailable) as caught:
        line.rows(ONE)
    for part in ("127.0.0.1", str(server.port), "password authentication failed", "fit it?"):
        assert part in str(caught.value)


class TestBounds:
    def test_a_stopped_server_costs_the_time_out_and_no_more(self, server: Postgres) -> None:
        with line_to(url_of(server, query=SHORT)) as line:
            line.rows(ONE)
            server.stop()
            try:
                for _ in range(2):  # on an open connection, then on a new one
                    began = time.monotonic()
                    with pytest.raises(Unavailable, match="no answer in time"):
                        line.rows(ONE)
                    assert time.monotonic() - began < DEADLINE_S
            finally:
                server.cont()
        with line_to(url_of(server)) as line:
            assert line.rows(ONE) == [(1,)]

    def test_without_our_own_clock_a_stopped_server_is_waited_for(self, server: Postgres) -> None:
        """The damage: bounds that the server keeps are no bounds when it is stopped."""
        bounds = "-c statement_timeout=100 -c lock_timeout=100"
        with psycopg.connect(url_of(server, query=""), options=bounds) as plain:
            plain.execute(ONE)
            server.stop()
            asking = threading.Thread(target=plain.execute, args=(ONE,))
            asking.start()
            asking.join(1.0)
            waiting = asking.is_alive()
            server.cont()
            asking.join(DEADLINE_S)
        assert waiting
        assert not asking.is_alive()

    def test_connections_are_bounded_and_the_bound_is_counted(self, server: Postgres) -> None:
        with line_to(url_of(server), connections_max=1) as line:
            with line.held(DEADLINE_S):
                line.timeout_s = 0.1
                with pytest.raises(Unavailable, match="busy"):
                    line.rows(ONE)
            assert line.busy == 1

    def test_many_callers_share_few_connections(self, server: Postgres) -> None:
        with line_to(url_of(server), connections_max=2) as line:
            seen: list[int] = []
            work = [
                threading.Thread(
                    target=lambda: seen.append(line.rows("SELECT pg_backend_pid()")[0][0])
                )
                for _ in range(12)
            ]
            for each in work:
                each.start()
            for each in work:
                each.join(DEADLINE_S)
            assert len(seen) == 12
            assert len(set(seen)) <= 2

    def test_who_falls_silent_in_a_transaction_holds_up_nobody_for_long(
        self, server: Postgres
    ) -> None:
        server.ask("CREATE TABLE IF NOT EXISTS public.one AS SELECT 1 AS number")
        lock = "SELECT number FROM public.one FOR UPDATE"

        def fall_silent(silent: PostgresLine, other: PostgresLine) -> None:
            with silent.transaction() as held:
                held.execute(lock.encode())
                assert other.rows(lock) == [(1,)]
                held.execute(lock.encode())

        short = url_of(server, query=SHORT)
        with line_to(short) as silent, line_to(url_of(server)) as other:
            with pytest.raises(Unavailable):
                fall_silent(silent, other)
            assert silent.rows(lock) == [(1,)]

    def test_a_lock_that_is_not_given_is_told_in_time(self, server: Postgres) -> None:
        server.ask("CREATE TABLE IF NOT EXISTS public.one AS SELECT 1 AS number")
        lock = "SELECT number FROM public.one FOR UPDATE"
        short = url_of(server, query=SHORT)
        with line_to(url_of(server)) as holder, line_to(short) as other:
            with holder.transaction() as held:
                held.execute(lock.encode())
                with pytest.raises(Unavailable, match="nothing was written"):
                    other.rows(lock)
            assert other.rows(lock) == [(1,)]

    def test_what_the_server_refuses_is_told_with_its_hint_and_was_not_done(
        self, server: Postgres
    ) -> None:
        with line_to(url_of(server)) as line:
            with pytest.raises(Unavailable, match=r"explicit type casts.*nothing was written"):
                line.rows("SELECT length(now())")
            with pytest.raises(Unavailable, match="is not known"):
                line.rows("SELECT pg_terminate_backend(pg_backend_pid())")
            assert line.rows(ONE) == [(1,)]

    def test_a_server_that_takes_no_writes_any_more_is_told(self, server: Postgres) -> None:
        with line_to(url_of(server)) as line:
            line.rows("SET default_transaction_read_only = on")
            with pytest.raises(Unavailable, match="takes no writes any more"):
                line.rows("CREATE TABLE public.more (number int)")


class TestTls:
    @pytest.fixture
    def tls(self, tmp_path: Path) -> Tls:
        return make_tls(tmp_path)

    def test_a_connection_is_encrypted_and_the_server_verified(
        self, server: Postgres, tls: Tls
    ) -> None:
        with TlsFront(server.port, tls) as front:
            query = f"timeout_s=20&ca={tls.ca}"
            with line_to(url_of(server, front.port, query=query)) as line:
                assert line.rows(ONE) == [(1,)]
            assert front.encrypted == 1

    def test_libpqs_own_words_do_too(self, server: Postgres, tls: Tls) -> None:
        with TlsFront(server.port, tls) as front:
            query = f"timeout_s=20&sslmode=verify-ca&sslrootcert={tls.ca}"
            with line_to(url_of(server, front.port, query=query)) as line:
                assert line.rows(ONE) == [(1,)]

    def test_another_authoritys_certificate_is_refused(
        self, server: Postgres, tls: Tls, tmp_path: Path
    ) -> None:
        other = make_tls(tmp_path / "other")
        with TlsFront(server.port, tls) as front:
            url = url_of(server, front.port, query=f"timeout_s=20&ca={other.ca}")
            with pytest.raises(Unavailable, match="certificate"):
                ask(url)

    def test_a_server_without_tls_is_refused_when_it_is_asked_for(
        self, server: Postgres, tls: Tls
    ) -> None:
        with pytest.raises(Unavailable, match="SSL"):
            ask(url_of(server, query=f"timeout_s=20&ca={tls.ca}"))


class TestSeveralServers:
    def test_one_that_is_not_there_is_passed_over(self, server: Postgres) -> None:
        (nobody,) = free_ports(1)
        with line_to(url_of(server, nobody, server.port)) as line:
            assert line.rows(ONE) == [(1,)]
            assert line.hosts == [f"127.0.0.1:{nobody}", f"127.0.0.1:{server.port}"]

    def test_a_restart_is_seen_before_a_statement_is_lost_to_it(self, server: Postgres) -> None:
        with line_to(url_of(server)) as line:
            before = line.rows("SELECT pg_backend_pid()")
            server.kill()
            server.start()
            assert line.rows("SELECT pg_backend_pid()") != before

    def test_a_server_that_takes_no_writes_is_refused(self, server: Postgres) -> None:
        with server.replica() as replica:
            with line_to(url_of(replica)) as line, pytest.raises(Unavailable, match="read-only"):
                line.rows(ONE)
            with line_to(url_of(server, replica.port, server.port)) as line:
                assert line.rows("SELECT pg_is_in_recovery()") == [(False,)]

    def test_a_server_that_took_over_is_found(self) -> None:
        with Postgres(settings={"fsync": "off"}) as first, first.replica() as second:
            url = f"{first.url_by(first.port, second.port)}?timeout_s=20"
            with line_to(url) as line:
                line.rows("CREATE TABLE public.kept AS SELECT 1 AS number")
                (there,) = first.ask("SELECT pg_current_wal_lsn()")
                reached = f"SELECT pg_last_wal_replay_lsn() >= '{there[0]}'"
                while second.ask(reached) != [(True,)]:
                    pass
                first.kill()
                second.promote()
                assert line.rows("SELECT number FROM public.kept") == [(1,)]
                line.rows("INSERT INTO public.kept VALUES (2)")


def test_a_forked_child_is_refused_and_does_the_parent_no_harm(server: Postgres) -> None:
    with line_to(url_of(server)) as line:
        before = line.rows("SELECT pg_backend_pid()")
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                try:
                    line.rows(ONE)
                except Unavailable as error:
                    code = 0 if "before a fork" in str(error) else 2
                line.close()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert line.rows("SELECT pg_backend_pid()") == before


def test_a_closed_line_says_so(server: Postgres) -> None:
    line = PostgresLine(url_of(server))
    line.rows(ONE)
    line.close()
    line.close()
    with pytest.raises(Unavailable, match="closed"):
        line.rows(ONE)

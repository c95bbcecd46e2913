"""A whole store in PostgreSQL: made by many at once, asked for its state, damaged."""

from __future__ import annotations

import contextlib
import threading

import msgspec
import psycopg
import pytest

from holdfast.adapters.memory import IMPRINTS_KEPT
from holdfast.adapters.postgres_schema import VERSION
from holdfast.adapters.postgres_store import PostgresStore
from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.model import Subject
from holdfast.core.wire import digest
from holdfast.gameday.postgres import Postgres
from holdfast.gameday.processes import free_ports
from holdfast.ports import Imprint, Proposal

DEADLINE_S = 30.0
SHOP = Subject("production", "shop")
PROPOSAL = Proposal("p1", digest(b"{}"), b"{}", "ann", 7)


def opened(url: str) -> contextlib.closing[PostgresStore]:
    return contextlib.closing(PostgresStore(url))


def imprint(revision: int, subject: Subject = SHOP) -> Imprint:
    word = f"{subject.service} {revision}".encode()
    return Imprint(
        subject, revision, digest(word), digest(word), "holdfast/1", 1, b"outline" + word
    )


def tamper(server: Postgres, url: str, statement: str) -> None:
    schema = url.partition("schema=")[2].partition("&")[0]
    server.ask(f"SET search_path = {schema}; {statement}")


class TestTables:
    def test_of_many_nodes_that_start_at_once_all_get_one_store(self, postgres_url: str) -> None:
        ready, failed = threading.Barrier(6), []
        stores: list[PostgresStore] = []

        def start() -> None:
            ready.wait(DEADLINE_S)
            try:
                stores.append(PostgresStore(postgres_url))
            except Exception as error:  # noqa: BLE001  any is a failure
                failed.append(error)

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert failed == []
        assert stores[0].mark("seen by all", "")
        assert [store.marked() for store in stores] == ["seen by all"] * 6
        for store in stores:
            store.close()

    def test_tables_of_another_version_are_left_alone(
        self, postgres_server: Postgres, postgres_url: str
    ) -> None:
        PostgresStore(postgres_url).close()
        tamper(postgres_server, postgres_url, "UPDATE about SET version = version + 1")
        with pytest.raises(Unavailable, match=f"version {VERSION + 1}"):
            PostgresStore(postgres_url)

    def test_a_role_that_may_make_nothing_uses_what_is_there(
        self, postgres_server: Postgres, postgres_url: str
    ) -> None:
        PostgresStore(postgres_url).close()
        poor = postgres_url.replace("//holdfast@", "//poor@")
        schema = postgres_url.partition("schema=")[2].partition("&")[0]
        postgres_server.ask("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN")
        with pytest.raises(Unavailable, match="permission denied"):
            PostgresStore(poor.replace(schema, f"{schema}_none"))
        postgres_server.ask(
            f"GRANT USAGE ON SCHEMA {schema} TO poor;"
            f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO poor;"
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO poor"
        )
        with opened(poor) as store:
            store.proposals.put(PROPOSAL)
            store.blobs.put(b"body")
            assert store.proposals.get("p1") == PROPOSAL
        postgres_server.ask("DROP OWNED BY poor")

    def test_two_stores_on_one_server_know_nothing_of_each_other(self, postgres_url: str) -> None:
        with opened(postgres_url) as one, opened(postgres_url.replace("=test", "=other")) as two:
            one.proposals.put(PROPOSAL)
            lease = one.leases.take("node", "", 60.0)
            assert lease is not None
            assert two.proposals.get("p1") is None
            assert two.leases.current() is None


class TestDamage:
    @pytest.mark.parametrize(
        "change",
        [
            "facts = facts || ' '",
            "change = 'other'",
            "due_s = 7",
            "proposal = 'p2'",
            "checksum = ''",
        ],
    )
    def test_a_damaged_proposal_is_refused(
        self, postgres_server: Postgres, postgres_url: str, change: str
    ) -> None:
        with opened(postgres_url) as store:
            store.proposals.put(PROPOSAL)
            tamper(postgres_server, postgres_url, f"UPDATE proposals SET {change}")  # noqa: S608  our own
            with pytest.raises(Damaged, match="proposed again"):
                store.proposals.all()

    def test_a_damaged_blob_is_refused_and_healed_by_putting_it_again(
        self, postgres_server: Postgres, postgres_url: str
    ) -> None:
        with opened(postgres_url) as store:
            name = store.blobs.put(b"body")
            tamper(postgres_server, postgres_url, "UPDATE blobs SET body = 'bodies'")
            with pytest.raises(Damaged, match=name):
                store.blobs.get(name)
            store.blobs.put(b"body")
            assert store.blobs.get(name) == b"body"

    @pytest.mark.parametrize("change", ["digest = sha256('x')", "build = 'x'", "outline = ''"])
    def test_a_damaged_digest_is_refused(
        self, postgres_server: Postgres, postgres_url: str, change: str
    ) -> None:
        with opened(postgres_url) as store:
            store.digests.put([imprint(1)])
            tamper(postgres_server, postgres_url, f"UPDATE imprints SET {change}")  # noqa: S608  our own
            with pytest.raises(Damaged, match="was changed"):
                store.digests.all()
            with pytest.raises(Damaged, match="was changed"):
                store.digests.put([imprint(2)])

    def test_a_lease_that_is_gone_is_damage(
        self, postgres_server: Postgres, postgres_url: str
    ) -> None:
        with opened(postgres_url) as store:
            tamper(postgres_server, postgres_url, "DELETE FROM lease")
            with pytest.raises(Damaged, match="lease"):
                store.leases.current()


def test_digests_of_many_subjects_are_kept_apart_and_bounded(postgres_url: str) -> None:
    mail = Subject("production", "mail")
    with opened(postgres_url) as store:
        for revision in range(1, IMPRINTS_KEPT + 3):
            store.digests.put([imprint(revision), imprint(revision, mail)])
        kept = [(one.subject.service, one.revision) for one in store.digests.all()]
        numbers = range(3, IMPRINTS_KEPT + 3)
        assert kept == [(name, number) for name in ("mail", "shop") for number in numbers]
        newest = store.digests.all()[-1]
        assert newest == imprint(IMPRINTS_KEPT + 2)
        assert store.digests.put([msgspec.structs.replace(newest, digest=digest(b"x"))]) == [newest]


def test_the_state_names_each_server_that_the_url_does(
    postgres_server: Postgres, postgres_url: str
) -> None:
    (nobody,) = free_ports(1)
    port = postgres_server.port
    with opened(postgres_url.replace(f":{port}/", f":{nobody},127.0.0.1:{port}/")) as store:
        status = store.status()
    members = status["members"]
    assert [(one["name"], one["healthy"], one["role"]) for one in members] == [
        (f"127.0.0.1:{nobody}", False, "unknown"),
        (f"127.0.0.1:{port}", True, "primary"),
    ]
    assert status["leader"] == f"127.0.0.1:{port}"
    assert status["durable"] is False, "this server of tests does not sync"
    assert status["page_checksums"] is True


def test_compaction_gives_space_back_to_the_tables(
    postgres_server: Postgres, postgres_url: str
) -> None:
    with opened(postgres_url) as store:
        for _ in range(5):
            store.blobs.put(bytes(range(256)) * 4_000)
        store.compact()
        with psycopg.connect(postgres_server.url) as plain:
            dead = plain.execute(
                "SELECT last_vacuum IS NOT NULL AND last_analyze IS NOT NULL"
                " FROM pg_stat_user_tables WHERE relname = 'blobs' AND schemaname = %s",
                (store._line.schema,),
            ).fetchall()
        assert dead == [(True,)]

"""The URL that chooses a store: all that is wrong with it at once, and never its password."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.adapters.memory_store import MemoryStore
from holdfast.adapters.sqlite_store import SqliteStore
from holdfast.apps.control.parts import open_parts
from holdfast.apps.settings import ControlSettings, problems_of
from holdfast.apps.store_urls import (
    completed,
    directory_of,
    is_meant,
    problems_of_store,
    shown,
    url_of,
)
from holdfast.apps.stores import open_stores
from holdfast.core.errors import Invalid, Unavailable

FINE = (
    "sqlite:///var/lib/holdfast",
    "memory:",
    "etcd://a:2379,b:2379,c:2379",
    "etcd://[::1]:2379/prefix?timeout_s=2",
    "etcds://user:word@a:2379",
    "postgresql://holdfast@db/holdfast?schema=one&timeout_s=0.5",
    "postgresql://holdfast:word@db1:5432,db2:5432/holdfast?sslmode=verify-full",
)
WRONG = {
    "": 0,
    "redis://host": 1,
    "/var/lib/holdfast": 1,
    "sqlite://host/var": 1,
    "sqlite:relative": 1,
    "sqlite:///var?mode=ro": 1,
    "memory:x": 1,
    "etcd://": 1,
    "etcd://a:99999,b:x/?timeout_s=0&nonsense=1": 4,
    "etcds://a:2379?ca=/nowhere/ca.pem&cert=/nowhere/cert.pem": 3,
    "postgresql://db": 1,
    "postgresql://db/x?schema=Bad-Name": 1,
    "etcd://user:pa/ss@host:2379": 1,
}


@pytest.mark.parametrize("url", FINE)
def test_what_is_meant_is_let_through(url: str) -> None:
    assert problems_of_store(url) == ()


@pytest.mark.parametrize(("url", "problems"), WRONG.items())
def test_all_that_is_wrong_is_told_with_the_way_out(url: str, problems: int) -> None:
    found = problems_of_store(url)
    assert len(found) == problems, found
    assert all(one.hint and one.message for one in found)
    settings = ControlSettings(store=url)
    assert [one for one in problems_of(settings) if one.code == "bad-store"] == list(found)
    if url:
        with pytest.raises(Invalid):
            open_stores(url)


@pytest.mark.parametrize(
    "url",
    [
        "etcd://user:S3cret@a:99999,b:2379/?timeout_s=no",
        "etcd://user:S3/cret@a:2379",
        "etcd://user:S3cret@a@b",
        "nonsense://user:S3cret@a",
        "postgresql://user@db/?password=S3cret&timeout_s=x",
        "postgresql://user:S3cret#x@db/holdfast",
        "postgresql:user:S3cret@db/holdfast",
        "etcd:/user:S3cret@a:2379",
        "postgresql://user%3AS3cret@db/holdfast",
        "postgresql://user%3aS3cret:more@db/holdfast",
        "etcd://user%253AS3cret@a:2379",
        "postgresql://%3AS3cret@db/holdfast",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    assert "S3" not in shown(url)
    told = " ".join(f"{one.message} {one.hint}" for one in problems_of_store(url))
    assert "S3" not in told


def test_who_the_user_is_stays_shown() -> None:
    assert shown("postgresql://us%2Der@db/h") == "postgresql://us%2Der@db/h"
    assert shown("postgresql://user%3AS3cret@db/h") == "postgresql://user%3A***@db/h"
    assert shown("postgresql://user%3AS3cret:x@db/h") == "postgresql://user%3A***:***@db/h"


AWKWARD = ":/?#@ %&;=[]'\"\\\n\u2100"
SECRETS = st.builds("{}S3CRET{}".format, st.text(AWKWARD, max_size=3), st.text(AWKWARD, max_size=3))
SEPARATORS = ("", "/", "//", ":", "::", ";", ",", " ", "@", "@@", "\\", "?", "#")


@st.composite
def mistyped(draw: st.DrawFn) -> str:
    """A store's URL with an awkward password, or with one separator that is another one.

    Not the one between user and password: without it, all of it is the name of a user.
    """
    scheme = draw(
        st.sampled_from(("etcd", "etcds", "postgresql", "postgres", "POSTGRESQL", "sqlite", "pq+x"))
    )
    separators = [":", "//", "@", ":", "/", "?"]
    secret = "S3CRET"
    if draw(st.booleans()):
        secret = draw(SECRETS)
    else:
        separators[draw(st.integers(0, len(separators) - 1))] = draw(st.sampled_from(SEPARATORS))
    colon, slashes, at, port, path, query = separators
    whole = f"{scheme}{colon}{slashes}user:{secret}{at}host{port}2379{path}db{query}timeout_s=1"
    around = draw(st.sampled_from(("{}", " {}", "'{}'", "{}\n")))
    return around.format(whole)


@given(mistyped())
@example("postgres:u:S3CRET@h")
@example("postgresql//u:S3CRET@h/db")
@example("u:S3CRET@h/db")
@example("host=h user=u password=S3CRET")
@example("postgresql://u:S3CRET")
@example("etcd://u:S3CRET,h:2379")
@example("postgresql://u:\u2100S3CRET@h/db")
def test_no_message_shows_the_password_of_a_url_however_it_is_mistyped(url: str) -> None:
    assert is_meant(url), "it is no path: paths are shown"
    assert "S3" not in shown(url)
    told = " ".join(f"{one.message} {one.hint}" for one in problems_of_store(url))
    assert "S3" not in told


@pytest.mark.parametrize(
    "path", ["data", "/var/lib/holdfast", "./etcd/data", "etcd", "a dir", "../postgres"]
)
def test_a_path_is_no_url(path: str) -> None:
    assert not is_meant(path)


def test_a_path_that_is_there_is_no_url_however_it_looks(tmp_path: Path) -> None:
    odd = tmp_path / "user:word@host"
    assert is_meant(str(odd))
    odd.mkdir()
    assert not is_meant(str(odd))


class TestAPasswordInAFile:
    def test_completes_the_url(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("p@ss/w:rd\n")
        url = "etcd://holdfast@a:2379,b:2379"
        assert problems_of_store(url, file) == ()
        assert completed(url, file) == "etcd://holdfast:p%40ss%2Fw%3Ard@a:2379,b:2379"
        assert completed("etcd://me:@a:2379", file) == "etcd://me:p%40ss%2Fw%3Ard@a:2379"
        assert (
            completed("etcd://holdfast:@a:2379", file) == "etcd://holdfast:p%40ss%2Fw%3Ard@a:2379"
        )

    @pytest.mark.parametrize(
        "url", ["etcd://a:2379", "etcd://u:p@a:2379", "sqlite:///var/lib/holdfast"]
    )
    def test_needs_a_user_and_no_other_password(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("word")
        assert len(problems_of_store(url, file)) == 1

    @pytest.mark.parametrize("body", [b"", b"\n", b"\xff", b"one\ntwo\n"])
    def test_holds_one_password(self, body: bytes, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_bytes(body)
        assert len(problems_of_store("etcd://u@a:2379", file)) == 1
        assert len(problems_of_store("etcd://u@a:2379", tmp_path / "none")) == 1


def test_files_in_a_directory_are_named_by_either(tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    url = url_of(directory)
    assert directory_of(url) == directory
    stores = open_stores(url)
    assert isinstance(stores, SqliteStore)
    stores.close()
    assert directory_of(url + "/journal.db") == directory
    assert problems_of_store(url + "/journal.db") == ()
    assert len(problems_of_store(url + "/blobs.db")) == 1


def test_a_store_that_must_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no journal\.db"):
        open_stores(url_of(tmp_path / "none"), there=True)
    assert not (tmp_path / "none").exists()


def test_memory_is_a_store_too() -> None:
    assert isinstance(open_stores("memory:"), MemoryStore)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.apps.stores.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=r"pip install 'holdfast\[postgres\]'"):
        open_stores("postgresql://user@db/holdfast")


def test_no_node_serves_from_a_marked_store(tmp_path: Path) -> None:
    url = url_of(tmp_path / "store")
    stores = open_stores(url)
    filling = "filling: what comes from elsewhere is not all here"
    assert stores.mark(filling, "")
    stores.close()
    with pytest.raises(Unavailable, match="must not be served from"):
        open_parts(tmp_path / "data", development=True, store=url)
    stores = open_stores(url)
    assert stores.mark("", filling)
    stores.close()
    open_parts(tmp_path / "data", development=True, store=url).close()
    assert (tmp_path / "data" / "keys").is_dir()
    assert not (tmp_path / "data" / "journal.db").exists()

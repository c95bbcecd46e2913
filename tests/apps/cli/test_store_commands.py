"""`holdfast store …` as it is typed: what it prints, and its exit codes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.apps.cli.a_data_dir import opened, setting

from holdfast.adapters.sqlite_store import SqliteStore
from holdfast.apps.cli import run
from holdfast.apps.cli.restoring import restored
from holdfast.apps.cli.stores import on_file
from holdfast.apps.store_urls import url_of
from holdfast.core.errors import Unavailable
from holdfast.core.history import seal
from holdfast.core.model import Environment, PutEnvironment, PutService, PutSetting, Service
from holdfast.gameday.postgres import Postgres

REVISION = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("store") / "data"
    with opened(data) as node:
        node.commit(PutEnvironment("production", Environment()), PutService("shop", Service()))
        for number in range(REVISION - 1):
            node.commit(PutSetting("shop", "tiles", setting(number + 10)))
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def store(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """`holdfast store …` with JSON: its exit code, what it printed, what it said."""

    def typed(*arguments: object) -> tuple[int, Any, str]:
        code = run(["store", *map(str, arguments), "--output", "json"])
        out, told = capsys.readouterr()
        return code, msgspec.json.decode(out) if out else {}, told

    return typed


Store = Callable[..., tuple[int, Any, str]]


def test_the_state_of_a_store_is_told(store: Store, data: Path) -> None:
    code, found, _ = store("status", data)
    assert code == 0
    assert (found["engine"], found["revision"], found["ok"]) == ("sqlite", REVISION, True)
    assert found["store"] == url_of(data)


def test_a_store_that_is_not_there_is_not_made(store: Store, tmp_path: Path) -> None:
    code, found, told = store("status", tmp_path / "none")
    assert (code, found) == (1, {})
    assert "holds no journal.db" in told
    assert not (tmp_path / "none").exists()


def test_tables_that_are_not_there_are_not_made(
    store: Store, postgres_server: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """A schema that was misspelt would be there from then on, empty and well."""
    schemas = "SELECT count(*) FROM pg_namespace"
    before = postgres_server.ask(schemas)
    for command in (("status",), ("compact",), ("thaw",)):
        code, _, told = store(*command, postgres_url)
        assert code == 1
        assert "holds no tables of Holdfast in schema test_" in told
    assert store("backup", tmp_path / "none", "--store", postgres_url)[0] == 1
    for audit in (("audit", "verify"), ("verify",)):
        assert run([*audit, postgres_url]) == 1
    assert postgres_server.ask(schemas) == before


def test_a_url_of_a_scheme_that_nobody_knows_is_no_path(store: Store) -> None:
    code, _, told = store("status", "postgres:user:S3cret@db/holdfast")
    assert code == 2
    assert "names no store" in told
    assert "S3" not in told


@pytest.mark.parametrize(
    "typed",
    [
        "postgresql//user:S3cret@db/holdfast",
        "postgres+psycopg://user:S3cret@db/holdfast",
        " postgresql://user:S3cret@db/holdfast",
        "user:S3cret@db/holdfast",
        "host=db user=user password=S3cret",
        "postgresql://user:S3cret",
        "etcd://user:S3cret/holdfast?S3cret",
    ],
)
def test_a_mistyped_url_is_no_path_and_not_shown(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (["status", typed], ["restore", "none", typed], ["backup", "b", "--store", typed]):
        (tmp_path / "none").write_bytes(b"")
        code, _, told = store(*call)
        assert code == 2, told
        assert "S3" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["none"]


class TestWhatIsSaidOnTheCommandLine:
    """It goes before what the surroundings say, which may be of another store."""

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOLDFAST_STORE", url_of(tmp_path / "elsewhere"))

    @pytest.mark.usefixtures("elsewhere")
    def test_names_the_store_of_a_backup(self, store: Store, data: Path, tmp_path: Path) -> None:
        code, found, told = store("backup", tmp_path / "b", "--data", data)
        assert (code, found.get("revision")) == (0, REVISION), told
        assert found["source"] == url_of(data)

    @pytest.mark.usefixtures("elsewhere")
    def test_names_the_store_that_is_looked_at(self, store: Store, data: Path) -> None:
        for command in ("status", "compact", "thaw"):
            code, found, told = store(command, data)
            assert (code, found["store"]) == (0, url_of(data)), told

    def test_is_one_store(self, store: Store, data: Path, tmp_path: Path) -> None:
        code, _, told = store("backup", tmp_path / "b", "--data", data, "--store", url_of(data))
        assert code == 2
        assert "give one of them" in told

    def test_may_be_nothing_then_the_surroundings_say(
        self, store: Store, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOLDFAST_DATA", str(data))
        assert store("backup", tmp_path / "a")[1]["source"] == url_of(data)
        assert store("status")[1]["store"] == url_of(data)
        monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "keys"))
        monkeypatch.setenv("HOLDFAST_STORE", url_of(data))
        assert store("backup", tmp_path / "b")[1]["source"] == url_of(data)
        assert store("status")[1]["store"] == url_of(data)


def test_wrong_use_is_told_apart(store: Store) -> None:
    code, _, told = store("status", "etcd://user:S3cret@a:99999/?nonsense=1")
    assert code == 2
    assert "nonsense" in told
    assert "99999" in told
    assert "S3cret" not in told


def test_a_copy_is_one_and_is_refused_a_second_time(
    store: Store, data: Path, tmp_path: Path
) -> None:
    code, found, _ = store("copy", data, url_of(tmp_path / "copy"))
    assert (code, found["revision"], found["grown_to"]) == (0, REVISION, REVISION)
    code, _, told = store("copy", data, url_of(tmp_path / "copy"))
    assert code == 1
    assert "not empty" in told


def test_what_was_frozen_is_not_well_and_thaws(store: Store, data: Path, tmp_path: Path) -> None:
    assert store("copy", data, tmp_path / "copy", "--freeze")[0] == 0
    code, found, _ = store("status", data)
    assert code == 1
    assert "it was moved to" in found["mark"]
    assert store("thaw", data)[0] == 0
    assert store("status", data)[0] == 0


def test_what_is_half_filled_does_not_thaw(store: Store, tmp_path: Path) -> None:
    from holdfast.adapters.sqlite_store import SqliteStore

    stores = SqliteStore(tmp_path / "half")
    stores.mark("filling: half of it", "")
    stores.close()
    code, _, told = store("thaw", tmp_path / "half")
    assert code == 1
    assert "not frozen" in told


class TestABackup:
    @pytest.fixture
    def file(self, store: Store, data: Path, tmp_path: Path) -> Path:
        file = tmp_path / "holdfast.backup"
        code, found, told = store("backup", file, "--data", data)
        assert (code, found["revision"]) == (0, REVISION), told
        return file

    def test_is_whole_and_for_its_owner_alone(self, store: Store, file: Path) -> None:
        assert store("check", file)[0] == 0
        assert file.stat().st_mode & 0o777 == 0o600

    def test_is_on_the_disk_with_its_name(
        self, store: Store, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[tuple[Path, bool]] = []
        file, sync = tmp_path / "backups" / "a.backup", os.fsync
        file.parent.mkdir()

        def noted(descriptor: int) -> None:
            sync(descriptor)
            synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), file.exists()))

        monkeypatch.setattr(os, "fsync", noted)
        assert store("backup", file, "--data", data)[0] == 0
        assert synced[-2][1] is False, "its bytes, under another name"
        assert synced[-1] == (file.parent, True)

    def test_is_not_written_over(self, store: Store, data: Path, file: Path) -> None:
        assert store("backup", file, "--data", data)[0] == 2
        assert store("backup", file, "--data", data, "--force")[0] == 0

    def test_comes_back(self, store: Store, file: Path, tmp_path: Path) -> None:
        code, found, _ = store("restore", file, tmp_path / "back")
        assert (code, found["backup_revision"], found["revision"]) == (0, REVISION, REVISION)
        assert store("status", tmp_path / "back")[0] == 0
        assert store("restore", file, tmp_path / "back")[0] == 1

    def test_that_is_damaged_writes_nothing(self, store: Store, file: Path, tmp_path: Path) -> None:
        body = bytearray(file.read_bytes())
        body[len(body) // 2] ^= 1
        file.write_bytes(body)
        assert store("check", file)[0] == 1
        code, _, told = store("restore", file, tmp_path / "back")
        assert code == 1
        assert "not what was written" in told
        _, found, _ = store("status", tmp_path / "back")
        assert (found["revision"], found["mark"]) == (0, "")

    def test_goes_on_above_what_was_seen(self, store: Store, file: Path, tmp_path: Path) -> None:
        code, found, _ = store("restore", file, tmp_path / "back", "--beyond", 2 * REVISION)
        assert (code, found["revision"]) == (0, 2 * REVISION)
        with opened(tmp_path / "back") as node:
            again = PutSetting("shop", "tiles", setting(99))
            assert node.commit(again) > 2 * REVISION

    def test_may_not_be_outrun_without_end(self, store: Store, file: Path, tmp_path: Path) -> None:
        code, _, told = store("restore", file, tmp_path / "back", "--beyond", 2_000_000)
        assert code == 2
        assert "is it meant?" in told

    def test_goes_on_where_it_was_stopped_among_what_it_leaves_out(
        self, file: Path, tmp_path: Path
    ) -> None:
        def stop(what: str, done: int, _: int) -> None:
            if (what, done) == ("verified", 700):  # read back, after the entries that leave out
                raise InterruptedError

        with file.open("rb") as body, closing(SqliteStore(tmp_path / "to")) as target:
            with pytest.raises(InterruptedError):
                restored(body, file, target, 700, 7, stop, by="one")
            assert target.marked()
            assert target.journal.head().revision == 700
            _, moved = restored(body, file, target, 800, 8, lambda *_: None, by="two")
            assert (moved.revision, moved.resumed_after, target.marked()) == (800, 700, "")

    def test_goes_on_above_no_entries_but_its_own(self, file: Path, tmp_path: Path) -> None:
        def stop(*_: object) -> None:
            if target.journal.head().revision:
                raise InterruptedError

        with file.open("rb") as body, closing(SqliteStore(tmp_path / "to")) as target:
            with pytest.raises(InterruptedError):
                restored(body, file, target, 0, 7, stop)
            more = seal(target.journal.head(), 8, "ann", "a change", ())
            target.journal.append_all([more])
            with pytest.raises(Unavailable, match="another journal"):
                restored(body, file, target, 0, 9, lambda *_: None)

    def test_does_not_take_an_empty_cache_for_one_that_saw_nothing(
        self, store: Store, file: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "cache" / "holdfast-1" / "generations").mkdir(parents=True)
        code, _, told = store("restore", file, tmp_path / "to", "--cache", tmp_path / "cache")
        assert code == 1
        assert "nothing is in it" in told
        assert "--beyond" in told
        assert not (tmp_path / "to").exists()

    def test_does_not_take_a_damaged_cache_for_what_is_left_of_it(
        self, store: Store, file: Path, tmp_path: Path
    ) -> None:
        noted = tmp_path / "cache" / "holdfast-1" / "noted"
        noted.mkdir(parents=True)
        (noted / "freshness.production").write_bytes(b"rotten")
        code, _, told = store("restore", file, tmp_path / "to", "--cache", tmp_path / "cache")
        assert code == 1
        assert "freshness.production is damaged" in told

    def test_that_no_room_is_left_for_says_so(self, tmp_path: Path) -> None:
        file = tmp_path / "full.backup"
        with (
            pytest.raises(Unavailable, match=r"full\.backup: No space left"),
            on_file(file),
            Path("/dev/full").open("wb") as body,
        ):
            body.write(bytes(1_000_000))

    def test_for_a_directory_that_is_not_there_says_so(
        self, store: Store, data: Path, tmp_path: Path
    ) -> None:
        code, _, told = store("backup", tmp_path / "none" / "a.backup", "--data", data)
        assert code == 1
        assert "none" in told
        assert "No such file" in told

    def test_is_written_to_no_device(self, store: Store, data: Path) -> None:
        code, _, told = store("backup", "/dev/full", "--data", data, "--force")
        assert code == 2
        assert "no plain file" in told

    def test_that_comes_through_a_pipe_is_refused(self, store: Store, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        held = os.open(pipe, os.O_RDWR)
        code, _, told = store("check", pipe)
        os.close(held)
        assert code == 1
        assert "can't be read twice" in told

    def test_names_no_file_that_is_none(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"something else")
        code, _, told = store("check", tmp_path / "x")
        assert code == 1
        assert "no backup" in told


def test_compaction_tells_what_it_freed(store: Store, data: Path) -> None:
    code, found, _ = store("compact", data)
    assert code == 0
    assert found["freed_bytes"] >= 0


@pytest.mark.parametrize("engine", ["etcd", "postgres"])
def test_on_an_engine_a_store_is_well_audited_and_verified(  # noqa: PLR0917  fixtures
    store: Store,
    data: Path,
    tmp_path: Path,
    engine: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = request.getfixturevalue(f"{engine}_url")
    assert store("copy", data, url)[0] == 0
    code, found, _ = store("status", url)
    assert (code, found["revision"], found["wrong"]) == (0, REVISION, [])
    assert all(member["healthy"] for member in found["members"])
    for command in (("audit", "verify"), ("verify",)):
        assert run([*command, url, "--output", "json"]) == 0
        assert msgspec.json.decode(capsys.readouterr().out)["entries"] == REVISION
    file = tmp_path / "of-an-engine.backup"
    assert store("backup", file, "--store", url)[0] == 0
    code, found, _ = store("restore", file, tmp_path / "back")
    assert (code, found["revision"]) == (0, REVISION)
    assert store("compact", url)[0] == 0
    assert store("copy", data, url)[0] == 1

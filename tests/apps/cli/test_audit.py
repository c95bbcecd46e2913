"""`holdfast audit verify`: what the owner of the store can do to it, and that it is found."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from a_data_dir import KEYS, grown, opened, setting

from holdfast.adapters.disk_cache import DiskCache
from holdfast.adapters.signing import Keys
from holdfast.apps.cli import run
from holdfast.core.history import decode_entry, encode_entry
from holdfast.core.model import Entry, PutSetting, Subject
from holdfast.core.roots import encode_root_set

SUBJECT = Subject("production", "shop")
ENTRIES = 6


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return grown(tmp_path / "data", ENTRIES - 1)


@pytest.fixture
def cache(tmp_path: Path, data: Path) -> Path:
    """What a consumer has on disk: the newest bundle and freshness, and one of before."""
    kept = DiskCache(tmp_path / "consumer")
    with opened(data) as node:
        node.shelf.warm()
        bundle = node.shelf.newest(SUBJECT)
        assert bundle
        kept.save(SUBJECT, bundle.revision, bundle.bundle)
        kept.note("freshness.production.shop", node.shelf.freshness(SUBJECT))
    return tmp_path / "consumer"


def audited(
    capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, list[dict[str, Any]]]:
    code = run(["audit", "verify", *map(str, arguments), "--output", "json"])
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["ok"] == (code == 0)
    return code, found["findings"]


def entries_of(data: Path) -> list[Entry]:
    with closing(sqlite3.connect(data / "journal.db")) as db:
        rows = db.execute("SELECT body, hash FROM entries ORDER BY revision").fetchall()
    return [decode_entry(body, digest.hex()) for body, digest in rows]


def put_back(data: Path, entries: list[Entry]) -> None:
    """Write a whole journal under hashes that fit, as somebody would who knows how it is made."""
    with closing(sqlite3.connect(data / "journal.db")) as db:
        db.execute("DELETE FROM entries")
        previous = "0" * 64
        for revision, entry in enumerate(entries, 1):
            body = encode_entry(
                msgspec.structs.replace(entry, revision=revision, previous=previous)
            )
            previous = hashlib.sha256(body).hexdigest()
            db.execute(
                "INSERT INTO entries VALUES (?, ?, ?)", (revision, bytes.fromhex(previous), body)
            )
        db.execute("UPDATE head SET revision = ?, hash = ?", (revision, bytes.fromhex(previous)))
        db.commit()
    for path in data.iterdir():
        if path.name.startswith(("journal.db-head", "journal.db-check", "digests")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def change_an_entry(data: Path) -> None:
    entries = entries_of(data)
    edit = PutSetting("shop", "tiles", setting(777))
    entries[3] = msgspec.structs.replace(entries[3], edits=(edit,))
    put_back(data, [msgspec.structs.replace(one, published={}) for one in entries])


def change_an_author(data: Path) -> None:
    """It moves no answer: digests of snapshots hold the journal's head, and tell."""
    entries = entries_of(data)
    entries[3] = msgspec.structs.replace(entries[3], actor="somebody else")
    put_back(data, [msgspec.structs.replace(one, published={}) for one in entries])


def delete_an_entry(data: Path) -> None:
    entries = entries_of(data)
    del entries[3]
    put_back(data, [msgspec.structs.replace(one, published={}) for one in entries])


def cut_off_the_end(data: Path) -> None:
    put_back(data, entries_of(data)[:4])


def replace_it_all(data: Path) -> None:
    shutil.rmtree(data)
    grown(data, ENTRIES - 1)


CAREFUL = (change_an_entry, change_an_author, delete_an_entry, cut_off_the_end, replace_it_all)


def test_an_honest_journal_passes(
    data: Path, cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(encode_root_set(Keys.load(data / KEYS).root))
    assert audited(capsys, data) == (0, [])
    assert audited(capsys, data, "--cache", cache, "--root", root) == (0, [])
    with opened(data) as node:
        node.commit(PutSetting("shop", "tiles", setting(40)))
        assert audited(capsys, data, "--cache", cache) == (0, [])


@pytest.mark.parametrize("tamper", CAREFUL)
def test_what_fits_in_itself_is_found_by_what_a_consumer_saw(
    data: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    tamper: Callable[[Path], None],
) -> None:
    tamper(data)
    code, findings = audited(capsys, data, "--cache", cache)
    assert code == 1
    codes = {one["code"] for one in findings}
    if tamper in (cut_off_the_end, delete_an_entry):
        assert "truncated" in codes
        assert any(one["revision"] == ENTRIES for one in findings)
    elif tamper is replace_it_all:
        assert {"root", "rewritten"} <= codes
    else:
        assert {"rewritten", "snapshot"} <= codes


@pytest.mark.parametrize("tamper", CAREFUL[:-1])
def test_unprotected_by_a_witness_a_careful_hand_is_not_seen(
    data: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Path], None]
) -> None:
    """The damage: hashes that fit are all that a journal alone can show."""
    tamper(data)
    assert audited(capsys, data) == (0, [])


def execute(data: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(data / "journal.db")) as db:
        db.execute(statement, values)
        db.commit()


def test_a_careless_hand_is_seen_without_any_witness(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for statement, code, revision in (
        ("UPDATE entries SET body = CAST(body || ' ' AS BLOB) WHERE revision = 3", "entry", 3),
        ("DELETE FROM entries WHERE revision = 4", "missing", 5),
        ("DELETE FROM entries WHERE revision > 3", "head", ENTRIES),
        ("UPDATE head SET hash = zeroblob(32)", "head", ENTRIES),
    ):
        copy = data.with_name("copy")
        shutil.copytree(data, copy)
        execute(copy, statement)
        status, findings = audited(capsys, copy)
        assert status == 1
        assert (code, revision) in {(one["code"], one["revision"]) for one in findings}, statement
        shutil.rmtree(copy)


def test_digests_that_entries_record_name_the_setting_that_was_changed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashes computed again, and the recorded digests forgotten: the next entry still has them."""
    digests = (data / "digests.db").read_bytes()
    entries = entries_of(data)
    edit = PutSetting("shop", "tiles", setting(777))
    entries[3] = msgspec.structs.replace(entries[3], edits=(edit,))
    put_back(data, entries)
    code, findings = audited(capsys, data)
    assert code == 1
    assert {one["revision"] for one in findings if one["code"] == "digest"} >= {4}
    (data / "digests.db").write_bytes(digests)
    assert "record" in {one["code"] for one in audited(capsys, data)[1]}


def test_a_checkpoint_that_is_not_of_its_journal_is_told(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(data) as node:
        node.view.save_checkpoint()
    assert audited(capsys, data) == (0, [])
    entries = entries_of(data)
    with opened(data) as node:
        body = node.parts.journal.checkpoint()
        assert body
        wrong = body.body.replace(b'"few":13', b'"few":12')
        assert wrong != body.body
        node.parts.journal.save_checkpoint(msgspec.structs.replace(body, body=wrong))
    code, findings = audited(capsys, data)
    assert code == 1
    assert [one["code"] for one in findings] == ["checkpoint"]
    assert len(entries) == ENTRIES


def test_evidence_that_proves_nothing_is_no_proof(
    data: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unsigned bundles and statements of somebody else are told, and accuse nobody."""
    kept = DiskCache(cache)
    kept.save(SUBJECT, 99, b'{"roots": [], "signature": {}}')
    kept.note("freshness.production.other", b"{}")
    code, findings = audited(capsys, data, "--cache", cache)
    assert code == 0
    assert [one["severity"] for one in findings] == ["warning", "warning"]

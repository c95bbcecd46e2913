"""Blobs and proposals in SQLite: what is damaged is never handed out."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from pathlib import Path

import pytest

from holdfast.adapters.sqlite_blobs import SqliteBlobs
from holdfast.adapters.sqlite_proposals import SqliteProposals
from holdfast.core.errors import Damaged, OperatorError, Unavailable
from holdfast.ports import Proposal

BODY = bytes(range(256)) * 40
NAME = hashlib.sha256(BODY).hexdigest()
PROPOSAL = Proposal("p1", hashlib.sha256(b"{}").hexdigest(), b"{}", "ann", 7)


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_blobs_survive_a_restart(tmp_path: Path) -> None:
    blobs = SqliteBlobs(tmp_path / "blobs.db")
    assert blobs.put(BODY) == NAME
    blobs.close()
    again = SqliteBlobs(tmp_path / "blobs.db")
    assert again.get(NAME) == BODY
    again.close()


def test_a_damaged_blob_is_refused_and_healed_by_putting_it_again(tmp_path: Path) -> None:
    path = tmp_path / "blobs.db"
    blobs = SqliteBlobs(path)
    blobs.put(BODY)
    tamper(path, "UPDATE blobs SET body = x'00'")
    with pytest.raises(Damaged, match=NAME):
        blobs.get(NAME)
    blobs.put(BODY)
    assert blobs.get(NAME) == BODY
    blobs.close()


def test_a_flip_anywhere_in_the_file_gives_no_wrong_blob(tmp_path: Path) -> None:
    path, chance = tmp_path / "blobs.db", random.Random(5)
    blobs = SqliteBlobs(path)
    blobs.put(BODY)
    blobs.close()
    whole = path.read_bytes()
    for _ in range(100):
        place = chance.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            blobs = SqliteBlobs(path)
        except OperatorError:
            continue
        try:
            assert blobs.get(NAME) in (BODY, None)
        except OperatorError:
            pass
        finally:
            blobs.close()


def test_proposals_survive_a_restart(tmp_path: Path) -> None:
    proposals = SqliteProposals(tmp_path / "proposals.db")
    proposals.put(PROPOSAL)
    proposals.close()
    again = SqliteProposals(tmp_path / "proposals.db")
    assert list(again.all()) == [PROPOSAL]
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE proposals SET facts = CAST(replace(facts, 'ann', 'eve') AS BLOB)",
        "UPDATE proposals SET due_s = 8",
        "UPDATE proposals SET change = x'7b7b'",
    ],
)
def test_a_damaged_proposal_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "proposals.db"
    proposals = SqliteProposals(path)
    proposals.put(PROPOSAL)
    tamper(path, statement)
    with pytest.raises(Damaged, match="p1"):
        proposals.get("p1")
    proposals.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    blobs = SqliteBlobs(tmp_path / "blobs.db")
    blobs.close()
    blobs.close()
    with pytest.raises(Unavailable, match="closed"):
        blobs.get(NAME)


def test_files_of_another_use_are_refused(tmp_path: Path) -> None:
    SqliteBlobs(tmp_path / "one.db").close()
    with pytest.raises(Damaged, match="not those of such a file"):
        SqliteProposals(tmp_path / "one.db")

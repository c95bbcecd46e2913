"""The row `store-lost` in its short form, with its protections and without them."""

from __future__ import annotations

import pytest
from tests.gameday.test_promises import missed, run

ENGINES = 1
"""Of three, in the short form: files in SQLite."""


@pytest.mark.timeout(600)
def test_a_store_that_was_lost_comes_back_up_to_its_backup() -> None:
    code, found, told = run("store-lost", "--sample", str(ENGINES))
    assert (code, missed(found)) == (0, []), (found["notes"], told)


@pytest.mark.timeout(600)
def test_without_verification_half_a_backup_is_served() -> None:
    code, found, _ = run("store-lost", "--sample", str(ENGINES), "--unprotected")
    assert code == 1
    assert "sqlite: damaged backups restored" in missed(found)
    assert "sqlite: revisions given out a second time" in missed(found)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_so_does_one_in_etcd_and_in_postgresql() -> None:
    code, found, told = run("store-lost")
    assert (code, missed(found)) == (0, []), (found["notes"], told)

"""What waits for a disk that refuses: in memory, told once, written as soon as it is well again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from holdfast.adapters.disk_cache import DiskCache
from holdfast.core.errors import Unavailable
from holdfast.core.generations import refusal
from holdfast.core.model import Subject
from holdfast.sdk.keeping import RETRY_S, Keeping
from holdfast.sdk.trials import Host, Trials

SHOP = Subject("production", "demo-shop")


class Disk:
    """Takes writes, or refuses them."""

    def __init__(self) -> None:
        self.refuses = False
        self.written: list[str] = []
        self.tried = 0

    def write(self, what: str) -> None:
        self.tried += 1
        if self.refuses:
            raise Unavailable("[Errno 28] No space left on device")
        self.written.append(what)


def test_a_write_that_was_refused_is_made_when_the_disk_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    keeping, disk = Keeping(), Disk()
    assert keeping.attempt("a", lambda: disk.write("a1"))
    disk.refuses = True
    assert not keeping.attempt("a", lambda: disk.write("a2"))
    assert not keeping.attempt("b", lambda: disk.write("b1"))
    assert not keeping.attempt("a", lambda: disk.write("a3")), "the newest alone waits"
    assert "No space left" in keeping.error
    assert keeping.waits("a")
    assert not keeping.again(100.0)
    disk.refuses = False
    assert not keeping.again(100.0 + RETRY_S / 2), "not so soon"
    assert keeping.again(100.0 + RETRY_S)
    assert disk.written == ["a1", "b1", "a3"], "what was tried last comes last"
    assert (keeping.error, keeping.failed, keeping.healed) == ("", 4, 1)
    assert not keeping.again(1e9)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2, "once when it began, once when it was over"
    assert "going on in memory" in told[0]


def test_while_it_refuses_one_write_is_tried_each_time() -> None:
    keeping, disk = Keeping(), Disk()
    disk.refuses = True
    for number in range(500):
        keeping.attempt(number, lambda: disk.write("x"))
    disk.tried = 0
    for turn in range(10):
        keeping.again(turn * RETRY_S)
    assert disk.tried == 10


def test_one_write_that_is_always_refused_holds_up_no_other() -> None:
    keeping, disk = Keeping(), Disk()
    disk.refuses = True
    full = Disk()
    full.refuses = True
    keeping.attempt("too large", lambda: full.write("x"))
    for number in range(3):
        keeping.attempt(number, lambda: disk.write("y"))
    disk.refuses = False
    for turn in range(2):
        assert not keeping.again(turn * RETRY_S)
    assert len(disk.written) == 3
    assert keeping.waits("too large")
    assert keeping.error, "not all is there yet"


def test_another_write_that_went_well_is_not_the_end_of_it() -> None:
    keeping, disk = Keeping(), Disk()
    disk.refuses = True
    keeping.attempt("a", lambda: disk.write("a"))
    disk.refuses = False
    keeping.attempt("b", lambda: disk.write("b"))
    assert keeping.error
    assert keeping.again(0.0)
    assert not keeping.error


def test_what_another_process_of_the_cache_has_proven_is_spared(tmp_path: Path) -> None:
    """Else the one that runs ahead sweeps away what the other one would fall back on."""
    ours, theirs = (Trials(DiskCache(tmp_path), Host(), streak=True) for _ in range(2))
    assert ours.spared(SHOP) == []
    theirs.begin(SHOP, 5, "d" * 64, 0.0)
    assert list(theirs.verdicts(1e6)) == []
    assert theirs.trust(SHOP, "d" * 64) == "proven"
    assert ours.spared(SHOP) == [5]
    cache = DiskCache(tmp_path)
    for revision in (5, 6, 7, 8, 9):
        cache.save(SHOP, revision, b"%d" % revision, ours.spared(SHOP))
    assert list(cache.load(SHOP)) == [b"9", b"8", b"7", b"5"]
    theirs.close()


def test_a_record_that_the_disk_refused_is_not_forgotten_for_an_older_one(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    trials = Trials(cache, Host(), streak=True)
    trials.refuse(SHOP, refusal(1, "a" * 64, "shape", "too large", 0))
    noted = tmp_path / "holdfast-1" / "noted"
    aside = noted.rename(tmp_path / "aside")
    noted.write_text("the disk is gone")
    trials.refuse(SHOP, refusal(2, "b" * 64, "shape", "too large", 0))
    trials.refuse(SHOP, refusal(3, "c" * 64, "shape", "too large", 0))
    noted.unlink()
    aside.rename(noted)
    assert len(trials.record(SHOP).refused) == 3
    assert trials.keeping.again(0.0)
    again = Trials(DiskCache(tmp_path), Host(), streak=True)
    assert [one.revision for one in again.record(SHOP).refused] == [1, 2, 3]

"""The cache on disks that are really sick: what was there stays, and what could not be, is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.adapters.disk_cache import DiskCache
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject
from holdfast.gameday.disks import KINDS, Disk, Kind

SHOP = Subject("production", "demo-shop")

WRITER = """
import sys, json
from holdfast.adapters.disk_cache import DiskCache
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject
shop, cache = Subject("production", "demo-shop"), None
for line in sys.stdin:
    revision, patient = json.loads(line)
    try:
        cache = cache or DiskCache(sys.argv[1], patient=patient)
        cache.save(shop, revision, b"%d" % revision * 9_000)
        cache.note("root", b"%d" % revision * 9_000)
        said = ""
    except Unavailable as error:
        said = str(error)
    kept = [int(body[:1]) for body in cache.load(shop)] if cache else []
    noted = (cache.noted("root") or b"-")[:1].decode() if cache else "-"
    print(json.dumps([said, kept, noted]), flush=True)
"""
"""Saves generations as it is told, and says what went wrong, and what it has."""


class Writer:
    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            (sys.executable, "-c", WRITER, str(directory)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def save(self, revision: int, *, patient: bool = False) -> tuple[str, list[int], str]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(msgspec.json.encode([revision, patient]).decode() + "\n")
        self.process.stdin.flush()
        answer: tuple[str, list[int], str] = msgspec.json.decode(
            self.process.stdout.readline(), type=tuple[str, list[int], str]
        )
        return answer

    def close(self) -> None:
        self.process.communicate("")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "disk", 256 * 1024) as disk:
        yield disk


@pytest.fixture
def writer(disk: Disk) -> Iterator[Writer]:
    writer = Writer(disk.path)
    yield writer
    writer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sick_disk_costs_what_comes_and_nothing_that_was_there(
    kind: Kind, disk: Disk, writer: Writer
) -> None:
    assert writer.save(1) == ("", [1], "1")
    with disk.sick(kind, writer.process.pid):
        said, kept, noted = writer.save(2)
        assert "Errno" in said
        assert 1 in kept
        assert noted in {"1", "2"}
        assert list(DiskCache(disk.path).load(SHOP))[-1][:1] == b"1", "to others as well"
    assert writer.save(3)[0] == ""
    assert next(DiskCache(disk.path).load(SHOP))[:1] == b"3"
    assert not list(disk.path.rglob("*.aside"))


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_process_that_begins_on_a_sick_disk_reads_it_and_writes_when_it_is_well(
    kind: Kind, disk: Disk, writer: Writer
) -> None:
    first = Writer(disk.path)
    assert first.save(1) == ("", [1], "1")
    first.close()
    with disk.sick(kind, writer.process.pid):
        said, kept, _ = writer.save(2)
        assert said
        assert kept == [1]
    assert writer.save(2) == ("", [2, 1], "2")


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_cache_that_can_not_even_be_made_is_made_later(
    kind: Kind, disk: Disk, writer: Writer
) -> None:
    with disk.sick(kind, writer.process.pid):
        said, kept, _ = writer.save(1)
        assert said
        assert kept == []
    assert writer.save(1) == ("", [1], "1")


def test_a_patient_one_waits_for_its_directory_too(tmp_path: Path) -> None:
    blocked = tmp_path / "mount"
    blocked.write_text("not mounted yet")
    cache = DiskCache(blocked, patient=True)
    assert "can't be used" in cache.fault
    with pytest.raises(Unavailable, match="Not a directory"):
        cache.save(SHOP, 1, b"body")
    assert list(cache.load(SHOP)) == []
    blocked.unlink()
    cache.save(SHOP, 1, b"body")
    assert list(cache.load(SHOP)) == [b"body"]
    assert not cache.fault


def test_a_patient_one_reads_nothing_where_others_can_write(tmp_path: Path) -> None:
    DiskCache(tmp_path).save(SHOP, 1, b"planted")
    (tmp_path / "holdfast-1").chmod(0o777)
    cache = DiskCache(tmp_path, patient=True)
    assert "open to others" in cache.fault
    assert list(cache.load(SHOP)) == []
    assert list(cache.subjects()) == []
    assert cache.noted("root") is None


def test_a_name_whose_sync_failed_is_synced_with_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(tmp_path)
    cache.save(SHOP, 1, b"one")
    synced: list[Path] = []
    real = DiskCache._sync

    def sync(self: DiskCache, folder: Path) -> None:
        synced.append(folder)
        if len(synced) == 1:
            self._unsynced.add(folder)
            raise OSError(5, "Input/output error")
        real(self, folder)

    monkeypatch.setattr(DiskCache, "_sync", sync)
    with pytest.raises(Unavailable, match="Input/output"):
        cache.save(SHOP, 2, b"two")
    cache.save(SHOP, 2, b"two")
    assert len(synced) == 2
    cache.save(SHOP, 2, b"two")
    assert len(synced) == 2

"""Crashes, rot, other processes and other users: nothing wrong ever comes out of the cache."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import stat
from pathlib import Path

import pytest

from holdfast.adapters import disk_cache
from holdfast.adapters.disk_cache import DAMAGED_KEPT, GENERATIONS_KEPT, DiskCache
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject

SHOP = Subject("production", "demo-shop")
BODIES = {revision: os.urandom(300) for revision in (1, 2, 3)}


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    cache = DiskCache(tmp_path)
    for revision, body in BODIES.items():
        cache.save(SHOP, revision, body)
    return cache


def files(tmp_path: Path, pattern: str = "*-*") -> list[Path]:
    folder = tmp_path / "holdfast-1" / "generations" / "production" / "demo-shop"
    return sorted(folder.glob(pattern))


def test_another_start_finds_what_was_saved(cache: DiskCache, tmp_path: Path) -> None:
    assert list(DiskCache(tmp_path).load(SHOP)) == [BODIES[3], BODIES[2], BODIES[1]]


def spoil(whole: bytes, chance: random.Random) -> bytes:
    """One random flip of a bit, or a truncation, or something more."""
    at = chance.randrange(len(whole))
    changed = bytearray(whole)
    changed[at] ^= 1 << chance.randrange(8)
    return chance.choice([bytes(changed), bytes(changed), whole[:at], whole + whole[at:] or b"x"])


def test_2000_random_damages_are_all_found(cache: DiskCache, tmp_path: Path) -> None:
    chance = random.Random(20261122)
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    for number in range(1, 2001):
        newest.write_bytes(spoil(whole, chance))
        assert list(cache.load(SHOP)) == [BODIES[2], BODIES[1]]
        assert cache.damaged == number


def test_without_its_checksum_rot_would_be_served(
    cache: DiskCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damage with the protection off."""
    newest = files(tmp_path)[-1]
    rotten = bytearray(newest.read_bytes())
    rotten[-1] ^= 1
    newest.write_bytes(rotten)
    monkeypatch.setattr(disk_cache, "_header", lambda *_: bytes(rotten[: disk_cache._HEADER_BYTES]))
    assert next(cache.load(SHOP)) not in BODIES.values()


@pytest.mark.parametrize("every", [1, 7])
def test_truncation_at_any_point_is_found(cache: DiskCache, tmp_path: Path, every: int) -> None:
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    for size in range(0, len(whole), every):
        newest.write_bytes(whole[:size])
        assert next(cache.load(SHOP)) == BODIES[2]


def test_a_damaged_document_is_none(cache: DiskCache, tmp_path: Path) -> None:
    cache.note("root", b"the root")
    path = tmp_path / "holdfast-1" / "noted" / "root"
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.noted("root") is None
    assert cache.damaged == 1
    assert list(cache.names("")) == []


def test_damaged_files_are_set_aside_and_bounded(cache: DiskCache, tmp_path: Path) -> None:
    for revision in range(4, 20):
        cache.save(SHOP, revision, b"body %d" % revision)
        files(tmp_path, f"{revision:016d}-*")[0].write_bytes(b"rot")
        list(cache.load(SHOP))
    cache.save(SHOP, 20, b"body 20")
    assert len(files(tmp_path, "*.damaged")) <= DAMAGED_KEPT
    assert len(files(tmp_path)) <= GENERATIONS_KEPT + DAMAGED_KEPT


def test_a_damaged_generation_is_saved_again(cache: DiskCache, tmp_path: Path) -> None:
    files(tmp_path)[-1].write_bytes(b"rot")
    cache.save(SHOP, 3, BODIES[3])
    assert next(cache.load(SHOP)) == BODIES[3]


def test_only_its_owner_may_look(cache: DiskCache, tmp_path: Path) -> None:
    cache.note("root", b"the root")
    for path in (tmp_path / "holdfast-1").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    """Who can write there could plant a root to trust."""
    (tmp_path / "holdfast-1").mkdir(mode=0o700)
    (tmp_path / "holdfast-1").chmod(0o777)
    with pytest.raises(Unavailable, match="open to others"):
        DiskCache(tmp_path)


def test_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "holdfast-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        DiskCache(tmp_path)


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        DiskCache(tmp_path / "file")


@pytest.mark.parametrize("name", ["../root", "a/b", "", ".", "..", "a" * 300, "x.damaged"])
def test_no_name_leads_out(cache: DiskCache, name: str) -> None:
    with pytest.raises(Unavailable):
        cache.note(name, b"")
    with pytest.raises(Unavailable):
        cache.save(Subject("production", name), 1, b"")


def failing_at(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    target = Path if call == "replace" else os
    monkeypatch.setattr(target, call, fail)


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_what_was(
    cache: DiskCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = {path.name: path.read_bytes() for path in files(tmp_path, "*")}
    with monkeypatch.context() as patch:
        failing_at(patch, call)
        with pytest.raises(Unavailable, match="No space left"):
            cache.save(SHOP, 4, b"new")
        with pytest.raises(Unavailable, match="No space left"):
            cache.note("root", b"new")
    assert {path.name: path.read_bytes() for path in files(tmp_path, "*")} == before
    cache.save(SHOP, 4, b"new")
    assert next(cache.load(SHOP)) == b"new"


def test_the_rename_comes_after_the_sync(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves an empty file under the final name."""
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))[1]
    )
    cache.save(SHOP, 4, b"new")
    assert calls == ["fsync", "rename", "fsync"]


def test_a_folder_whose_name_is_not_on_disk_yet_is_owed_until_it_is(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, synced = os.fsync, list[str]()

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(Unavailable):
        cache.save(Subject("staging", "mail"), 1, b"one")
    monkeypatch.setattr(os, "fsync", note)
    cache.save(Subject("staging", "mail"), 1, b"one")
    assert "generations" in synced


def test_leftovers_of_a_crash_are_not_read_and_go(cache: DiskCache, tmp_path: Path) -> None:
    left = files(tmp_path)[0].with_name("0000000000000009-0123456789abcdef.1-1.aside")
    left.write_bytes(b"half of a bo")
    os.utime(left, (0, 0))
    assert next(cache.load(SHOP)) == BODIES[3]
    cache.save(SHOP, 4, b"new")
    assert not left.exists()


def hammer(directory: str, seed: int, out: multiprocessing.Queue[str]) -> None:
    chance, cache = random.Random(seed), DiskCache(directory)
    good = {b"body %d" % revision for revision in range(60)}
    for revision in range(60):
        cache.save(SHOP, revision, b"body %d" % revision)
        cache.note("root", b"%d" % chance.randrange(10) * 10_000)
        bodies = list(cache.load(SHOP))
        root = cache.noted("root")
        if not bodies or set(bodies) - good or root is None or len(set(root)) != 1:
            out.put(f"wrong at {revision}: {bodies[:1]!r}")
    out.put("damaged" if cache.damaged else "fine")


def test_processes_that_share_a_directory_do_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=hammer, args=(str(tmp_path), n, out)) for n in range(3)]
    for process in processes:
        process.start()
    said = [out.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert said == ["fine"] * 3

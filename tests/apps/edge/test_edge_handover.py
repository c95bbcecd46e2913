"""A place goes from one process to another over its door; whoever dies on the way, one goes on.

Both ends are real: locks, sockets, open files. What a process is here is whoever holds the files:
closing them is what its death does.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import until

from holdfast.adapters.disk_cache import DiskCache
from holdfast.apps.edge import handover
from holdfast.apps.edge.handover import Giver, Place, take
from holdfast.apps.edge.talk import Said, Talk
from holdfast.core.errors import Unavailable


class Serving:
    """Who serves: it notes what it is told to do."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.told: list[object] = []

    def sockets(self) -> list[socket.socket]:
        return [self.socket]

    def holds(self) -> dict[str, int]:
        return {"production/shop": 7}

    def lay_down(self) -> None:
        self.told.append("lay down")

    def take_up(self) -> None:
        self.told.append("take up")

    def leave(self, pid: int) -> None:
        self.told.append(("leave", pid))

    def stay(self) -> None:
        self.told.append("stay")


class Old:
    """A process that has the place and waits at its door."""

    def __init__(self, cache_dir: Path) -> None:
        self.place = take(cache_dir, take_over=False)
        self.serving = Serving()
        self.giver = Giver(self.place, self.serving)
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def told(self) -> list[object]:
        return self.serving.told

    def _run(self) -> None:
        while not self._gone.is_set():
            ready, _, _ = select.select(self.giver.watched(), (), (), 0.01)
            self.giver.turn(ready)

    def die(self) -> None:
        """As a killed process does: its files are closed, and not a word is said."""
        self._gone.set()
        self._thread.join()
        self.giver.close()
        self.serving.socket.close()
        die(self.place)


def die(place: Place) -> None:
    if place.talk is not None:
        place.talk.close()
        place.talk = None
    for each in place.sockets:
        each.close()
    place.close()


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    DiskCache(tmp_path)
    return tmp_path


@pytest.fixture
def old(cache_dir: Path) -> Iterator[Old]:
    made = Old(cache_dir)
    yield made
    made.die()


@pytest.fixture
def taking(cache_dir: Path, old: Old) -> Iterator[Place]:
    place = take(cache_dir, take_over=True)
    yield place
    die(place)


def test_a_place_that_nobody_has_is_taken(cache_dir: Path) -> None:
    with contextlib.closing(take(cache_dir, take_over=True)) as place:
        assert place.ours
        assert not place.sockets
        door = cache_dir / "holdfast-1" / "edge.door"
        assert door.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_takes_no_lock_keeps_no_edge_from_serving(tmp_path: Path) -> None:
    with contextlib.closing(take(tmp_path / "not-there", take_over=True)) as place:
        assert place.ours
        giver = Giver(place, Serving())
        assert giver.watched() == []
        giver._stand.socket.close()


def test_without_being_asked_to_nobody_takes_over(cache_dir: Path, old: Old) -> None:
    with pytest.raises(Unavailable, match=f"process {os.getpid()}.*--take-over"):
        take(cache_dir, take_over=False)
    assert old.told == []


def test_a_takeover_hands_over_the_sockets_then_the_cache(
    cache_dir: Path, old: Old, taking: Place
) -> None:
    assert taking.holds == {"production/shop": 7}
    assert taking.sockets[0].getsockname() == old.serving.socket.getsockname()
    assert not taking.ours
    taking.settle()
    assert taking.ours
    assert old.told == ["lay down"]
    taking.serving()
    until(lambda: old.giver.state == "left")
    assert old.told[1:] == [("leave", os.getpid())]
    old.die()
    assert not Place(cache_dir).begin(), "the lock went over with the cache"
    with socket.create_connection(taking.sockets[0].getsockname()):
        taking.sockets[0].accept()[0].close()


def test_the_next_one_asks_the_one_that_serves_now(
    cache_dir: Path, old: Old, taking: Place
) -> None:
    taking.settle()
    taking.serving()
    until(lambda: old.giver.state == "left")
    serving = Serving()
    giver = Giver(taking, serving)
    third: list[Place] = []
    asking = threading.Thread(target=lambda: third.append(take(cache_dir, take_over=True)))
    asking.start()
    while not third:
        ready, _, _ = select.select(giver.watched(), (), (), 0.01)
        giver.turn(ready)
    asking.join()
    assert third[0].holds == {"production/shop": 7}
    die(third[0])
    giver.close()
    serving.socket.close()


def test_only_one_takes_over_at_a_time(cache_dir: Path, taking: Place) -> None:
    assert taking.talk
    with pytest.raises(Unavailable, match="another process is taking over"):
        take(cache_dir, take_over=True)


# Who dies when. The one that is left goes on.


def test_the_new_one_dies_before_it_proved_anything(old: Old, taking: Place) -> None:
    die(taking)
    until(lambda: old.giver.state == "serving")
    assert old.told == []


def test_the_new_one_dies_with_the_cache_in_its_hands(
    cache_dir: Path, old: Old, taking: Place
) -> None:
    taking.settle()
    taking.talk.close()
    until(lambda: old.giver.state == "serving")
    assert old.told == ["lay down", "take up"]
    die(taking)
    with contextlib.closing(take(cache_dir, take_over=True)) as again:
        assert again.holds, "the old one is at its door again"
        die(again)


def test_the_new_one_dies_after_it_began_to_serve(old: Old, taking: Place) -> None:
    taking.settle()
    taking.serving()
    until(lambda: old.giver.state == "left")
    taking.talk.close()
    until(lambda: old.giver.state == "serving")
    assert old.told[2:] == ["take up", "stay"]


def test_the_new_one_is_told_to_end_and_nobody_comes_back(old: Old, taking: Place) -> None:
    taking.settle()
    taking.serving()
    taking.close()
    until(lambda: old.giver.state == "done")
    assert "stay" not in old.told


def test_the_old_one_dies_before_it_offers(cache_dir: Path, old: Old) -> None:
    old.die()
    with contextlib.closing(take(cache_dir, take_over=True)) as place:
        assert place.ours


def test_the_old_one_dies_while_the_new_one_proves_itself(old: Old, taking: Place) -> None:
    assert not taking.gone()
    old.die()
    until(taking.gone)
    taking.survive()
    assert taking.ours
    assert taking.sockets[0].getsockname()[1] > 0


def test_the_old_one_dies_when_it_is_to_hand_over_the_cache(old: Old, taking: Place) -> None:
    old.die()
    taking.settle()
    assert taking.ours


def test_the_old_one_dies_when_all_is_handed_over(old: Old, taking: Place) -> None:
    taking.settle()
    old.die()
    taking.serving()
    assert taking.ours


def test_who_proves_for_too_long_is_let_go(
    cache_dir: Path, old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "ENDING_S", 0.2)
    place = take(cache_dir, take_over=True, within_s=0.05 - handover.ANSWER_S)
    until(place.gone)
    with pytest.raises(Unavailable, match="goes on"):
        place.survive()
    assert old.giver.state == "serving"
    die(place)


def test_nonsense_at_the_door_changes_nothing(cache_dir: Path, old: Old) -> None:
    for nonsense in (b"{}\n", b"x" * 100, b'{"say":"serving"}\n', b'{"say":"asked","version":9}\n'):
        with handover._connected(cache_dir) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    until(lambda: old.giver.state == "serving")
    assert old.told == []
    talk = Talk(handover._connected(cache_dir))
    talk.send(Said("asked", within_s=5))
    assert talk.receive(5)[0].say == "offer"
    talk.close()

"""Ready means that it answers: what is held, and not answered from yet, does not count."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from serving import running, until
from upstream import FOLLOW_TEXT, SHOP_SUBJECT, World, setting

from holdfast.apps.edge.alone import held_by, lacks
from holdfast.apps.edge.process import Edge
from holdfast.apps.settings import EdgeSettings
from holdfast.core.model import PutService, Service


class Slow:
    """A rehearsal that takes long for the shop."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def fault(self, active) -> str:
        if active.subject == SHOP_SUBJECT:
            self.began.set()
            assert self.go_on.wait(20)
        return ""


@contextlib.contextmanager
def edge_for(cache_dir: Path, port: int) -> Iterator[Edge]:
    """An edge that has not begun to follow."""
    url = f"http://127.0.0.1:{port}"
    edge = Edge(
        EdgeSettings(upstreams=(url,), token=FOLLOW_TEXT, cache_dir=cache_dir, port=0, shutdown_s=1)
    )
    with contextlib.closing(edge), running(edge.listener):
        yield edge


def two_services(tmp_path) -> World:
    world = World(tmp_path)
    mail = setting("boolean", {"on": True, "off": False}, "on")
    world.commit(PutService("mail", Service()), *world.settings("mail", {"send": mail}))
    return world


def test_it_is_not_ready_while_one_subject_is_still_rehearsed(tmp_path):
    world, slow = two_services(tmp_path), Slow()
    with world.serving() as upstream, edge_for(tmp_path / "a", upstream.port) as edge:
        edge._rehearsal = slow
        edge.start()
        assert slow.began.wait(20)
        until(lambda: len(edge.follower.subjects()) == 3 or slow.go_on.is_set())
        assert not edge.ready()[0]
        slow.go_on.set()
        until(lambda: edge.ready()[0])
        assert edge.table.get(SHOP_SUBJECT) is not None


def test_who_takes_over_has_no_more_than_what_it_answers(tmp_path):
    """Else a caller would see a revision, and then an older one."""
    world, slow = two_services(tmp_path), Slow()
    with world.serving() as upstream, edge_for(tmp_path / "a", upstream.port) as edge:
        edge.start()
        until(lambda: edge.ready()[0])
        before = held_by(edge)
        assert before.keys() == {"production/shop", "production/mail", "production/_access"}
        edge._rehearsal = slow
        world.change()
        assert slow.began.wait(20)
        newer = {"production/shop": edge.follower.generation(SHOP_SUBJECT).revision}
        assert newer["production/shop"] > before["production/shop"]
        assert "as new as" in lacks(edge, newer)
        slow.go_on.set()
        until(lambda: not lacks(edge, newer))
        assert edge.table.get(SHOP_SUBJECT).revision == newer["production/shop"]

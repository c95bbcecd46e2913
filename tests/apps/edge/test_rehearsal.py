"""A build that answers wrongly, between the evaluator and the wire or in it: it answers nothing.

The defects are planted into the running code: nothing else is a wrong build of it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from an_edge import edge_at
from serving import call, until
from upstream import READ, SHOP_SUBJECT, World, setting

from holdfast.apps import ofrep
from holdfast.apps.edge import process
from holdfast.apps.edge.process import Edge
from holdfast.apps.edge.shelf import EdgeShelf
from holdfast.apps.edge.table import Active, Table
from holdfast.core.probes import Answering
from holdfast.core.targeting.outcome import Outcome

BANNER = "/production/shop/ofrep/v1/evaluate/flags/banner"
CONTOSO = '{"context":{"tenant":"contoso"}}'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def plant_wrong_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ofrep.encode

    def encode(active: Active, outcome: Outcome) -> object:
        answer = right(active, outcome)
        told = msgspec.json.decode(answer.body)
        body = msgspec.json.encode({**told, "value": str(told.get("value"))})
        return msgspec.structs.replace(answer, body=body)

    monkeypatch.setattr(ofrep, "encode", encode)


def silent(edge: Edge) -> bool:
    ready, facts = edge.ready()
    port = edge.listener.port
    statuses = {
        call(port, "POST", BANNER, CONTOSO, READ).status,
        call(port, "POST", BANNER.removesuffix("/banner"), CONTOSO, READ).status,
        call(port, "GET", "/readyz").status,
    }
    return not ready and bool(facts.get("fault")) and statuses == {503}


def test_a_defect_in_the_writing_of_answers_keeps_an_edge_from_answering(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_wrong_writing(monkeypatch)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port, wait=False) as edge:
        until(lambda: silent(edge))


def test_unprotected_the_wrong_answer_goes_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_wrong_writing(monkeypatch)
    with (
        world.serving() as upstream,
        edge_at(tmp_path / "e", upstream.port, unprotected=True) as edge,
    ):
        assert call(edge.listener.port, "POST", BANNER, CONTOSO, READ).json()["value"] == "True"


def test_a_table_that_keeps_its_first_generation_is_found_at_the_next(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Table.put

    def put(table: Table, active: Active) -> None:
        if table.get(active.subject) is None:
            right(table, active)

    monkeypatch.setattr(Table, "put", put)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        world.put("shop", banner=setting("boolean", {"on": True, "off": False}, "on"))
        until(lambda: silent(edge))


def test_a_shelf_that_is_busy_is_no_defect(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One entry may touch a thousand subjects: what they hand on follows when there is time."""
    goes_on, looks = threading.Event(), []
    deltas, behind = EdgeShelf._deltas, Edge._behind

    def later(shelf: EdgeShelf, *facts: Any) -> dict[str, bytes]:
        goes_on.wait(20)
        return deltas(shelf, *facts)

    monkeypatch.setattr(EdgeShelf, "_deltas", later)
    monkeypatch.setattr(process, "LABELS_S", 0.01)
    monkeypatch.setattr(Edge, "_behind", lambda edge: looks.append(None) or behind(edge))
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        before = edge.table.get(SHOP_SUBJECT).revision
        try:
            world.put("shop", banner=setting("boolean", {"on": True, "off": False}, "on"))
            until(lambda: edge.table.get(SHOP_SUBJECT).revision > before)
            seen = len(looks)
            until(lambda: len(looks) > seen + 5)
            assert edge.ready()[0]
        finally:
            goes_on.set()


def test_a_shelf_that_keeps_another_generation_than_is_answered_is_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LABELS_S", 0.01)
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port) as edge:
        monkeypatch.setattr(EdgeShelf, "_shelve", lambda *_: None)
        world.put("shop", banner=setting("boolean", {"on": True, "off": False}, "on"))
        until(lambda: silent(edge))


def test_a_build_under_which_what_was_proven_is_not_any_more_answers_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port):
        pass
    monkeypatch.setattr("holdfast.sdk.trials.Trials.tested", lambda *_: False)
    monkeypatch.setattr(Answering, "answer", lambda *_: b'"another"')
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port, wait=False) as edge:
        assert silent(edge)


def test_what_was_refused_and_has_nothing_older_may_be_answered_elsewhere(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, so that the caller asks another edge: a 404 would be believed."""
    monkeypatch.setattr(Answering, "answer", lambda *_: b'"another"')
    with world.serving() as upstream, edge_at(tmp_path / "e", upstream.port, wait=False) as edge:
        until(lambda: edge.expects(SHOP_SUBJECT))
        assert call(edge.listener.port, "POST", BANNER, CONTOSO, READ).status == 503
        assert not edge.ready()[0]

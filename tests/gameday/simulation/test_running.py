"""What every run holds to: the same again, each request accounted for, weights change little."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gameday.simulation.fleets import ONE, TWO, encoded, fleet, played

from holdfast.core.errors import Unavailable
from holdfast.gameday.simulation import running
from holdfast.gameday.simulation.parameters import (
    Change,
    Forgery,
    Happening,
    Outage,
    Pace,
    Parameters,
    Poison,
    Region,
    Rollout,
    Step,
)
from holdfast.gameday.simulation.reading import schema

EVENTFUL = fleet(
    clients=60,
    regions=TWO,
    services=3,
    control_nodes=2,
    happenings=(
        Change(at_s=5),
        Outage(at_s=10, for_s=10, region="us"),
        Poison(at_s=30, for_s=5, service=1),
        Forgery(at_s=40, for_s=10, region="eu"),
        Change(at_s=42, service=0),
    ),
)


def test_the_same_parameters_and_seed_give_the_same_bytes_in_another_process_too():
    here = encoded(played(EVENTFUL))
    code = (
        "import sys; from tests.gameday.simulation.test_running import *; "
        "sys.stdout.buffer.write(encoded(played(EVENTFUL)))"
    )
    other = subprocess.run((sys.executable, "-c", code), capture_output=True, check=True)
    assert other.stdout == here
    assert encoded(played(EVENTFUL, seed=2)) != here


def happenings() -> st.SearchStrategy[Sequence[Happening]]:
    at_s, for_s = st.floats(0, 39), st.floats(0.1, 30)
    hows = st.sampled_from(("killed", "refusing", "unreachable"))
    regions = st.sampled_from(("", "eu", "us"))
    outages = st.builds(Outage, at_s=at_s, for_s=for_s, region=regions, how=hows)
    services = st.sampled_from((0, 1, "all"))
    return st.lists(
        st.builds(Change, at_s=at_s, service=services)
        | outages
        | st.builds(Poison, at_s=at_s, for_s=for_s, service=st.integers(0, 1))
        | st.builds(Forgery, at_s=at_s, for_s=for_s, region=st.sampled_from(("eu", "us"))),
        max_size=5,
    )


@settings(max_examples=20, deadline=None)
@given(
    happened=happenings(), streams=st.booleans(), protected=st.booleans(), weight=st.integers(1, 7)
)
def test_whatever_happens_each_request_has_one_end_and_nobody_goes_back(
    happened, streams, protected, weight
):
    asked = fleet(
        clients=30,
        regions=TWO,
        services=2,
        run_s=40.0,
        settle_s=12.0,
        protected=protected,
        streams_max=30,
        pace=Pace(poll_interval_s=5, poll_interval_max_s=20, streams=streams),
        happenings=tuple(happened),
    )
    result = played(asked, weight=weight)
    assert result.counted
    assert result.went_back == 0, "a revision never goes down, whoever answers"
    assert result.clients == 30
    for layer in result.layers:
        assert layer.asked == sum(layer.ends.values()) + layer.open
        assert layer.open >= 0
    for each in result.propagation:
        assert 0 <= each.p50_s <= each.p99_s <= each.last_s
        assert each.reached <= each.of
    assert max(result.well) <= asked.clients
    assert max(result.listening) <= (asked.clients if streams else 0)


def test_a_weight_changes_little_and_the_run_says_how_much():
    asked = fleet(clients=300, machines_max=75, happenings=(Change(at_s=20),))
    told = []
    result = running.simulate(asked, "weighted", 1, lambda share, _: told.append(share))
    assert result.weight == 4
    exact = played(asked)
    by_name = {each.figure: each for each in result.weights}
    assert by_name["edges eu, requests/s"].difference < 0.1
    rate = by_name["edges eu, requests/s"].value
    assert rate == pytest.approx(exact.layers[1].requests_per_s, rel=0.1)
    assert told == sorted(told)


def test_a_run_that_dies_is_told(monkeypatch):
    asked = fleet()
    broken = msgspec.structs.replace(asked, regions=())
    with pytest.raises(Unavailable, match="a simulation ended"):
        running.simulate(broken, "broken", 1, lambda *_: None)


def test_a_rollout_that_harms_nobody_is_completed_and_a_bad_one_is_taken_back():
    stages = (Step(percent=10, bake_s=20), Step(percent=100, bake_s=20))
    good = Rollout(at_s=1, stages=stages, service=0, requests_per_s=10)
    bad = Rollout(at_s=2, stages=stages, service=1, requests_per_s=10, ratio=10)
    result = played(fleet(services=2, happenings=(good, bad)))
    first, second = result.rollouts
    assert [stage.status for stage in first.stages] == ["running", "running", "completed"]
    assert second.stages[-1].status == "rolled-back"
    assert "exposed requests fail more often" in second.stages[-1].why
    assert second.stages[-1].percent == 0
    assert second.exposed_errors < first.exposed_requests


def test_forged_snapshots_are_refused_and_another_edge_brings_the_change():
    forgery = Forgery(at_s=5, for_s=50, region="eu", share=0.5)
    asked = fleet(regions=ONE, happenings=(forgery, Change(at_s=20)))
    result = played(asked)
    assert sum(result.disbelieved.values()) > 0
    clients = [each for each in result.propagation if each.layer == "clients"]
    assert clients[0].reached == asked.clients


def test_a_poisoned_service_takes_its_cell_and_with_shards_the_others_stay():
    region = Region(name="eu", share=1.0, edges=12)
    poison = Poison(at_s=10, for_s=20, service=0)
    told = {"services": 6, "happenings": (poison,)}
    everybody = played(fleet(regions=(region,), **told))
    assert (everybody.cells, everybody.cells_lost) == (6, 6)
    sharded = msgspec.structs.replace(region, per_service=3)
    shards = played(fleet(regions=(sharded,), **told))
    assert 1 <= shards.cells_lost < 6
    assert shards.clients_in_lost_cells < everybody.clients_in_lost_cells


def test_while_the_control_plane_is_away_commits_are_refused_and_clients_go_on():
    away = Outage(at_s=10, for_s=20)
    result = played(fleet(happenings=(away, Change(at_s=15), Change(at_s=50))))
    assert result.commits_refused == 1
    assert len({each.commit for each in result.propagation}) == 1
    assert min(result.well) == result.clients


def test_the_published_schema_is_the_code_s():
    page = Path(__file__).parents[3] / "docs/reference/simulation.schema.json"
    made = msgspec.json.decode(msgspec.json.encode(schema()))
    assert msgspec.json.decode(page.read_bytes()) == made, "holdfast simulate schema writes it"


def test_what_is_simulated_most_is_bounded():
    assert Parameters(clients=1_000_000, regions=ONE).weight == 50

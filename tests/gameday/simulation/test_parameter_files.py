"""Parameter files: every problem at once, each with its place and the way out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gameday.simulation.fleets import TWO, fleet

from holdfast.core.errors import Invalid
from holdfast.gameday.simulation.costs import Costs
from holdfast.gameday.simulation.parameters import Parameters
from holdfast.gameday.simulation.reading import read, read_costs

EXAMPLES = sorted((Path(__file__).parents[3] / "examples/simulation").glob("*.yaml"))

WRONG = """\
clients: 0
machines: 10
regions:
  - {name: eu, share: 0.5, edges: 2, per_service: 3}
  - {name: EU, share: half}
happenings:
  - {kind: outage, at_s: 1}
  - {kind: flood, at_s: 1}
  - {kind: change, at_s: -1}
"""
UNMEANT = """\
clients: 10
run_s: 60
settle_s: 10
start_within_s: 20
pace: {poll_interval_s: 30, poll_interval_max_s: 10}
regions:
  - {name: eu, share: 0.5, edges: 900, per_service: 901}
  - {name: eu, share: 0.2, edges: 200}
happenings:
  - {kind: outage, at_s: 90, for_s: 1, region: mars}
  - {kind: change, at_s: 1, service: 7}
"""


def problems(text: str) -> list[tuple[int, str, str, str]]:
    with pytest.raises(Invalid) as caught:
        read(text.encode(), "fleet.yaml")
    return [(each.line, each.path, each.message, each.hint) for each in caught.value.problems]


def test_all_that_is_wrong_is_told_with_place_and_way_out():
    found = problems(WRONG)
    assert all(hint for *_, hint in found)
    assert {(line, path) for line, path, *_ in found} == {
        (1, "/clients"),
        (2, "/machines"),
        (5, "/regions/1/name"),
        (5, "/regions/1/share"),
        (7, "/happenings/0"),
        (8, "/happenings/1"),
        (9, "/happenings/2/at_s"),
    }
    assert any("machines_max" in hint for *_, hint in found)


def test_so_is_all_that_can_t_be_meant():
    found = problems(UNMEANT)
    assert all(line and hint for line, _, _, hint in found)
    assert {path for _, path, *_ in found} == {
        "/settle_s",
        "/pace/poll_interval_max_s",
        "/regions",
        "/regions/0/per_service",
        "/regions/1/name",
        "/happenings/0/at_s",
        "/happenings/0/region",
        "/happenings/1/service",
    }


@pytest.mark.parametrize("text", ["", "[]", "clients: [", "\x00", "happenings: 3"])
def test_what_is_no_parameter_file_is_refused(text):
    assert problems(text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_right(path):
    asked = read(path.read_bytes(), str(path))
    assert asked.weight >= 1


@settings(max_examples=15, deadline=None)
@given(
    clients=st.integers(1, 1_000_000),
    machines=st.integers(10, 1_000_000),
    interval=st.integers(1, 3_600),
)
def test_what_is_written_reads_back(clients, machines, interval):
    asked = fleet(clients=clients, machines_max=machines, regions=TWO)
    pace = msgspec.structs.replace(asked.pace, poll_interval_s=interval, poll_interval_max_s=3_600)
    asked = msgspec.structs.replace(asked, pace=pace)
    again = read(msgspec.json.encode(asked), "fleet.json")
    assert again == asked
    assert (again.weight - 1) * machines < clients <= again.weight * machines


def test_costs_read_back_as_they_were_printed():
    costs = Costs(hint_s=3e-6)
    assert read_costs(msgspec.json.encode(costs), "costs.json") == costs
    with pytest.raises(Invalid, match="hint_ms"):
        read_costs(b"{hint_ms: 3}", "costs.yaml")
    assert Parameters(clients=1, regions=TWO, costs=costs).costs.hint_s == 3e-6

"""The light clients of game days, against a stand-in that refuses everybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.core.errors import Unavailable
from holdfast.gameday.processes import Build, Process, free_ports
from holdfast.gameday.swarm import Swarm, Swarming


@pytest.fixture
def refusing(tmp_path: Path):
    (port,) = free_ports(1)
    arguments = (str(port), str(os.getpid()))
    process = Process("503", "holdfast.gameday.refusing", arguments, tmp_path / "503.log")
    process.start(Build("a balancer"))
    yield f"http://127.0.0.1:{port}"
    process.kill()


@pytest.mark.parametrize("protected", [True, False])
def test_refused_clients_ask_on_and_what_they_offer_is_counted(refusing, tmp_path, protected):
    told = Swarming(
        endpoints=(refusing,),
        clients=40,
        poll_interval_s=1.0,
        start_within_s=0.5,
        protected=protected,
    )
    with Swarm(tmp_path, told) as swarm:
        swarm.wait(lambda now: now.statuses.get(503, 0) > 0, "a refusal", 20.0)
        first_s = swarm.slices()[0].at_s
        swarm.wait(lambda now: now.at_s > first_s + 4.0, "some seconds", 20.0)
        seen = swarm.slices()
        assert (seen[-1].well, seen[-1].streams, seen[-1].revisions) == (0, 0, {})
        assert set(swarm.statuses()) <= {0, 503}
        assert sum(each.offered for each in seen) >= 40
        calm = swarm.offered(first_s + 2.0, first_s + 4.0)
        assert (calm < 2 * 40) == protected, "protected clients wait, the others hammer"
        assert swarm.peak(0.0, float("inf"), 0.5) >= calm
    assert not swarm.process.alive


def test_a_swarm_is_bounded(tmp_path):
    with pytest.raises(Unavailable, match="at most"):
        Swarm(tmp_path, Swarming(endpoints=("http://127.0.0.1:1",), clients=1_000_000))

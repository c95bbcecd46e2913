"""Plots and tables of a run, as somebody reads them: plain figures, no line left out unsaid."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from holdfast.gameday.simulation.plots import LABELLED_MAX, draw_all
from holdfast.gameday.simulation.results import Cost, Curve, Result
from holdfast.gameday.simulation.tables import figure, headline

QUIET = Result(
    name="quiet",
    seed=1,
    clients=10,
    machines=10,
    weight=1,
    edges=1,
    relays=0,
    control_nodes=1,
    events=0,
    run_s=3.0,
    settle_s=0.0,
    slot_s=1.0,
    counted=True,
    propagation=(),
    layers=(),
    herds=(),
    cost=Cost(
        requests_per_h=0,
        received_bytes_per_h=0,
        sent_bytes_per_h=0,
        client_cpu_s_per_h=0,
        server_cpu_s_per_h=0,
    ),
    cells=1,
    cells_lost=0,
    clients_in_lost_cells=0,
    refusals=0,
    admission_turns={},
    disbelieved={},
    went_back=0,
    commits_refused=0,
    rollouts=(),
    curves=(),
    well=(10, 10, 10),
    listening=(10, 10, 10),
    cdfs={},
)


def words(result: Result, directory: Path, plot: str) -> list[str]:
    """What is written in a plot."""
    draw_all(result, directory, "svg")
    return re.findall("<!-- (.*?) -->", (directory / f"{plot}.svg").read_text())


def spread(first_s: float, last_s: float) -> tuple[tuple[float, float], ...]:
    shares = [number / 100 for number in range(1, 101)]
    return tuple((first_s + share * (last_s - first_s), share) for share in shares)


@pytest.mark.parametrize("last_s", [0.26, 0.9, 5.0, 40.0])
def test_seconds_are_told_in_plain_figures_that_are_apart(last_s: float, tmp_path: Path) -> None:
    result = msgspec.structs.replace(QUIET, cdfs={"0: a change": spread(0.13, last_s)})
    written = words(result, tmp_path, "propagation")
    assert not [word for word in written if "times" in word or "^" in word]
    figures = [word for word in written if re.fullmatch(r"[0-9.]+", word)]
    assert len(figures) >= 8, "some on either axis"


@pytest.mark.parametrize(
    ("of", "told"),
    [(0.0, "0"), (0.63694, "0.6369"), (29.341, "29.34"), (999.96, "1000"), (12_501.4, "12,501")],
)
def test_a_figure_of_a_table_has_no_powers_of_ten(of: float, told: str) -> None:
    assert figure(of) == told


def test_one_node_is_no_nodes() -> None:
    assert "1 control-plane node;" in headline(QUIET)
    assert "3 control-plane nodes;" in headline(msgspec.structs.replace(QUIET, control_nodes=3))


def test_lines_that_have_no_name_of_their_own_are_counted(tmp_path: Path) -> None:
    def curve(number: int) -> Curve:
        return Curve(
            layer="edges",
            region=f"region-{number}",
            requests_per_s=(number, 1.0, 1.0),
            refused_per_s=(0.0, 0.0, 0.0),
            sent_bytes_per_s=(0.0, 0.0, 0.0),
            busy=(0.1, 0.1, 0.1),
            streams=(0, 0, 0),
        )

    curves = tuple(curve(number) for number in range(LABELLED_MAX + 3))
    for plot in ("requests", "busy"):
        written = words(msgspec.structs.replace(QUIET, curves=curves), tmp_path, plot)
        assert sum("region-" in word for word in written) == LABELLED_MAX
        assert "3 more" in written

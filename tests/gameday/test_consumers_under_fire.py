"""The rows of "Faults and promises" about consumers, in short, with protections and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.core.trust import EVERY_CHECK
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.liar import Liar
from holdfast.gameday.promises import hostile_edge, partition
from holdfast.gameday.truth import Truth


def missed(drill: Drill, folder: Path, *, protected: bool, sample: int) -> list[str]:
    day = Day(folder, seed=1, protected=protected, sample=sample)
    drill.run(day)
    assert day.figures
    return [f"{one.name}: {one.value}, {one.bar}" for one in day.figures if not one.holds]


@pytest.mark.timeout(120)
def test_no_lie_is_believed() -> None:
    """In a process of its own: it measures the memory of all that is in it."""
    drill = ("drill", "run", "hostile-edge", "--sample", "400")
    command = (sys.executable, "-m", "holdfast.apps.cli", *drill)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert (done.returncode, "PASS" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_who_believes_what_is_signed_or_sent_believes_lies(tmp_path: Path) -> None:
    found = missed(hostile_edge.DRILL, tmp_path, protected=False, sample=150)
    assert [text for text in found if text.startswith("lies believed")]


def test_who_refuses_everything_is_told_from_who_refuses_lies(tmp_path: Path) -> None:
    truth, other = Truth.make(tmp_path / "true"), Truth.make(tmp_path / "other", tiles=77)
    with Liar() as liar:
        reader = hostile_edge.Reader(liar, EVERY_CHECK)
        hostile_edge._hold_the_second(reader, liar, truth)
        assert not hostile_edge._takes_the_truth(reader, liar, other)
        assert hostile_edge._takes_the_truth(reader, liar, truth)


@pytest.mark.timeout(120)
def test_answers_that_are_lost_move_clients_to_the_other_edge(tmp_path: Path) -> None:
    assert missed(partition.DRILL, tmp_path, protected=True, sample=1) == []


@pytest.mark.timeout(120)
def test_who_knows_one_edge_alone_stays_behind(tmp_path: Path) -> None:
    found = missed(partition.DRILL, tmp_path, protected=False, sample=1)
    assert [text for text in found if text.startswith("failover")]

"""The report: complete, and told plainly when there is no picture."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import Invalid, Unavailable
from holdfast.gameday.drill import Chart, Day, Drill, Findings, Row, Tick
from holdfast.gameday.page import page
from holdfast.gameday.report import write_report
from holdfast.gameday.scenarios import MODULES, drill


def a_drill() -> tuple[Drill, Findings]:
    told = Drill(
        name="d", title="A day", outage="it broke.", rehearsal="we break it.", run=lambda _: None
    )
    day = Day(Path(), seed=3, protected=False)
    day.note("fault", "something | breaks")
    day.measure("wrong answers", 7, "0", holds=False)
    day.measure("answers", 1234.5, "more than 0", holds=True)
    day.put(Row("some-defect", "edge", False, "7 wrong", "a title"))
    day.ticks = [Tick(0.0, 10, 0, 0), Tick(0.5, 10, 7, 1)]
    day.root_cause, day.affected = "a defect", "everybody"
    lines = {"one": ((0.0, 1.0), (1.0, 2.0)), "other": ((0.0, 2.0),)}
    day.charts = [Chart(name="goodput", title="Goodput", x="s", y="1/s", lines=lines, bar=1.5)]
    return told, day.findings(told, "holdfast 1")


def test_a_report_has_the_parts_of_a_preliminary_review(tmp_path: Path) -> None:
    told, found = a_drill()
    text = write_report(told, found, tmp_path).read_text()
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == [
        "# A day: FAIL",
        "## What happened",
        "## When",
        "## Who was affected",
        "## Root cause",
        "## What stopped it",
        "## Figures",
        "## Faults, one by one",
        "## Timeline",
    ]
    assert "protections off" in text
    assert "something \\| breaks" in text
    assert "| wrong answers | 7 | 0 | **missed** |" in text
    for name in ("timeline.svg", "goodput.svg"):
        assert (tmp_path / name).read_text().startswith("<?xml")
    assert "![Goodput](goodput.svg)" in text


def test_a_drill_passes_only_if_something_was_measured_and_all_of_it_holds() -> None:
    told, found = a_drill()
    assert not found.passed
    day = Day(Path(), seed=1, protected=True)
    assert not day.findings(told, "").passed
    day.measure("x", 1, "1", holds=True)
    assert day.findings(told, "").passed


def test_without_matplotlib_the_text_is_written_and_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"holdfast\[plots\]"):
        write_report(*a_drill(), tmp_path)
    assert (tmp_path / "report.md").exists()


def ran(name: str, *, protected: bool, holds: bool, directory: Path) -> None:
    day = Day(Path(), seed=1, protected=protected)
    day.measure("wrong answers", 0 if holds else 7, "0", holds=holds)
    told = drill(name)
    write_report(told, day.findings(told, "holdfast 1 at abc"), directory / name)


def test_the_page_is_made_of_the_runs_that_lie_there(tmp_path: Path) -> None:
    directory = tmp_path / "reliability"
    ran("bad-value", protected=False, holds=False, directory=directory)
    assert "bad-value" not in page(directory), "a run without protection alone shows nothing"
    ran("bad-value", protected=True, holds=True, directory=directory)
    ran("ecs-2022", protected=True, holds=False, directory=directory)
    (directory / "ecs-2022" / "unprotected.json").write_text("not of this build")
    rows = [line for line in page(directory).splitlines() if line.startswith("| [")]
    assert len(rows) == 2
    assert "| PASS | 1 of 1 | FAIL |" in rows[0]
    assert "| **FAIL** | 0 of 1 |  |" in rows[1]
    assert all("holdfast 1 at abc" in row for row in rows)
    assert "Without protection: wrong answers: 7." in page(directory)


def test_every_drill_says_what_happened_and_what_it_does() -> None:
    for name in MODULES:
        told = drill(name)
        assert told.name == name
        assert told.outage
        assert told.rehearsal


def test_an_unknown_drill_is_told_which_there_are() -> None:
    with pytest.raises(Invalid, match="no game day 'x'"):
        drill("x")

"""The row `slow-loris` in short, with the deadline and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.gameday.drill import Day
from holdfast.gameday.promises import slow_loris


def missed(folder: Path, *, protected: bool) -> list[str]:
    day = Day(folder, seed=1, protected=protected, sample=1)
    slow_loris.run(day)
    return [figure.name for figure in day.figures if figure.decides and not figure.holds]


@pytest.mark.timeout(120)
def test_who_sends_a_byte_in_ten_seconds_is_cut_and_hurts_nobody(tmp_path: Path) -> None:
    assert missed(tmp_path, protected=True) == []


@pytest.mark.timeout(120)
def test_without_a_deadline_slow_sockets_stay(tmp_path: Path) -> None:
    assert "sockets cut" in missed(tmp_path, protected=False)

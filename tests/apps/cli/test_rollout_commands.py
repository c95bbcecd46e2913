"""Rollouts on the command line: bars, pictures, and watching one to its end."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.apps.cli import rollout_plot
from holdfast.apps.cli.output import exposed
from holdfast.apps.cli.rollout_live import follow, view
from holdfast.apps.cli.rollout_plot import bars, draw, sparks
from holdfast.apps.cli.rollouts import _final
from holdfast.apps.control.rollout_schemas import (
    RolloutDetail,
    RolloutLine,
    RolloutSide,
    RolloutStage,
)
from holdfast.core.errors import Invalid, Unavailable
from holdfast.core.model import RolloutStatus
from holdfast.core.policies import Plan, Stage
from holdfast.engine.rollout_log import Move
from holdfast.engine.watched import Point


def detail(status: RolloutStatus = "running", points: int = 3) -> RolloutDetail:
    side = RolloutSide(100, 5, 0, 40, (0.01, 0.05, 0.1), (0.0, 0.0, 0.01))
    ended = status in ("completed", "rolled-back")
    return RolloutDetail(
        rollout=RolloutLine(
            "production.12",
            "production",
            status,
            0,
            "pilots",
            2,
            0.0,
            ("ring0",),
            ("shop",),
            ("shop/tiles",),
            12,
            1_000,
            2_000,
            "ann",
            "why",
            "it bakes",
            3.0,
            2_000.0,
        ),
        plan=Plan((Stage("pilots", ("ring0",), bake_s=60), Stage("all", percent=100))),
        stages=(
            RolloutStage(0, "pilots", 0.0, ("ring0",), 60.0, side, side),
            RolloutStage(1, "all", 100.0, ("ring0",), 0.0, None, None),
        ),
        moves=(Move(13, 2_000, "holdfast", 0, status, "because"),) if ended else (),
        points=tuple(
            Point(1_000 * n, 0, 100 * n, n, 900 * n, n, 1.5**n, 1.0) for n in range(points)
        ),
        refusals=("production/shop [schema]: no",),
        refusal_count=1,
        crashes=0,
        bakes_until_ms=None,
        grounds=None,
    )


def test_bars_are_as_high_as_their_values() -> None:
    assert sparks([0, 1, 2, 4, 8]) == "▁▂▃▅█"
    assert sparks([0, 0]) == "▁▁"
    assert sparks([]) == ""
    assert len(list(bars(detail()))) == 4
    assert list(bars(detail(points=1))) == []


def test_who_is_exposed_in_words() -> None:
    assert exposed(("ring0",), 0) == "ring0"
    assert exposed(("ring0", "ring1"), 1.5) == "ring0 + ring1 + 1.5 %"
    assert exposed((), 0) == "nobody"


@pytest.mark.parametrize("kind", sorted(rollout_plot.KINDS))
def test_a_picture_is_written(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rollout{kind}"
    draw(detail("rolled-back"), path)
    assert path.stat().st_size > 1_000


@pytest.mark.parametrize(
    ("name", "points", "expected"),
    [("r.txt", 3, "no picture"), ("r.png", 0, "nothing was told"), ("no/r.png", 3, "written")],
)
def test_what_can_not_be_drawn_says_why(
    tmp_path: Path, name: str, points: int, expected: str
) -> None:
    with pytest.raises(Invalid, match=expected):
        draw(detail(points=points), tmp_path / name)


def test_without_matplotlib_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Invalid, match=r"holdfast\[plots\]"):
        draw(detail(), tmp_path / "r.png")


def test_watching_ends_with_the_rollout_and_lives_through_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers: list[Any] = [detail(), Unavailable("away"), detail(), detail("rolled-back")]
    waits: list[float] = []

    def ask() -> RolloutDetail:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, RolloutDetail)
        return answer

    assert follow(ask, 0.5, waits.append).rollout.status == "rolled-back"
    assert waits == [0.5, 0.5, 0.5]
    told = capsys.readouterr().err
    assert "away" in told
    assert "rolled-back  because" in told


def test_the_view_names_what_matters() -> None:
    from rich.console import Console

    screen = Console(width=120, record=True, quiet=True)
    screen.print(view(detail("held")))
    with screen.capture() as captured:
        screen.quiet = False
        screen.print(view(msgspec.structs.replace(detail("held"), bakes_until_ms=1)))
    for text in ("production.12", "held", "pilots", "5.00% [1.00%, 10.00%]", "refused:", "E 3"):
        assert text in captured.get()


def test_what_the_last_verdict_says_of_requests() -> None:
    found = detail("rolled-back")
    assert _final(found) == "", "a verdict without evidence"
    counts = {"requests": 20, "errors": 18}
    evidence = {"exposed": counts, "baseline": {**counts, "errors": 1}}
    moves = (msgspec.structs.replace(found.moves[0], evidence=evidence),)
    told = msgspec.structs.replace(found, moves=moves)
    assert _final(told) == "exposed 18 of 20 requests failed, baseline 1 of 20 requests failed"
    assert _final(detail()) == ""

"""`holdfast rollout watch`: one rollout on the screen, renewed until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from holdfast.apps.cli.output import age, console, exposed, moment, say
from holdfast.apps.cli.rollout_plot import bars
from holdfast.core.errors import Unavailable

if TYPE_CHECKING:
    from holdfast.apps.control.rollout_schemas import RolloutDetail, RolloutStage

COLOURS: Final = {
    "running": "cyan",
    "held": "yellow",
    "completed": "green",
    "rolled-back": "red",
}
ENDED: Final = ("completed", "rolled-back")


def follow(
    ask: Callable[[], RolloutDetail], interval_s: float, sleep: Callable[[float], None]
) -> RolloutDetail:
    """Show what `ask` gives until it has ended, and return that.

    A control plane that does not answer for a while is told of and waited for. Without a terminal
    each move is a line.
    """
    screen = console()
    found = ask()
    if not screen.is_terminal:
        return _in_lines(found, ask, interval_s, sleep)
    with Live(view(found), console=screen, auto_refresh=False) as live:
        while found.rollout.status not in ENDED:
            sleep(interval_s)
            try:
                found = ask()
                live.update(view(found), refresh=True)
            except Unavailable as error:
                live.update(Group(view(found), Text(str(error), "yellow")), refresh=True)
    return found


def view(found: RolloutDetail) -> Group:
    """All of it as one picture of text."""
    line = found.rollout
    head = Text.assemble(
        (line.id, "bold"),
        "  ",
        (line.status, COLOURS[line.status]),
        f"  stage {line.stage + 1} of {line.stage_count}  {line.verdict}",
    )
    left_s = (found.bakes_until_ms or 0) / 1000 - time.time()
    if line.status == "running" and left_s > 0:
        head.append(f"  ({age(left_s)} left)", "dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "stage", "exposes", "requests", "errors", "baseline", "errors"):
        table.add_column(column)
    for each in found.stages:
        table.add_row(*_row(found, each))
    gate = f"error gate: E {line.errors_e:.3g} of {line.halt_e:.0f}"
    refusals = [Text(f"refused: {text}", "red") for text in found.refusals[:5]]
    return Group(head, Text(), table, Text(), Text(gate), *refusals, *map(Text, bars(found)))


def _row(found: RolloutDetail, each: RolloutStage) -> Iterator[str]:
    yield "→" if each.stage == found.rollout.stage else ""
    yield each.name or str(each.stage)
    yield exposed(each.rings, each.percent)
    for side in (each.exposed, each.baseline):
        if side is None or not side.requests:
            yield from ("-", "-")
        else:
            low, rate, high = side.error_rate
            yield from (str(side.requests), f"{rate:.2%} [{low:.2%}, {high:.2%}]")


def _in_lines(
    found: RolloutDetail,
    ask: Callable[[], RolloutDetail],
    interval_s: float,
    sleep: Callable[[float], None],
) -> RolloutDetail:
    told = 0
    while True:
        for each in found.moves[told:]:
            say(f"{moment(each.at_ms)}  stage {each.stage + 1}  {each.status}  {each.reason}")
        told = len(found.moves)
        if found.rollout.status in ENDED:
            return found
        sleep(interval_s)
        try:
            found = ask()
        except Unavailable as error:
            say(str(error), fg="yellow")

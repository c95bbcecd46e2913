"""The commands of rollouts: `rollout list`, `show`, `watch`, and moving one by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli import names
from holdfast.apps.cli.options import REASON, YES, connected, output_option
from holdfast.apps.cli.output import (
    age,
    exposed,
    moment,
    print_data,
    print_facts,
    print_table,
    say,
)

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.control.rollout_schemas import RolloutDetail, RolloutLine, RolloutStage

STATUSES = ("running", "held", "completed", "rolled-back")
WATCH_S = 1.0
LINES = 50
ID = click.argument("rollout", metavar="ID", type=names.ID)


@click.group()
def rollout() -> None:
    """Look at rollouts, live too, and move one by hand."""


@rollout.command("list")
@click.option("--environment", "-e", default="", help="Only those of this environment.")
@click.option("--service", "-s", default="", help="Only those that touch this service.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those that stand so.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, 500),
    default=LINES,
    show_default=True,
    help="Rollouts at most.",
)
@output_option()
@connected
def list_rollouts(
    api: Api, environment: str, service: str, status: str | None, limit: int, output: str
) -> None:
    """Show rollouts under way and those that ended, newest first.

    \b
    Examples:
      holdfast rollout list
      holdfast rollout list --status running --output json | jq -r .rollouts[].id
    """
    from holdfast.apps.control.rollout_schemas import Rollouts

    query = {"environment": environment, "service": service, "status": status, "limit": limit}
    found = api.call(Rollouts, "GET", "/v1/rollouts", **query)
    if print_data(found, output):
        return
    if not found.rollouts:
        say("There are no rollouts.")
        return
    print_table(
        ["id", "status", "stage", "exposed", "of", "started (UTC)", "by", "verdict"],
        (
            (
                each.id,
                each.status,
                _stage_text(each),
                exposed(each.rings, each.percent),
                ", ".join(each.items[:3]) + (" …" if len(each.items) > 3 else ""),
                moment(each.started_ms),
                each.actor,
                each.verdict,
            )
            for each in found.rollouts
        ),
    )


@rollout.command("show")
@ID
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the history as a picture to this file (.png, .svg, .pdf).",
)
@output_option()
@connected
def show_rollout(api: Api, rollout: str, plot: Path | None, output: str) -> None:
    """Show one rollout: its stages, error rates on both sides, gates and verdicts.

    \b
    Examples:
      holdfast rollout show production.12
      holdfast rollout show production.12 --plot rollout.png
    """
    found = _detail(api, rollout)
    if plot is not None:
        from holdfast.apps.cli.rollout_plot import draw

        draw(found, plot)
        say(f"Written: {plot}")
    if print_data(found, output):
        return
    _show(found)


@rollout.command("watch")
@ID
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.2, 60),
    default=WATCH_S,
    show_default=True,
    help="Seconds between two looks.",
)
@connected
def watch_rollout(api: Api, rollout: str, interval_s: float) -> None:
    """Show one rollout live, until it ends. Exit code 1 when it was rolled back.

    \b
    Example:
      holdfast rollout watch production.12
    """
    from holdfast.apps.cli.rollout_live import follow

    ended = follow(lambda: _detail(api, rollout), interval_s, time.sleep)
    if ended.rollout.status == "rolled-back":
        raise click.exceptions.Exit(1)


def _moving(way: str, summary: str, question: str, done: str) -> Callable[..., Any]:
    """One command that moves a rollout."""

    @rollout.command(way, help=f"{summary}\n\n\b\nExample:\n  holdfast rollout {way} production.12")
    @ID
    @REASON
    @YES
    @output_option()
    @connected
    def command(api: Api, rollout: str, reason: str, yes: bool, output: str) -> None:
        from holdfast.apps.cli.committing import ask_unless
        from holdfast.apps.control.schemas import Revised

        ask_unless(yes, question.format(id=rollout), output)
        revised = api.call(Revised, "POST", f"/v1/rollouts/{rollout}/{way}", {"reason": reason})
        if not print_data(revised, output):
            say(f"{rollout} {done}, at revision {revised.revision}.", fg="green")

    return command


_moving(
    "advance",
    "Go on to the next stage before this one has baked; from the last one, complete it.",
    "Expose more of {id} now?",
    "went on",
)
_moving(
    "hold",
    "Stay at this stage until it is resumed. Its gates can still roll it back.",
    "Hold {id}?",
    "is held",
)
_moving("resume", "Go on from a hold; the stage bakes anew.", "Resume {id}?", "goes on")
_moving(
    "roll-back",
    "Put back what its change found, for everybody, at once.",
    "Roll {id} back?",
    "was rolled back",
)


def _detail(api: Api, rollout: str) -> RolloutDetail:
    from holdfast.apps.control.rollout_schemas import RolloutDetail

    return api.call(RolloutDetail, "GET", f"/v1/rollouts/{rollout}")


def _show(found: RolloutDetail) -> None:
    from holdfast.apps.cli.rollout_plot import bars

    line = found.rollout
    print_facts(
        {
            "rollout": line.id,
            "status": line.status,
            "stage": _stage_text(line),
            "exposed": exposed(line.rings, line.percent),
            "of": ", ".join(line.items) or "-",
            "by": f"{line.actor}, {moment(line.started_ms)} UTC",
            "reason": line.reason or "-",
            "verdict": line.verdict or "-",
            "error gate": f"E {line.errors_e:.3g}, rolls back at {line.halt_e:.0f}",
            **({"bakes until": _until(found)} if found.bakes_until_ms else {}),
            **({"at the end": sums} if (sums := _final(found)) else {}),
        }
    )
    click.echo()
    print_table(
        ["stage", "exposes", "bakes", "requests", "errors", "baseline", "errors"],
        (_stage_row(each) for each in found.stages),
    )
    if found.moves:
        click.echo()
        print_table(
            ["revision", "at (UTC)", "by", "stage", "status", "why"],
            (
                (
                    each.revision,
                    moment(each.at_ms),
                    each.actor,
                    f"{each.stage + 1} {found.plan.stages[each.stage].name}".rstrip(),
                    each.status,
                    each.reason,
                )
                for each in found.moves
            ),
        )
    for refusal in found.refusals:
        say(f"refused: {refusal}", fg="red")
    for text in bars(found):
        click.echo(text)


def _final(found: RolloutDetail) -> str:
    """What the last verdict on an ended rollout says of its requests; it outlives the counts."""
    evidence = found.moves[-1].evidence if found.rollout.status in STATUSES[2:] else None
    if not isinstance(evidence, dict):
        return ""
    sides = [(side, evidence.get(side)) for side in ("exposed", "baseline")]
    return ", ".join(
        f"{side} {counts.get('errors')} of {counts.get('requests')} requests failed"
        for side, counts in sides
        if isinstance(counts, dict)
    )


def _stage_row(each: RolloutStage) -> tuple[object, ...]:
    cells: list[str] = []
    for side in (each.exposed, each.baseline):
        if side is None or not side.requests:
            cells += ["-", "-"]
            continue
        low, rate, high = side.error_rate
        cells += [str(side.requests), f"{rate:.2%} [{low:.2%}, {high:.2%}]"]
    return each.name or each.stage, exposed(each.rings, each.percent), age(each.bake_s), *cells


def _stage_text(line: RolloutLine) -> str:
    name = f" {line.stage_name}" if line.stage_name else ""
    return f"{line.stage + 1} of {line.stage_count}{name}"


def _until(found: RolloutDetail) -> str:
    until_ms = found.bakes_until_ms or 0
    return f"{moment(until_ms)} UTC, in {age(until_ms / 1000 - time.time())}"

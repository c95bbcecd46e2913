"""`holdfast gameday`: outages replayed against real processes on this machine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import output_option
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.gameday.drill import Drill, Findings


@click.group()
def gameday() -> None:
    """Replay public outages against real processes on loopback, and tell PASS or FAIL."""


@gameday.command("list")
@output_option()
def list_command(output: str) -> None:
    """Show the game days that there are.

    \b
    Example:
      holdfast gameday list
    """
    from holdfast.gameday.scenarios import MODULES, drill

    drills = [drill(name) for name in MODULES]
    facts = [{"name": d.name, "title": d.title, "rehearsal": d.rehearsal} for d in drills]
    if not print_data(facts, output):
        print_table(("NAME", "WHAT HAPPENED"), [(d.name, d.title) for d in drills])


@gameday.command("run")
@click.argument("name")
@click.option("--unprotected", is_flag=True, help="With the protections off: it must FAIL.")
@click.option("--seed", default=1, show_default=True, help="Of all chance in the drill.")
@click.option(
    "--sample", default=0, metavar="K", help="So many faults of a long list; 0 for all of them."
)
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write report.md and a picture of the timeline there; for `all`, an overview beside it.",
)
@click.option("--keep", is_flag=True, help="Keep the logs of all processes.")
@output_option()
def run_command(  # noqa: PLR0913, PLR0917  click hands over each option as an argument
    name: str,
    unprotected: bool,
    seed: int,
    sample: int,
    directory: Path | None,
    keep: bool,
    output: str,
) -> None:
    """Run the game day NAME, or all of them.

    It starts processes of its own on free ports of this machine, measures from the clients' side,
    and ends them all. Exit codes: 0 PASS, 1 FAIL, 2 wrong use.

    \b
    Examples:
      holdfast gameday run cloudflare-2025-11
      holdfast gameday run ecs-2022 --report /tmp/ecs
      holdfast gameday run bad-value --unprotected
      holdfast gameday run all --report docs/reliability
    """
    from holdfast.gameday.report import overview, write_report
    from holdfast.gameday.scenarios import ALL, MODULES, drill

    if name not in (*MODULES, ALL):
        raise click.UsageError(f"There is no game day {name!r}: {', '.join((*MODULES, ALL))}.")
    names = tuple(MODULES) if name == ALL else (name,)
    done: list[tuple[Drill, Findings, str]] = []
    for each in [drill(one) for one in names]:
        found = _run(each, seed=seed, protected=not unprotected, sample=sample, keep=keep)
        done.append((each, found, each.name))
        if directory is not None:
            path = write_report(each, found, directory / each.name if name == ALL else directory)
            say(f"Report: {path}")
        if output == "text":
            _show(each, found)
    if directory is not None and name == ALL:
        path = directory.with_name(f"{directory.name}.md")
        path.write_text(overview(done, directory.name), "utf-8")
        say(f"Overview: {path}")
    if output != "text":
        print_data([found for _, found, _ in done] if name == ALL else done[0][1], output)
    raise click.exceptions.Exit(0 if all(found.passed for _, found, _ in done) else 1)


def _run(drill: Drill, *, seed: int, protected: bool, sample: int, keep: bool) -> Findings:
    from importlib.metadata import version

    from holdfast.apps.observe import start_logs
    from holdfast.core.errors import HoldfastError
    from holdfast.gameday.drill import Day
    from holdfast.gameday.processes import ended_by_signals

    start_logs("error", "gameday")
    say(f"{drill.name}: {drill.title}", bold=True)
    with ended_by_signals(), _directory(keep) as place:
        day = Day(
            place,
            seed=seed,
            protected=protected,
            sample=sample,
            tell=lambda text: say(f"  {text}"),
        )
        try:
            drill.run(day)
        except HoldfastError as error:
            day.note("damage", f"the drill could not go on: {error}")
            day.measure("the drill ran to its end", str(error)[:200], "yes", holds=False)
        return day.findings(drill, f"holdfast {version('holdfast')}")


@contextlib.contextmanager
def _directory(keep: bool) -> Iterator[Path]:
    """A directory for one run; with `keep` it stays, and is told."""
    if keep:
        place = Path(tempfile.mkdtemp(prefix="holdfast-gameday-"))
        say(f"Logs stay in {place}")
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-gameday-") as name:
        yield Path(name)


def _show(drill: Drill, found: Findings) -> None:
    rows = [
        ("holds" if figure.holds else "MISSED", figure.name, figure.value, figure.bar)
        for figure in found.figures
    ]
    print_table(("", "MEASURED", "VALUE", "BAR"), rows)
    for row in found.rows:
        if not row.blocked:
            click.echo(f"not blocked: {row.name} ({row.component}): {row.by}")
    verdict = "PASS" if found.passed else "FAIL"
    mode = "" if found.protected else " without protection"
    click.echo(f"{verdict}  {drill.name}{mode}, {found.took_s:.0f} s")

"""`holdfast gameday` and `holdfast drill`: outages replayed and faults injected on this machine."""

from __future__ import annotations

import contextlib
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.apps.cli.options import output_option
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.gameday.drill import Drill, Findings

Command = TypeVar("Command", bound=Callable[..., Any])
ALL = "all"


def _run_options(command: Command) -> Command:
    """What both kinds of drill are told."""
    options = (
        click.option("--unprotected", is_flag=True, help="With the protections off: it must FAIL."),
        click.option("--seed", default=1, show_default=True, help="Of all chance in the drill."),
        click.option(
            "--sample",
            type=click.IntRange(min=0),
            default=0,
            metavar="K",
            help="So many faults of a long list; 0 for all of them.",
        ),
        click.option("--keep", is_flag=True, help="Keep the logs of all processes."),
        output_option(),
    )
    for option in reversed(options):
        command = option(command)
    return command


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
    from holdfast.gameday import scenarios

    _list([scenarios.drill(name) for name in scenarios.MODULES], output)


@gameday.command("run")
@click.argument("name")
@_run_options
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write report.md and a picture of the timeline there; for `all`, one directory each.",
)
def run_command(name: str, directory: Path | None, **how: Any) -> None:
    """Run the game day NAME, or all of them.

    It starts processes of its own on free ports of this machine, measures from the clients' side,
    and ends them all. Exit codes: 0 PASS, 1 FAIL, 2 wrong use.

    \b
    Examples:
      holdfast gameday run cloudflare-2025-11
      holdfast gameday run ecs-2022 --report /tmp/ecs
      holdfast gameday run bad-value --unprotected
    """
    from holdfast.gameday import scenarios

    known = tuple(scenarios.MODULES)
    names = _chosen((name,), known, "game day", {ALL: known})
    drills = [scenarios.drill(one) for one in names]
    found = []
    for each in drills:
        own = directory / each.name if directory and name == ALL else directory
        found.append(_run_and_tell(each, own, **how))
    _end(found, how["output"], many=name == ALL)


@click.group()
def drill() -> None:
    """Inject the faults of the table "Faults and promises", and tell PASS or FAIL."""


@drill.command("list")
@output_option()
def list_drills(output: str) -> None:
    """Show the rows of the table, one drill each.

    \b
    Example:
      holdfast drill list
    """
    from holdfast.gameday import promises

    _list([promises.promise(name) for name in promises.MODULES], output)


@drill.command("run")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_run_options
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each report into a directory there, then the page DIR.md of all that lie there.",
)
def run_drills(names: tuple[str, ...], directory: Path | None, **how: Any) -> None:
    """Run drills by NAME: `all` rows of the table, game days, or `everything`.

    Some take minutes. With --report each run is merged into the page, which says of each drill
    when it ran last; a run --unprotected is told there beside the other one. Exit codes: 0 PASS,
    1 FAIL, 2 wrong use.

    \b
    Examples:
      holdfast drill run torn-cache
      holdfast drill run disk-full --unprotected
      holdfast drill run everything --report docs/reliability
      holdfast drill run overload azure-ddos-2024 --report docs/reliability
    """
    from holdfast.gameday import promises
    from holdfast.gameday.page import every_name, find

    sets = {ALL: tuple(promises.MODULES), "everything": every_name()}
    found = []
    for one in _chosen(names, every_name(), "drill", sets):
        found.append(_run_and_tell(find(one), directory / one if directory else None, **how))
        if directory:
            _write_page(directory)
    _end(found, how["output"], many=len(found) > 1)


@drill.command("page")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
def page_command(directory: Path) -> None:
    """Write the page DIRECTORY.md of all runs that lie in DIRECTORY, and run nothing.

    \b
    Example:
      holdfast drill page docs/reliability
    """
    _write_page(directory)


def _write_page(directory: Path) -> None:
    from holdfast.gameday.page import page

    path = directory.with_name(f"{directory.name}.md")
    path.write_text(page(directory), "utf-8")
    say(f"Page: {path}")


def _chosen(
    names: Sequence[str], known: Sequence[str], kind: str, sets: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    """The drills that are meant, `sets` of them by a name of their own. Raises a usage error with
    those that there are."""
    if len(names) == 1 and names[0] in sets:
        return sets[names[0]]
    for name in names:
        if name in sets:
            raise click.UsageError(f"{name!r} stands alone: it has the others in it.")
        if name not in known:
            raise click.UsageError(f"There is no {kind} {name!r}: {', '.join((*known, *sets))}.")
    return names


def _list(drills: Sequence[Drill], output: str) -> None:
    facts = [{"name": d.name, "title": d.title, "rehearsal": d.rehearsal} for d in drills]
    if not print_data(facts, output):
        print_table(("NAME", "WHAT HAPPENED"), [(d.name, d.title) for d in drills])


def _run_and_tell(  # noqa: PLR0913  what both commands were told
    each: Drill,
    directory: Path | None,
    *,
    unprotected: bool,
    seed: int,
    sample: int,
    keep: bool,
    output: str,
) -> Findings:
    from holdfast.gameday import report

    found = _run(each, seed=seed, protected=not unprotected, sample=sample, keep=keep)
    if directory is not None and (found.protected or not (directory / report.FINDINGS).exists()):
        say(f"Report: {report.write_report(each, found, directory)}")
    elif directory is not None:
        report.keep(found, directory / report.UNPROTECTED)
    if output == "text":
        _show(each, found)
    return found


def _end(found: Sequence[Findings], output: str, *, many: bool) -> None:
    if output != "text":
        print_data(list(found) if many else found[0], output)
    raise click.exceptions.Exit(0 if all(one.passed for one in found) else 1)


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
        except Exception as error:  # noqa: BLE001  a fault of one drill must not end all others
            day.note("damage", f"the drill broke: {''.join(traceback.format_exception(error))}")
            day.measure("the drill ran to its end", repr(error)[:200], "yes", holds=False)
        return day.findings(drill, f"holdfast {version('holdfast')}{_commit()}")


def _commit() -> str:
    """Of the sources that run, where they are a checkout and git is there."""
    import subprocess

    command = ("git", "-C", str(Path(__file__).parent), "rev-parse", "--short=8", "HEAD")
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  no input
        if done.returncode == 0:
            return f" at {done.stdout.strip()}"
    return ""


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

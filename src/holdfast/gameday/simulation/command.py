"""`holdfast simulate`: a fleet of up to a million clients, on a simulated clock."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.apps.cli.options import output_option
from holdfast.apps.cli.output import print_data, print_json, print_yaml, say, wants_colour

if TYPE_CHECKING:
    from holdfast.gameday.simulation.parameters import Parameters
    from holdfast.gameday.simulation.running import Tell

TOLD_EVERY_S = 5.0


@click.group()
def simulate() -> None:
    """Play a fleet of up to 1,000,000 clients on a simulated clock, with the real machines."""


@simulate.command("run")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--seed", default=1, show_default=True, help="Of all chance in it.")
@click.option("--clients", type=int, help="So many, instead of what the file says.")
@click.option(
    "--costs",
    "costs_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="What operations cost, as `holdfast simulate calibrate` printed it.",
)
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write report.md, result.json and the plots there.",
)
@click.option(
    "--plots",
    type=click.Choice(["svg", "png"]),
    default="svg",
    show_default=True,
    help="What plots are written as.",
)
@output_option()
def run_command(  # noqa: PLR0913, PLR0917  what a run is told
    file: Path,
    seed: int,
    clients: int | None,
    costs_file: Path | None,
    directory: Path | None,
    plots: str,
    output: str,
) -> None:
    """Play what FILE says, and tell what came of it.

    The same FILE, seed and build give the same result, byte for byte.

    \b
    Examples:
      holdfast simulate run examples/simulation/steady.yaml
      holdfast simulate run examples/simulation/regional-outage.yaml --report /tmp/outage
      holdfast simulate run examples/simulation/million.yaml --output json > million.json
    """
    from holdfast.gameday.simulation.report import write_report
    from holdfast.gameday.simulation.running import simulate as play
    from holdfast.gameday.simulation.tables import show

    asked = _asked(file, clients, costs_file)
    result = play(asked, file.stem, seed, _progress())
    if directory is not None:
        say(f"Report: {write_report(result, asked, directory, plots)}")
    if not print_data(result, output):
        show(result)
    if not result.counted:
        raise click.exceptions.Exit(1)


@simulate.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of parameter files, for editors to complete and check them.

    \b
    Example:
      holdfast simulate schema > simulation.schema.json
    """
    from holdfast.gameday.simulation.reading import schema

    print_json(schema())


@simulate.command("calibrate")
@output_option("yaml", "json")
def calibrate_command(output: str) -> None:
    """Measure what operations cost on this machine: a control plane and an edge, for some 30 s.

    \b
    Example:
      holdfast simulate calibrate > costs.yaml
    """
    from holdfast.gameday.simulation.calibrating import calibrate

    costs = calibrate(say)
    print_yaml(costs) if output == "yaml" else print_json(costs)


@simulate.command("check")
@click.option("--clients", default=2_000, show_default=True, help="Real ones, and simulated ones.")
@click.option("--interval", default=10, show_default=True, help="Seconds between two polls.")
@click.option(
    "--changes",
    type=click.IntRange(min=1),
    help="Committed one after the other.  [default: 5; 15 without streams]",
)
@click.option("--streams/--no-streams", default=True, help="Whether clients listen to streams.")
@click.option("--seed", default=1, show_default=True, help="Of the simulation.")
@output_option()
def check_command(  # noqa: PLR0913  what both runs are told
    clients: int, interval: int, changes: int | None, *, streams: bool, seed: int, output: str
) -> None:
    """Hold the simulation against a real run: the same fleet, once real and once simulated.

    PASS if p99 of the propagation and requests/s differ by 20 % at most. The real one wants a
    machine that has nothing else to do. Exit codes: 0 PASS, 1 FAIL.

    \b
    Example:
      holdfast simulate check
      holdfast simulate check --no-streams
    """
    from holdfast.gameday.simulation.checking import Checking, check
    from holdfast.gameday.simulation.tables import show_check

    told = Checking(
        clients=clients, interval_s=interval, changes=changes or 0, streams=streams, seed=seed
    )
    found = check(told, say)
    if not print_data(found, output):
        show_check(found)
    raise click.exceptions.Exit(0 if found.passed else 1)


def _asked(file: Path, clients: int | None, costs_file: Path | None) -> Parameters:
    import msgspec

    from holdfast.gameday.simulation.parameters import CLIENTS_MAX
    from holdfast.gameday.simulation.reading import read, read_costs

    asked = read(file.read_bytes(), str(file))
    changed: dict[str, Any] = {}
    if clients is not None:
        if not 1 <= clients <= CLIENTS_MAX:
            raise click.UsageError(f"--clients: from 1 to {CLIENTS_MAX}")
        changed["clients"] = clients
    if costs_file is not None:
        changed["costs"] = read_costs(costs_file.read_bytes(), str(costs_file))
    return msgspec.structs.replace(asked, **changed)


def _progress() -> Tell:
    """Tells on standard error: on a terminal in one line, else once in a while."""
    terminal = wants_colour(sys.stderr)
    last_s = time.monotonic()

    def tell(share: float, left_s: float) -> None:
        nonlocal last_s
        every_s = 0.2 if terminal else TOLD_EVERY_S
        if time.monotonic() - last_s < every_s:
            return
        last_s = time.monotonic()
        text = f"{share:6.1%} simulated, about {left_s:.0f} s to go"
        click.echo(f"\r{text}  " if terminal else text, err=True, nl=not terminal)

    return tell

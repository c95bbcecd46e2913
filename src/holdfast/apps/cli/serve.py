"""The commands that run something: `dev`, `control`, `edge`."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.apps.cli.options import DATA, OPEN, PASSWORD_FILE, STORE, log_level_option
from holdfast.apps.defaults import (
    CONTROL_PORT,
    DATA_DIR,
    EDGE_PORT,
    ENVIRONMENT,
    LOOPBACK,
    POLL_INTERVAL_S,
    PROBATION_S,
    WAIT_BUDGET_S,
)
from holdfast.apps.lean import starting

if TYPE_CHECKING:
    from holdfast.apps.settings import ControlSettings, EdgeSettings

Command = TypeVar("Command", bound=Callable[..., Any])


def listening(port: int, variable: str) -> Callable[[Command], Command]:
    """The options that every server has."""

    def add(command: Command) -> Command:
        options = (
            click.option(
                "--host",
                default=LOOPBACK,
                show_default=True,
                envvar="HOLDFAST_HOST",
                help="Address to listen on.",
            ),
            click.option(
                "--port",
                default=port,
                show_default=True,
                envvar=variable,
                help="Port to listen on.",
            ),
            log_level_option("info"),
            OPEN,
            click.option("--parent", type=int, hidden=True),
        )
        for option in reversed(options):
            command = option(command)
        return command

    return add


class EdgeGroup(click.Group):
    """An edge, run by itself; its commands are imported when they are used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return ["push", "shards"]

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(import_module(f"holdfast.apps.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101  our own table
        return command


@click.command()
@DATA
@STORE
@PASSWORD_FILE
@click.option(
    "--node",
    default="",
    metavar="NAME",
    envvar="HOLDFAST_NODE",
    help="Its name among the nodes on one store; its host and port by default.",
)
@click.option(
    "--advertise",
    default="",
    metavar="URL",
    envvar="HOLDFAST_ADVERTISE",
    help="Its base URL as the other nodes reach it; where it listens by default.",
)
@click.option("--development", is_flag=True, help="Make signing keys that are labelled so.")
@listening(CONTROL_PORT, "HOLDFAST_CONTROL_PORT")
def control(parent: int | None, **given: Any) -> None:
    """Run a control plane: the write door, the journal, the API.

    It needs signing keys (holdfast keys init) unless --development makes them, and a first token
    (holdfast token first).

    \b
    Examples:
      holdfast keys init --data /var/lib/holdfast
      holdfast token first --data /var/lib/holdfast
      holdfast control --data /var/lib/holdfast --host 0.0.0.0
      holdfast control --data /var/lib/holdfast --store etcd://a:2379,b:2379,c:2379
    """
    from holdfast.apps.control import serve
    from holdfast.apps.settings import ControlSettings

    settings = ControlSettings(**given)
    _refuse(settings, parent)
    with starting():
        import_module("holdfast.apps.control.server")
    serve(settings)


@click.group(cls=EdgeGroup, invoke_without_command=True)
@click.option(
    "--upstream",
    "upstreams",
    metavar="URL",
    multiple=True,
    default=[f"http://{LOOPBACK}:{CONTROL_PORT}"],
    show_default=True,
    envvar="HOLDFAST_UPSTREAMS",
    help="Control plane or edge to follow; again, or with commas, for more, tried in order.",
)
@click.option(
    "--token",
    default="",
    envvar="HOLDFAST_TOKEN",
    metavar="TOKEN",
    help="With the verb follow; better in HOLDFAST_TOKEN, where ps does not show it.",
)
@click.option(
    "--cache",
    "cache_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DATA_DIR / "edge",
    show_default=True,
    envvar="HOLDFAST_CACHE_DIR",
    help="Directory of the last proven generations.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="HOLDFAST_ROOT",
    help="File with the root to trust; without it the first root seen is pinned, and that is said.",
)
@click.option(
    "--poll-interval",
    "poll_interval_s",
    default=POLL_INTERVAL_S,
    show_default=True,
    envvar="HOLDFAST_POLL_INTERVAL_S",
    help="Seconds between conditional reads; streams only say sooner.",
)
@click.option(
    "--probation",
    "probation_s",
    type=click.FloatRange(min=0),
    default=PROBATION_S,
    show_default=True,
    envvar="HOLDFAST_PROBATION_S",
    help="Seconds until new settings are proven; three deaths before that go back.",
)
@click.option(
    "--origin",
    "origins",
    metavar="ORIGIN",
    multiple=True,
    envvar="HOLDFAST_ORIGINS",
    help="Web origin whose pages may read answers, * for any; give it again for more.",
)
@click.option(
    "--public-url",
    default="",
    metavar="URL",
    envvar="HOLDFAST_PUBLIC_URL",
    help="This edge's base URL as clients see it, for the streams that answers point to.",
)
@click.option(
    "--streams/--no-streams",
    default=True,
    envvar="HOLDFAST_STREAMS",
    help="Without streams clients poll. A file streams-off in the cache does it while it runs.",
)
@click.option(
    "--admission",
    type=click.Choice(("on", "off")),
    default="on",
    show_default=True,
    envvar="HOLDFAST_ADMISSION",
    callback=lambda _context, _option, value: value == "on",
    help="Refuse what is too much, the least important first; off, everything waits.",
)
@click.option(
    "--wait-budget",
    "wait_budget_s",
    default=WAIT_BUDGET_S,
    show_default=True,
    envvar="HOLDFAST_WAIT_BUDGET_S",
    help="Seconds that requests may stand in a queue before that is an overload.",
)
@click.option(
    "--connections",
    "connections_max",
    type=click.IntRange(min=1),
    default=12_000,
    show_default=True,
    envvar="HOLDFAST_CONNECTIONS",
    help="Open at once, streams among them; one more is told so and closed.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    envvar="HOLDFAST_WORKERS",
    help="Processes that share the port, at most one for each core.",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Take the place of the edge that runs on this cache, if one does, once all is proven.",
)
@click.option(
    "--take-over-within",
    "take_over_within_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to prove that; later the other one goes on, and this one ends with 1.",
)
@click.option(
    "--cell",
    default="",
    envvar="HOLDFAST_CELL",
    metavar="NAME",
    help="The cell it is of; who names another one (Holdfast-Cell) is sent away.",
)
@click.option(
    "--requests-per-s",
    "requests_per_s_max",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="RATE",
    help="This edge's share of what its cell takes; none by default.",
)
@click.option(
    "--shards",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="HOLDFAST_SHARDS",
    help="Plan of which edges serve which services (holdfast edge shards).",
)
@click.option(
    "--shard",
    default="",
    envvar="HOLDFAST_SHARD",
    metavar="NAME",
    help="This edge's name in that plan.",
)
@click.option(
    "--shared-cache",
    is_flag=True,
    envvar="HOLDFAST_SHARED_CACHE",
    help="Let HTTP caches in front keep what is read with a token, apart for each token.",
)
@listening(EDGE_PORT, "HOLDFAST_EDGE_PORT")
@click.pass_context
def edge(
    context: click.Context,
    /,
    parent: int | None,
    upstreams: tuple[str, ...],
    origins: tuple[str, ...],
    **given: Any,
) -> None:
    """Run an edge: follow a control plane, verify, keep on disk, answer.

    It starts from its disk when no upstream is alive. Edges behind one address share
    HOLDFAST_STREAM_SECRET, so that each knows the streams that the others gave out.

    \b
    Examples:
      HOLDFAST_TOKEN=hf_… holdfast edge --upstream http://control:8010
      holdfast edge --upstream http://a:8010,http://b:8010,http://c:8010 --cache /var/lib/holdfast
      holdfast edge … --take-over    # the same line again, after an upgrade
    """
    if context.invoked_subcommand:
        return
    from holdfast.apps.cli.connection import urls_of
    from holdfast.apps.edge import serve
    from holdfast.apps.settings import EdgeSettings

    settings = EdgeSettings(
        upstreams=urls_of(upstreams),
        origins=tuple(origins),
        # Never a flag: ps shows those.
        stream_secret=os.environ.get("HOLDFAST_STREAM_SECRET", ""),
        # Never a flag either: who types it would mean something else.
        unprotected=os.environ.get("HOLDFAST_UNPROTECTED", "") == "1",
        **given,
    )
    _refuse(settings, parent)
    with starting():
        import_module("holdfast.apps.edge.life")
    serve(settings)


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@DATA
@STORE
@PASSWORD_FILE
@click.option("--control-port", default=CONTROL_PORT, show_default=True, help="0: any free one.")
@click.option("--edge-port", default=EDGE_PORT, show_default=True, help="0: any free one.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option(
    "--import",
    "imports",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="flagd file to begin with; needs --service.",
)
@click.option("--service", help="Service that --import becomes.")
@click.option("--environment", default=ENVIRONMENT, show_default=True, help="Where it goes.")
@OPEN
@log_level_option("warning")
def dev(imports: Path | None, service: str | None, **given: Any) -> None:
    """Run a control plane and an edge here, and make what they need.

    PATHS are settings files or directories of them to begin with. What is there already stays as
    it is, so that a second start keeps every change.

    \b
    Examples:
      holdfast dev --open
      holdfast dev --open --import flags.json --service shop
      holdfast dev --data /tmp/try --control-port 0 --edge-port 0 examples/contoso
    """
    if imports and not service:
        raise click.UsageError("--import needs --service: whose settings are these?")
    if service and not imports:
        raise click.UsageError("--service names what --import becomes: give --import FILE too.")
    import asyncio

    from holdfast.apps.cli.together import run_together
    from holdfast.apps.cli.wanted import Wanted

    wanted = Wanted(imports=imports, service=service or "", **given)
    for settings in (wanted.control_settings(), wanted.edge_settings(token="")):
        _refuse(settings, None)
    raise click.exceptions.Exit(asyncio.run(run_together(wanted)))


def _refuse(settings: ControlSettings | EdgeSettings, parent: int | None) -> None:
    """Leave with all that is wrong with the settings, before anything listens."""
    from holdfast.apps.settings import problems_of

    problems = problems_of(settings)
    if problems:
        raise click.UsageError(
            "\n".join(f"{problem.message}.\n  {problem.hint}" for problem in problems)
        )
    if parent is not None:
        from holdfast.apps.dev import end_with_parent

        end_with_parent(parent)

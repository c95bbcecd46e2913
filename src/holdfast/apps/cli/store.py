"""The commands that look after a store: `store status`, `store compact`, `store thaw`.

Those that move what stands in one are in `store_moves`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.options import PASSWORD_FILE, output_option
from holdfast.apps.cli.output import print_data, print_facts, print_table, say, size_text
from holdfast.apps.cli.stores import opened
from holdfast.apps.defaults import DATA_DIR

if TYPE_CHECKING:
    from holdfast.engine.stocktaking import Stock

AT = click.argument(
    "at",
    metavar="[STORE]",
    default=str(DATA_DIR),
    envvar=["HOLDFAST_STORE", "HOLDFAST_DATA"],
)
MOVES = {"copy": "copy_store", "backup": "back_up", "restore": "restore", "check": "check"}


class StoreGroup(click.Group):
    """Its commands that move something are imported when they are used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *MOVES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MOVES:
            moves = import_module("holdfast.apps.cli.store_moves")
            command = getattr(moves, MOVES[cmd_name])
            assert isinstance(command, click.Command)  # noqa: S101  our own table
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=StoreGroup)
def store() -> None:
    """Look after the store, and move what stands in it.

    A store is named by its URL (sqlite:///DIR, etcd://HOST:2379,HOST:2379,
    postgresql://USER@HOST/DATABASE) or by the data directory that holds it.
    """


@store.command("status")
@AT
@PASSWORD_FILE
@output_option()
def store_status(at: str, store_password_file: Path | None, output: str) -> None:
    """Show how STORE is, and what stands in it.

    Else it is HOLDFAST_STORE, else HOLDFAST_DATA, else .holdfast. Exit code 1 when something is
    wrong.

    \b
    Examples:
      holdfast store status etcd://a:2379,b:2379,c:2379
      holdfast store status /var/lib/holdfast --output json
    """
    from holdfast.engine.stocktaking import take_stock

    with opened(at, store_password_file) as (stores, name):
        stock = take_stock(stores, name)
    if not print_data(stock, output):
        _show(stock)
    if not stock.ok:
        raise click.exceptions.Exit(1)


@store.command("compact")
@AT
@PASSWORD_FILE
@output_option()
def compact(at: str, store_password_file: Path | None, output: str) -> None:
    """Give back the space that is free in STORE; nodes may go on using it meanwhile.

    Nothing that anybody can ask for goes: not an entry, not a list that any entry names.

    \b
    Example:
      holdfast store compact etcd://a:2379,b:2379,c:2379
    """
    with opened(at, store_password_file) as (stores, name):
        freed = stores.compact()
    if not print_data({"store": name, **freed}, output):
        print_facts({"store": name, **{key.replace("_", " "): freed[key] for key in freed}})


@store.command("thaw")
@AT
@PASSWORD_FILE
@output_option()
def thaw(at: str, store_password_file: Path | None, output: str) -> None:
    """Let nodes write again to STORE, which a copy with --freeze left behind.

    Only when its journal did not go on elsewhere: two journals of one past are refused by everybody
    who knows the other one.

    \b
    Example:
      holdfast store thaw /var/lib/holdfast
    """
    from holdfast.core.errors import Unavailable
    from holdfast.engine.moving import FROZEN

    with opened(at, store_password_file) as (stores, name):
        mark = stores.marked()
        if mark and not mark.startswith(FROZEN):
            raise Unavailable(f"{name} is not frozen: {mark}")
        if not stores.mark("", mark):
            raise Unavailable(f"{name} was marked anew just now: {stores.marked()}")
    if not print_data({"store": name, "was": mark}, output):
        say(f"{name} takes writes again." if mark else f"{name} was not frozen.", fg="green")


def _show(stock: Stock) -> None:
    quick = "no quorum" if stock.round_trip_ms is None else f"{stock.round_trip_ms:.1f} ms"
    print_facts(
        {
            "store": stock.store,
            "engine": f"{stock.engine} {stock.version}".strip(),
            "round trip": quick,
            "size": size_text(stock.bytes),
            "head": f"revision {stock.revision}, {stock.hash[:16]}",
            "entries": stock.revision,
            "checkpoint": f"revision {stock.checkpoint}" if stock.checkpoint else "none",
            "blobs": f"{stock.blobs}, {size_text(stock.blob_bytes)}",
            "digests": stock.digests,
            "waiting": f"{stock.proposals} changes",
            "leading node": f"{stock.holder} (lease {stock.token})" if stock.holder else "none",
        }
    )
    if stock.members:
        click.echo()
        print_table(
            ["member", "at", "state"],
            ((one.name, one.url, _state(one.name, stock, one.healthy)) for one in stock.members),
        )
    for one in stock.wrong:
        say(f"wrong: {one}", fg="red")
    if stock.ok:
        say("Nothing is wrong with it.", fg="green")


def _state(name: str, stock: Stock, healthy: bool) -> str:
    if not healthy:
        return "not healthy"
    return "leads" if name == stock.leader else "healthy"

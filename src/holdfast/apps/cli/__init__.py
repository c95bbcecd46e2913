"""The command line: `holdfast`. One module for each group of commands, imported when asked for.

Exit codes: 0 fine, 1 problems found (in a file, in a change, or in the system), 2 wrong use,
130 interrupted.
The commands talk to a control plane through its HTTP API only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

try:
    import click
except KeyboardInterrupt:  # most of what passes before `main` can catch it
    sys.exit(130)

FINE = 0
PROBLEMS_FOUND = 1
WRONG_USE = 2
INTERRUPTED = 130
"""By Ctrl-C: 128 and the signal's number, as shells tell it."""

SECTIONS = {
    "Run": {
        "dev": "serve:dev",
        "control": "serve:control",
        "edge": "serve:edge",
    },
    "Change": {
        "check": "author:check",
        "plan": "author:plan",
        "impact": "impact:impact",
        "apply": "author:apply",
        "change": "proposals:change",
        "lint": "lint:lint",
        "schema": "author:schema",
        "contract": "contracts:contract",
        "can-deploy": "contracts:can_deploy",
        "import": "exchange:import_group",
        "export": "exchange:export_group",
    },
    "Look": {
        "get": "read:get",
        "explain": "read:explain",
        "status": "status:status",
        "fleet": "fleet:fleet",
        "rollout": "rollouts:rollout",
    },
    "Go back": {
        "history": "past:history",
        "diff": "past:diff",
        "revert": "past:revert",
        "restore": "past:restore",
        "cache": "caches:cache",
    },
    "Look after": {
        "env": "environments:env",
        "policy": "policies:policy",
        "token": "tokens:token",
        "keys": "keys:keys",
        "verify": "verify:verify",
        "audit": "audit:audit",
        "assess": "assess:assess",
        "store": "store:store",
        "gameday": "holdfast.gameday.command:gameday",
        "drill": "holdfast.gameday.command:drill",
        "simulate": "holdfast.gameday.simulation.command:simulate",
    },
}
"""Section -> command -> `module:attribute`: below this package, or anywhere by its whole name.

The game days stand above the apps: nothing here imports them but by this name, when they are run.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  click's signature
        cmd_name: str,
    ) -> click.Command | None:
        for commands in SECTIONS.values():
            if cmd_name in commands:
                module, attribute = commands[cmd_name].split(":")
                whole = module if "." in module else f"{__name__}.{module}"
                command = getattr(import_module(whole), attribute)
                assert isinstance(command, click.Command)  # noqa: S101  our own table
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (name, command.get_short_help_str(limit=100))
                        for name in names
                        if (command := self.get_command(ctx, name))
                    ]
                )


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: holdfast dev --open. Exit codes: 0 fine, 1 problems found, 2 wrong use, "
    "130 interrupted.",
)
@click.version_option(package_name="holdfast", prog_name="holdfast")
def cli() -> None:
    """Holdfast keeps the settings of many services, changes them while they run, and goes on
    answering right when its own parts fail.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; leaves by `sys.exit` with one of the codes above."""
    try:
        code = run(arguments)
    except KeyboardInterrupt:  # between what click guards
        code = INTERRUPTED
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are told on standard error."""
    try:
        left_with = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="holdfast",
            standalone_mode=False,
            color=False if "NO_COLOR" in os.environ else None,
        )
    except Exception as error:
        code = _told(error)
        if code is None:
            raise
        return code
    except SystemExit:
        # click's way out when the reader of a pipe has left (`holdfast history | head`): it has
        # what it wanted.
        return FINE
    return left_with if isinstance(left_with, int) else FINE


def _told(error: Exception) -> int | None:
    """Tell an error; the exit code it leaves with, none for one that is a fault of ours."""
    if isinstance(error, click.ClickException):
        error.show()
        return WRONG_USE if isinstance(error, click.UsageError) else PROBLEMS_FOUND
    interrupted = isinstance(error.__cause__, KeyboardInterrupt)
    if isinstance(error, click.Abort):
        click.echo("Stopped; nothing more was done.", err=True)
        return INTERRUPTED if interrupted else PROBLEMS_FOUND
    from holdfast.apps.cli.failures import tell_failure

    code = tell_failure(error)
    return INTERRUPTED if interrupted and code is not None else code

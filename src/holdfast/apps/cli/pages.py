"""`docs/reference/cli.md`, made from the commands' own help: `make docs` writes it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from holdfast.apps.cli import SECTIONS, cli

HEAD = """\
# The command line

Made from the commands' own help by `make docs`; `holdfast COMMAND --help` says the same.

Every command leaves with 0 when all is fine, 1 when it found problems (in a file, in a change, or
in the system), 2 when it was used wrong. Data goes to standard output, everything said about it to
standard error. `--output json` prints data for programs. Colours go to a terminal only, and never
where `NO_COLOR` is set.

Commands that talk to a control plane find it by `--server` and `--token`, else by `HOLDFAST_SERVER`
and `HOLDFAST_TOKEN`, else in `.holdfast/dev.json`, which `holdfast dev` leaves behind.
"""


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    root = click.Context(cli, info_name="holdfast")
    for section, names in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name in names:
            command = cli.get_command(root, name)
            if command is not None:
                parts += _command(command, root, name)
    return "\n".join(parts)


def _command(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"### {context.command_path}\n"
    prose, examples = _split(command.help or "")
    yield prose + "\n"
    yield f"```\n{' '.join(command.get_usage(context).split()).removeprefix('Usage: ')}\n```\n"
    rows = [
        _option(parameter) for parameter in command.params if isinstance(parameter, click.Option)
    ]
    shown = [row for row in rows if row]
    if shown:
        yield "\n".join(["| option | |", "|---|---|", *shown]) + "\n"
    if examples:
        yield f"```sh\n{examples}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from _command(found, context, below)


def _split(text: str) -> tuple[str, str]:
    """A help text's prose, one line to a paragraph, and its examples."""
    prose, _, examples = text.partition("\b")
    paragraphs = [" ".join(part.split()) for part in prose.strip().split("\n\n")]
    lines = [line.strip() for line in examples.strip().splitlines()[1:]]
    return "\n\n".join(paragraphs), "\n".join(lines)


def _option(option: click.Option) -> str:
    if option.hidden:
        return ""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = "" if option.is_flag else f" {_kind(option)}"
    facts = []
    if option.required:
        facts.append("required")
    if option.show_default and option.default not in (None, ""):
        facts.append(f"default `{_default(option)}`")
    if option.envvar:
        facts.append(f"or `{option.envvar}`")
    help_text = (option.help or "").rstrip(".")
    told = ". ".join(part for part in (help_text, "; ".join(facts)) if part)
    return f"| {names}{_cell(kind)} | {_cell(told)} |"


def _kind(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "/".join(map(str, option.type.choices))
    return option.metavar or option.type.name.upper()


def _default(option: click.Option) -> str:
    default = option.default
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")

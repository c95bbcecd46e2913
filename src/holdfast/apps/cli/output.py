"""What the commands print: problems like a compiler's, tables, JSON and YAML for programs.

Colours and control sequences go to a terminal only, and never where `NO_COLOR` is set. Data goes to
standard output, everything said about it to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from holdfast.core.errors import Problem

EXCERPT_CHARS_MAX = 160
"""Of a source line under a problem; longer ones are cut around the column."""
UNQUOTED = frozenset({"secret"})
"""Where one of these is, no source line is shown: it may hold what must not be read."""


def wants_colour(stream: IO[str]) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ


def print_json(value: object) -> None:
    """One JSON document, indented, in the order given, to standard output."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo(text, color=False)


def print_yaml(value: object) -> None:
    import msgspec
    import yaml

    plain = msgspec.to_builtins(value)
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False, color=False)


def print_data(value: object, output: str) -> bool:
    """Print `value` if `output` is a format for programs; tells whether it did."""
    if output == "json":
        print_json(value)
    elif output == "yaml":
        print_yaml(value)
    else:
        return False
    return True


def say(text: str, *, fg: str | None = None, bold: bool = False) -> None:
    """A line about the data, to standard error."""
    click.echo(click.style(text, fg=fg, bold=bold), err=True, color=wants_colour(sys.stderr))


def console(stream: IO[str] | None = None) -> Console:
    """A console that wraps to a terminal and never wraps into a pipe."""
    from rich.console import Console

    out = stream or sys.stdout
    terminal = out.isatty()
    return Console(
        file=out,
        highlight=False,
        emoji=False,
        markup=False,
        color_system="auto" if wants_colour(out) else None,
        width=None if terminal else 10_000,
        soft_wrap=not terminal,
    )


def print_rich(renderable: RenderableType) -> None:
    console().print(renderable)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under `columns`, to standard output; in a pipe tab-separated, so that `cut` works.

    A narrow terminal cuts nothing off, since the next command may need it: what is too long goes
    on in the next line, the first column last of all.
    """
    lines = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(columns), *lines]:
            click.echo("\t".join(line))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold"
    )
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=not number)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    print_rich(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Label and value, one to a line, the values aligned."""
    width = max((len(label) for label in facts), default=0)
    for label, value in facts.items():
        click.echo(f"{label.ljust(width)}  {value}")


def age(seconds: float) -> str:
    """A duration for people: `3 s`, `5 min`, `2 h`, `9 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size_text(size_bytes: int) -> str:
    """Bytes for people: `512 B`, `1.4 KiB`, `12 MiB`."""
    size, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"


def moment(at_ms: int) -> str:
    """A journal entry's time, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def exposed(rings: Sequence[str], percent: float) -> str:
    """Who a stage of a rollout exposes, in words."""
    parts = [*rings, *([f"{percent:g} %"] if percent else [])]
    return " + ".join(parts) or "nobody"


def print_problems(problems: Sequence[Problem], sources: Mapping[str, str] | None = None) -> None:
    """Each problem with its place, its source line and the way out; then the count."""
    unquoted = {(each.file, each.line) for each in problems if each.code in UNQUOTED}
    for problem in problems:
        quoted = (problem.file, problem.line) not in unquoted
        say(problem_text(problem, sources or {}, quoted=quoted))
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    counts = [_count(number, noun) for number, noun in ((errors, "error"), (warnings, "warning"))]
    if problems:
        say(", ".join(text for text in counts if not text.startswith("0 ")), bold=True)


def print_problem(problem: Problem, sources: Mapping[str, str] | None = None) -> None:
    say(problem_text(problem, sources or {}))


def problem_text(problem: Problem, sources: Mapping[str, str], *, quoted: bool = True) -> str:
    """A problem as a compiler would show it, with its source line if `quoted`.

    `sources` maps file names to their text; a file that is not there is read, if it can be.
    """
    red = "red" if problem.severity == "error" else "yellow"
    place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part)
    head = f"{_printable(place or problem.path) or 'holdfast'}: "
    lines = [
        click.style(head, bold=True)
        + click.style(f"{problem.severity}: ", fg=red, bold=True)
        + _printable(problem.message)
        + click.style(f" [{problem.code}]", dim=True)
    ]
    if quoted and problem.code not in UNQUOTED:
        lines += _excerpt(problem, sources, red)
    if place and problem.path:
        lines.append(click.style(f"   at {_printable(problem.path)}", dim=True))
    if problem.hint:
        lines.append(click.style("   help: ", fg="cyan") + _printable(problem.hint))
    return "\n".join(lines)


def _excerpt(problem: Problem, sources: Mapping[str, str], colour: str) -> list[str]:
    if not (problem.file and problem.line):
        return []
    text = sources.get(problem.file)
    if text is None:
        try:
            text = Path(problem.file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
    lines = text.splitlines()
    if problem.line > len(lines):
        return []
    column = max(problem.column, 1)
    start = max(0, column - EXCERPT_CHARS_MAX // 2) if column > EXCERPT_CHARS_MAX else 0
    line = _printable(lines[problem.line - 1][start : start + EXCERPT_CHARS_MAX])
    number = str(problem.line)
    shown = [f"  {number} | {line}"]
    if problem.column:
        caret = " " * (column - 1 - start)
        shown.append(f"  {' ' * len(number)} | {caret}" + click.style("^", fg=colour, bold=True))
    return shown


def _printable(text: str) -> str:
    """Without control characters: a file must not be able to write to the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")

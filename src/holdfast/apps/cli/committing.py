"""What commands that commit have in common: the question before, and what is told after."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from holdfast.apps.cli.output import print_data, say

if TYPE_CHECKING:
    from holdfast.apps.control.schemas import Committed


def show_commit(committed: Committed, output: str) -> None:
    if print_data(committed, output):
        return
    where = ", ".join(f"{one.environment}/{one.service}" for one in committed.subjects[:6])
    more = len(committed.subjects) - 6
    if not committed.differences:
        say(f"Nothing to change; still at revision {committed.revision}.")
        return
    new = f"; new snapshots for {where}" if where else "; no answer changes by it"
    say(f"Revision {committed.revision}{new}{f' and {more} more' * (more > 0)}.", fg="green")
    for each in committed.broken:
        say(f"The glass of {each.environment} is broken: everybody is told.", fg="red", bold=True)


def ask_unless(yes: bool, question: str, output: str = "text") -> None:
    """Ask on a terminal; elsewhere, nobody is there to be asked."""
    if yes or output != "text" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    click.confirm(question, abort=True)

"""What commands that commit have in common: the question before, the commit, what is told after."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.apps.cli.output import print_data, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api
    from holdfast.apps.control.schemas import Committed

ATTEMPTS_MAX: Final = 8
"""Tries of a commit whose base nobody asked for, while others write too."""
KEY_BYTES: Final = 16
"""Of chance, in what a commit is known by."""


def commit(api: Api, path: str, body: Mapping[str, Any]) -> Committed:
    """Commit once, through whichever node takes it. Raises `Conflict`, and `OutcomeUnknown` only
    when no node can tell.

    The commit names the revision that it goes onto, so that the journal takes it once, and has a
    key of its own, so that a node which it is sent to again answers for it, and for no other. With
    one node and no base revision it is sent as it is.
    """
    import msgspec

    from holdfast.apps.cli.api import Outdated
    from holdfast.apps.control.schemas import Committed, HeadBody

    given = body.get("base_revision")
    if given is None and not api.connection.others:
        return api.call(Committed, "POST", path, body)
    base = given if given is not None else api.call(HeadBody, "GET", "/v1/head").revision
    key = secrets.token_hex(KEY_BYTES)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        content = msgspec.json.encode({**body, "base_revision": base})
        answer, silences = api.call_based(Committed, "POST", path, content, key)
        if not isinstance(answer, Outdated):
            if answer.repeated:
                lost = ", ".join(one.url for one in silences if one.outcome == "unknown")
                say(f"{lost} did not answer, and had committed it.", fg="yellow")
            return answer
        if given is not None or attempt == ATTEMPTS_MAX:
            raise answer
        base = answer.actual_revision
    raise AssertionError("the last attempt returns or raises")


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

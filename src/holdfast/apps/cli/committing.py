"""What commands that commit have in common: the question before, the commit, what is told after."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from holdfast.apps.cli.output import print_data, say

if TYPE_CHECKING:
    from holdfast.apps.cli.api import Api, Outdated
    from holdfast.apps.control.schemas import Committed

ATTEMPTS_MAX: Final = 8
"""Tries of a commit whose base nobody asked for, while others write too."""


def commit(api: Api, path: str, body: Mapping[str, Any]) -> Committed:
    """Commit once, through whichever node takes it. Raises `Conflict`, and `OutcomeUnknown` only
    when no node can tell.

    The commit names the revision that it goes onto, so that the journal takes it once, however
    often it is sent. When an answer was lost and another node refuses it, for somebody has written
    on that revision, it is looked whether that was this very commit. With one node and no base
    revision it is sent as it is.
    """
    import msgspec

    from holdfast.apps.cli.api import Outdated
    from holdfast.apps.control.schemas import Committed, HeadBody

    given = body.get("base_revision")
    if given is None and not api.connection.others:
        return api.call(Committed, "POST", path, body)
    base = given if given is not None else api.call(HeadBody, "GET", "/v1/head").revision
    for attempt in range(1, ATTEMPTS_MAX + 1):
        content = msgspec.json.encode({**body, "base_revision": base})
        answer, silences = api.call_based(Committed, "POST", path, content)
        if not isinstance(answer, Outdated):
            return answer
        lost = [one.url for one in silences if one.outcome == "unknown"]
        found = _own(api, base, body["reason"], answer) if lost else None
        if found is not None:
            say(f"{', '.join(lost)} did not answer, and had committed it.", fg="yellow")
            return found
        if given is not None or attempt == ATTEMPTS_MAX:
            raise answer
        base = answer.actual_revision
    raise AssertionError("the last attempt returns or raises")


def _own(api: Api, base: int, reason: str, conflict: Outdated) -> Committed | None:
    """The commit that was made on `base`, if it was this one: by this token, for this reason.

    One commit can be made on a revision; so nobody else's is taken for it but one that the same
    token made at the same moment for the same reason.
    """
    from holdfast.apps.control.schemas import Committed, RecordedDetail, SubjectBody
    from holdfast.apps.distribute import Listed

    api.revision = max(api.revision, conflict.actual_revision)
    entry = api.call(RecordedDetail, "GET", f"/v1/history/{base + 1}")
    token_id = api.connection.token.split("_")[1:2]
    if entry.reason != reason or entry.actor.rpartition(" ")[2].strip("()") not in token_id:
        return None
    listed = api.call(dict[str, list[Listed]], "GET", "/v1/catalogue")["subjects"]
    made = [one for one in listed if one.revision == entry.revision]
    subjects = tuple(SubjectBody(one.environment, one.service, one.revision) for one in made)
    return Committed(entry.revision, entry.hash, entry.differences, subjects)


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

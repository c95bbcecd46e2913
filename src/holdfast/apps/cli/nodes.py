"""Which node of a control plane a call goes to next, when one did not answer it.

A call is sent to another node only if nothing can come of that twice:

    again    reads, and writes that are the same however often: whatever happened
    based    a commit onto one revision, which the journal lets happen once: whatever happened
    once     every other write: only when it surely came to nothing where it was sent before

What is `based` carries a key, by which every node knows it again: one that stands by the first node
is no conflict to the second.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Care: TypeAlias = Literal["again", "based", "once"]
Outcome: TypeAlias = Literal["nothing", "unknown"]

CONNECT_S: Final = 2.0
PATIENCE_S: Final = 5.0
"""For the first byte of an answer, while another node could be asked instead."""
ANSWER_S: Final = 30.0
"""The same, of the last one that is left."""
WHOLE_S: Final = 300.0
"""For all of an answer, however it drips; uploads take long, too."""

READS: Final = frozenset({"GET", "HEAD"})
HARMLESS: Final = frozenset(
    {"/v1/changes/check", "/v1/changes/impact", "/v1/explain", "/v1/can-deploy"}
    | {"/v1/blobs", "/v1/pushes"}
)
"""Calls with a body that change nothing, or the same thing however often they come."""
NOTHING_DONE: Final = frozenset({"behind", "not-reproducible", "store-marked"})
"""Codes of 503 that are told before anything is done."""


class Silence(msgspec.Struct, frozen=True):
    """A node that gave no answer to a call, or 503: what it said, and what came of the call."""

    url: str
    said: str
    outcome: Outcome = "nothing"


def care_of(method: str, path: str) -> Care:
    """How a call may be sent that says nothing else of itself."""
    return "again" if method in READS or path in HARMLESS else "once"


def may_go_on(care: Care, outcome: Outcome) -> bool:
    """Whether the same call may go to another node now."""
    return care != "once" or outcome == "nothing"


def patience_s(care: Care, others_left: int) -> float:
    """How long to wait for an answer. What can't be asked elsewhere is waited for."""
    return PATIENCE_S if others_left and care != "once" else ANSWER_S


def told(silences: list[Silence]) -> str:
    """What all nodes said, in one message."""
    each = "; ".join(f"{one.url} {one.said}" for one in silences)
    return each if len(silences) == 1 else f"none of {len(silences)} control planes answers: {each}"

"""How a process that serves gives its place to another one: events in, commands out.

    serving --Asked--> offered --Proven--> given --Serving--> left

The other one gets the listening sockets with the offer, proves with them in hand that it answers
rightly, is given the cache directory, accepts, and says so; only then this one leaves. Until then
this one serves, and if the other one is gone at any step it goes on as if nobody had come. The
cache has one writer at every moment: it is laid down before it is given, and taken up again only
when the one that it was given to is gone.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["serving", "offered", "given", "left", "done"]
Event: TypeAlias = Literal["asked", "proven", "serving", "ended", "gone", "late"]
"""What the other one said; `gone`: it is, without a word. `late`: it took too long to prove."""
Command: TypeAlias = Literal["offer", "lay down", "give", "leave", "take up", "stay", "hang up"]

PROOF_S: Final = 60.0
"""How long a new process may take until it has proven its answers."""

_STEPS: Final[dict[tuple[State, Event], tuple[State, tuple[Command, ...]]]] = {
    ("serving", "asked"): ("offered", ("offer",)),
    ("offered", "proven"): ("given", ("lay down", "give")),
    ("offered", "ended"): ("serving", ("hang up",)),
    ("offered", "gone"): ("serving", ("hang up",)),
    ("offered", "late"): ("serving", ("hang up",)),
    ("given", "serving"): ("left", ("leave",)),
    ("given", "ended"): ("serving", ("take up", "hang up")),
    ("given", "gone"): ("serving", ("take up", "hang up")),
    ("left", "gone"): ("serving", ("take up", "stay", "hang up")),
    # Who was told to end has ended with all that it had taken: nobody is to go on in its place.
    ("left", "ended"): ("done", ("hang up",)),
}


class OutOfTurn(Exception):
    """The other one says what it can't say now."""


def step(state: State, event: Event) -> tuple[State, tuple[Command, ...]]:
    """The state after an event, and what is to be done. Raises `OutOfTurn`."""
    if (state, event) == ("left", "late") or (state, event) == ("given", "late"):
        return state, ()
    if (state, event) not in _STEPS:
        raise OutOfTurn(f"{event!r} while {state}")
    return _STEPS[state, event]

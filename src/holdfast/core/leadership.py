"""Who leads, as one node decides it: events in, commands out.

    step(standing, event, now_s, chance, terms) -> (standing, commands)

Of all nodes on a store one holds its lease (`ports.Leases`), and leads. It asks again well before
the lease ends, and stops leading by its own clock before the store's clock can have given the lease
to another one, whether or not the store answers by then. A node that holds nothing asks now and
then, at a moment drawn by chance. What still slips through, a leader that sleeps in the middle of a
write say, the journal's fence refuses: the token tells it from its successor.

Times are seconds of one node's own monotonic clock, which need not agree with anybody's.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import msgspec


class Terms(msgspec.Struct, frozen=True):
    """How long a lease holds, and how it is asked for.

    `margin_s` is by how much a leader ends before the lease that it last asked for: clocks whose
    rates differ by no more than `margin_s / ttl_s` never let two lead at once.
    """

    ttl_s: float = 5.0
    renew_s: float = 1.5
    retry_s: float = 1.5
    margin_s: float = 1.0


class Standing(msgspec.Struct, frozen=True):
    """Where one node stands.

    - `token`: of the lease in whose name it leads, until `until_s`; 0 while it does not lead.
    - `asking`: the store was asked for the lease and has not answered; never twice at once.
    - `due_s`: when it is to be asked next.
    - `lost`: a token under which a write was refused: never led under again.
    """

    token: int = 0
    until_s: float = -math.inf
    asking: bool = False
    due_s: float = -math.inf
    lost: int = 0
    closed: bool = False

    def leads(self, now_s: float) -> bool:
        """Whether it may act for all nodes at this moment."""
        return self.token > 0 and now_s < self.until_s

    @property
    def wake_s(self) -> float:
        """When a `Tick` is due, whatever else happens; infinite for never."""
        end_s = self.until_s if self.token else math.inf
        return end_s if self.asking or self.closed else min(self.due_s, end_s)


TERMS: Final = Terms()


class Tick(msgspec.Struct, frozen=True):
    """Time went by."""


class Took(msgspec.Struct, frozen=True):
    """The store gave or extended the lease; it was asked at `asked_s`."""

    token: int
    asked_s: float


class Refused(msgspec.Struct, frozen=True):
    """Another node holds it."""


class Unanswered(msgspec.Struct, frozen=True):
    """The store did not answer; it may have given the lease all the same."""


class Fenced(msgspec.Struct, frozen=True):
    """A write in the name of `token` was refused: a newer lease was given."""

    token: int


class Faulted(msgspec.Struct, frozen=True):
    """Something failed here that nobody foresaw; whoever leads now may not know that it does."""


class Closing(msgspec.Struct, frozen=True):
    """This node must not lead any more: it ends, or its build makes other bytes than others."""


Event: TypeAlias = Tick | Took | Refused | Unanswered | Fenced | Faulted | Closing


class Ask(msgspec.Struct, frozen=True):
    """Ask the store for the lease; answer with `Took`, `Refused` or `Unanswered`."""


class GiveUp(msgspec.Struct, frozen=True):
    """Let the next one have the lease of that token at once; 0: any that this node has.

    A node that can't hear that it was given the lease, and asks on, would keep it from all others.
    """

    token: int


class Lead(msgspec.Struct, frozen=True):
    """Begin to act for all nodes, under this token."""

    token: int


class Follow(msgspec.Struct, frozen=True):
    """Stop that: `token` was the last one."""

    token: int
    why: str


Command: TypeAlias = Ask | GiveUp | Lead | Follow
Step: TypeAlias = tuple[Standing, tuple[Command, ...]]


def step(
    standing: Standing, event: Event, now_s: float, chance: float, terms: Terms = TERMS
) -> Step:
    """What becomes of the node, and what it is to do, in order. `chance` is from 0 to 1."""
    after, commands = _ended(standing, now_s)
    match event:
        case Took():
            after, more = _took(after, event, now_s, chance, terms)
        case Refused():
            after, more = _stop(after, "another node holds the lease")
            after = _later(after, now_s, chance, terms.retry_s)
        case Unanswered():
            wait_s = terms.renew_s / 4 if after.token else terms.retry_s
            after, more = _later(after, now_s, chance, wait_s), ()
        case Fenced():
            after, more = _fenced(after, event, now_s, chance, terms)
        case Faulted():
            given_up = GiveUp(after.token)
            after, more = _stop(after, "something failed here that nobody foresaw: see the log")
            after, more = _rested(after, now_s, chance, terms), (*more, given_up)
        case Closing():
            after, more = _closing(after)
        case Tick():
            more = ()
    after, asked = _ask(after, now_s)
    return after, (*commands, *more, *asked)


def _ended(standing: Standing, now_s: float) -> Step:
    if not standing.token or standing.leads(now_s):
        return standing, ()
    return _stop(standing, "the lease was not extended in time")


def _took(standing: Standing, event: Took, now_s: float, chance: float, terms: Terms) -> Step:
    if standing.closed:
        return msgspec.structs.replace(standing, asking=False), (GiveUp(event.token),)
    until_s = event.asked_s + terms.ttl_s - terms.margin_s
    if until_s <= now_s or event.token == standing.lost:  # another one may hold it by now
        return _later(standing, now_s, chance, terms.retry_s), ()
    commands: tuple[Command, ...] = ()
    if standing.token != event.token:
        _, commands = _stop(standing, "another node had the lease in between")
        commands = (*commands, Lead(event.token))
    due_s = event.asked_s + terms.renew_s
    return Standing(event.token, until_s, due_s=due_s, lost=standing.lost), commands


def _fenced(standing: Standing, event: Fenced, now_s: float, chance: float, terms: Terms) -> Step:
    if event.token != standing.token:
        return standing, ()  # of an earlier term
    after, commands = _stop(standing, "a write was refused: a newer lease was given")
    after = _rested(after, now_s, chance, terms)
    return msgspec.structs.replace(after, lost=event.token), commands


def _closing(standing: Standing) -> Step:
    after, commands = _stop(standing, "this node must not lead any more")
    given_up = (GiveUp(standing.token),) if standing.token else ()
    return msgspec.structs.replace(after, closed=True), (*commands, *given_up)


def _stop(standing: Standing, why: str) -> Step:
    if not standing.token:
        return standing, ()
    stopped = msgspec.structs.replace(standing, token=0, until_s=-math.inf)
    return stopped, (Follow(standing.token, why),)


def _later(standing: Standing, now_s: float, chance: float, wait_s: float) -> Standing:
    """The answer is there; the next question comes half to one and a half times as late."""
    return msgspec.structs.replace(standing, asking=False, due_s=now_s + wait_s * (0.5 + chance))


def _rested(standing: Standing, now_s: float, chance: float, terms: Terms) -> Standing:
    """Not asked again at once; a question that is under way stays so."""
    return msgspec.structs.replace(standing, due_s=now_s + terms.retry_s * (0.5 + chance))


def _ask(standing: Standing, now_s: float) -> Step:
    if standing.closed or standing.asking or now_s < standing.due_s:
        return standing, ()
    return msgspec.structs.replace(standing, asking=True), (Ask(),)

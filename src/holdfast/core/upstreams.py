"""Which upstream to ask: leave a failing one at once, come back to the preferred one slowly.

Upstreams are numbered in order of preference, 0 first. One failure moves a follower to the next
one; several good probes in a row move it back, and each fall makes the next return wait longer,
so that an upstream which comes and goes is not followed back and forth.

One that answers may be worth no more than one that does not: it is stuck on an old revision, or
what it sends can't be believed. Each such answer is a doubt, and doubts fade. An upstream with too
many is left for one that has fewer; when all have, nothing is won by moving, and nobody moves.

Nothing of it is kept over a restart: a process answers from its disk before it asks anybody, and
one question, refused at once or after the 2 s to connect, finds out what has become of the first.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from holdfast.core.pacing import full_jitter

RETURN_AFTER = 3
"""Good answers in a row, to probes, before a preferred upstream is used again."""
PROBE_S = 5.0
"""Least time between two probes; doubles with each fall."""
PROBE_MAX_S = 300.0
SILENT_AFTER = 2
"""Failures in a row after which an upstream counts as silent: one may be its restart."""
STABLE_S = 600.0
"""Falls are forgotten after this long in use."""
DOUBT_HALF_S = 300.0
"""Half of a doubt is forgotten after this long."""
LEFT_AT = 1.0
"""An upstream with so much doubt is left, if there is one with less than half of it."""
_LAGS = frozenset({"frozen", "rollback"})
_LIES = frozenset(
    {"signature", "digest", "size", "subject", "revision", "statement", "envelope", "bundle"}
    | {"bundle-size", "answer-size", "answer-encoding", "catalogue", "freshness", "defect"}
    | {"freshness-signature", "freshness-subject", "payload-type"}
)


def weight_of(code: str) -> float:
    """How much doubt an answer that was refused with this code casts on who sent it.

    None where any upstream would have sent the same: content that this consumer can't take.
    """
    if code in _LAGS:
        return 0.4
    return 0.6 if code in _LIES or code.startswith("root-") else 0.0


class Link(msgspec.Struct, frozen=True):
    """What is known of one upstream: failures and successes in a row, and when to probe it.

    `failed_as` numbers its last failure among those of all. `doubt` was so much at `doubted_s`.
    """

    failures: int = 0
    successes: int = 0
    falls: int = 0
    rests_until_s: float = 0.0
    failed_as: int = 0
    doubt: float = 0.0
    doubted_s: float = 0.0

    def doubt_at(self, now_s: float) -> float:
        """What is left of the doubt."""
        halves: float = max(0.0, now_s - self.doubted_s) / DOUBT_HALF_S
        left: float = self.doubt * 0.5**halves
        return left


class Upstreams(msgspec.Struct, frozen=True):
    """All upstreams, the one in use and since when; `probed`: a probe was asked last.

    `failures` were counted so far, of all together.
    """

    links: tuple[Link, ...]
    current: int = 0
    since_s: float = 0.0
    probed: bool = False
    failures: int = 0


def known(count: int, now_s: float) -> Upstreams:
    """`count` upstreams of which nothing is known; the first is in use."""
    return Upstreams(tuple(Link() for _ in range(count)), 0, now_s)


def pick(upstreams: Upstreams, now_s: float) -> tuple[Upstreams, int]:
    """The upstream for the next question: the one in use, or a preferred one that is due a probe.

    A probe is a question that would have been asked anyway: returning costs no extra load. After
    each comes a question to the one in use, or it would never be asked where several are due.
    """
    if upstreams.probed:
        return msgspec.structs.replace(upstreams, probed=False), upstreams.current
    for index in range(upstreams.current):
        link = upstreams.links[index]
        if link.rests_until_s <= now_s:
            rest_s = _rest_s(link)
            probed = msgspec.structs.replace(link, rests_until_s=now_s + rest_s)
            upstreams = msgspec.structs.replace(upstreams, probed=True)
            return _with(upstreams, index, probed), index
    return upstreams, upstreams.current


def answered(upstreams: Upstreams, index: int, now_s: float) -> Upstreams:
    """Upstream `index` gave an answer; the preferred one may thereby come back into use."""
    link = upstreams.links[index]
    stable = index == upstreams.current and now_s - upstreams.since_s >= STABLE_S
    link = msgspec.structs.replace(
        link, failures=0, successes=link.successes + 1, falls=0 if stable else link.falls
    )
    upstreams = _with(upstreams, index, link)
    well = link.successes >= RETURN_AFTER and link.doubt_at(now_s) < LEFT_AT
    if index < upstreams.current and well:
        return msgspec.structs.replace(upstreams, current=index, since_s=now_s)
    return upstreams


def failed(upstreams: Upstreams, index: int, now_s: float, chance: float) -> Upstreams:
    """Upstream `index` did not answer; if it was in use, the best other one is from now on."""
    link = upstreams.links[index]
    link = msgspec.structs.replace(
        link,
        failures=link.failures + 1,
        successes=0,
        falls=link.falls + (index == upstreams.current),
        failed_as=upstreams.failures + 1,
    )
    upstreams = msgspec.structs.replace(upstreams, failures=link.failed_as)
    rest_s = _rest_s(link) + full_jitter(link.failures, PROBE_S, PROBE_MAX_S, chance)
    link = msgspec.structs.replace(link, rests_until_s=now_s + rest_s)
    upstreams = _with(upstreams, index, link)
    if index != upstreams.current or len(upstreams.links) == 1:
        return upstreams
    others = [other for other in range(len(upstreams.links)) if other != index]
    best = min(others, key=lambda other: _merit(upstreams.links[other], other, now_s))
    return msgspec.structs.replace(upstreams, current=best, since_s=now_s)


def doubted(upstreams: Upstreams, index: int, weight: float, now_s: float) -> Upstreams:
    """Upstream `index` answered, and its answer speaks against it; it may be left for that."""
    link = upstreams.links[index]
    doubt = min(2 * LEFT_AT, link.doubt_at(now_s) + weight)
    link = msgspec.structs.replace(link, successes=0, doubt=doubt, doubted_s=now_s)
    upstreams = _with(upstreams, index, link)
    if index != upstreams.current or doubt < LEFT_AT:
        return upstreams
    clear = [
        other
        for other, each in enumerate(upstreams.links)
        if each.doubt_at(now_s) < LEFT_AT / 2
        and (not each.failures or each.rests_until_s <= now_s)  # it may be back
    ]
    if not clear:
        return upstreams
    fallen = msgspec.structs.replace(link, falls=link.falls + 1)
    fallen = msgspec.structs.replace(fallen, rests_until_s=now_s + _rest_s(fallen))
    upstreams = _with(upstreams, index, fallen)
    best = min(clear, key=lambda other: (upstreams.links[other].failures > 0, other))
    return msgspec.structs.replace(upstreams, current=best, since_s=now_s)


def usable(upstreams: Upstreams, now_s: float) -> list[int]:
    """The upstreams that are not known to fail, or failed long enough ago, by preference."""
    return [
        index
        for index, link in enumerate(upstreams.links)
        if not link.failures or link.rests_until_s <= now_s
    ]


def unrefused(
    upstreams: Upstreams, index: int, refused_until_s: Mapping[int, float], now_s: float
) -> int:
    """Another upstream than `index`, if its answers about a topic were refused of late."""
    refused = {other for other, until_s in refused_until_s.items() if until_s > now_s}
    if index not in refused:
        return index
    clear = set(range(len(upstreams.links))) - refused
    # One that failed may be back: it is tried rather than one that is known to be wrong.
    others = clear.intersection(usable(upstreams, now_s)) or clear
    if others:
        return min(others)
    # When all were refused, the longest ago comes first: each has its turn.
    return min(refused, key=lambda other: refused_until_s[other])


def silent(upstreams: Upstreams) -> bool:
    """Whether no upstream answers: nobody could say that there is something newer."""
    return bool(upstreams.links) and all(link.failures >= SILENT_AFTER for link in upstreams.links)


def _merit(link: Link, index: int, now_s: float) -> tuple[bool, bool, int, int]:
    """Of those that rest each has its turn, whatever chance made of how long it rests."""
    resting = link.failures > 0 and link.rests_until_s > now_s
    doubtful = link.doubt_at(now_s) >= LEFT_AT
    return resting, doubtful, link.failed_as if resting else 0, index


def _rest_s(link: Link) -> float:
    return min(PROBE_MAX_S, PROBE_S * 2.0 ** min(link.falls, 10))


def _with(upstreams: Upstreams, index: int, link: Link) -> Upstreams:
    links = (*upstreams.links[:index], link, *upstreams.links[index + 1 :])
    return msgspec.structs.replace(upstreams, links=links)

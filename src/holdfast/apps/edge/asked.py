"""What a request asks of an edge, told from its target alone: how important it is, and of whom.

important    health, metrics, pushes; catalogue, segments; snapshots asked for with what one has
interactive  single evaluations, and openings of streams
bulk         bulk evaluations and ECS-shaped reads
export       whole snapshots, reports, and what is no route
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from holdfast.core.admission import Rank

_HAVE: Final = re.compile(rb"(?:^|&)have=[0-9a-f]{64}(?:&|$)")


class Asked(msgspec.Struct, frozen=True, gc=False):
    """`renewal` is its rank when the caller says what he has, by a condition or in the query.

    `place` is "environment/service", or a route that belongs to none; `ofrep`: its errors have
    OFREP's shape.
    """

    rank: Rank
    renewal: Rank
    place: str
    ofrep: bool = False


def asked(target: bytes) -> Asked:  # noqa: PLR0911  one line each
    """Read a request's target; never raises."""
    path, _, query = target.partition(b"?")
    match path.decode("latin-1").split("/"):
        case ["", "healthz" | "readyz" | "metrics" as route]:
            return _of(Rank.IMPORTANT, route)
        case ["", "v1", "catalogue" | "push" as route, *_]:
            return _of(Rank.IMPORTANT, route)
        case ["", "v1", "stream"]:
            return _of(Rank.INTERACTIVE, "stream")
        case ["", environment, service, "ofrep", "v1", *rest]:
            bulk = rest == ["evaluate", "flags"]
            rank = Rank.BULK if bulk else Rank.INTERACTIVE
            return _of(rank, f"{environment}/{service}", ofrep=True)
        case ["", "config", "v1", *_]:
            return _of(Rank.BULK, "config")
        case ["", environment, service, "segments", _]:
            return _of(Rank.IMPORTANT, f"{environment}/{service}")
        case ["", environment, service, "snapshot"]:
            has = _HAVE.search(query) is not None
            rank = Rank.IMPORTANT if has else Rank.EXPORT
            return Asked(rank, Rank.IMPORTANT, f"{environment}/{service}")
    return _of(Rank.EXPORT, "other")


def _of(rank: Rank, place: str, *, ofrep: bool = False) -> Asked:
    return Asked(rank, rank, place, ofrep)

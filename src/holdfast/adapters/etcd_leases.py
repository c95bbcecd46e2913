"""The lease of a store in etcd: it runs out by etcd's clock, whoever may be stopped or cut off.

    PREFIX/lease/held      the lease that is held now; bound to a lease of etcd's, and goes with it
    PREFIX/lease/holder    who had the newest one
    PREFIX/lease/token     its token, in digits: what fenced writes are compared with

etcd's own ids of leases are drawn by chance; the token is counted, so that it grows.
"""

from __future__ import annotations

import contextlib
import math
from typing import Final

import msgspec

from holdfast.adapters.etcd_line import EtcdLine
from holdfast.adapters.etcd_wire import (
    Granted,
    KeptAlive,
    KeyValue,
    Nothing,
    Operation,
    delete,
    first,
    get,
    put,
    unchanged,
)
from holdfast.core.errors import Damaged, Unavailable
from holdfast.ports import Lease

HELD: Final = "lease/held"
HOLDER: Final = "lease/holder"
TOKEN: Final = "lease/token"  # noqa: S105 - a key's name
TRIES_MAX: Final = 8
"""Each but the last failed since somebody else took, or gave up, the lease in that moment."""


class _Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of `lease/held`; `ttl_s` is what etcd was asked for."""

    token: int
    holder: str
    url: str
    ttl_s: int

    @property
    def lease(self) -> Lease:
        return Lease(self.token, self.holder, self.url)


class _Standing(msgspec.Struct, frozen=True):
    """What is under the three keys at one moment; `token` is 0 before the first lease."""

    held: _Held | None
    token: int
    holder: str
    held_revision: int
    token_revision: int
    etcd_lease: int


_held: Final = msgspec.json.Decoder(_Held)


class EtcdLeases:
    """The `Leases` port. etcd keeps no time-to-live below its election time-out, about 2 s."""

    def __init__(self, line: EtcdLine) -> None:
        self._line = line

    def take(self, holder: str, url: str, ttl_s: float) -> Lease | None:
        seconds = max(1, math.ceil(ttl_s))
        for _ in range(TRIES_MAX):
            standing = self._standing()
            held = standing.held
            if held is not None and held.holder != holder:
                return None
            wanted = self._wanted(standing, holder, url, seconds)
            if held == wanted and self._kept_alive(standing.etcd_lease):
                return wanted.lease
            if self._put(standing, wanted):
                return wanted.lease
        raise Unavailable(f"{self._line.where}: the lease changes hands too fast: try again")

    def current(self) -> Lease | None:
        held = self._standing().held
        return held.lease if held else None

    def give_up(self, lease: Lease) -> None:
        standing = self._standing()
        if standing.held is None or standing.held.token != lease.token:
            return
        key = self._line.key(HELD)
        self._line.change((unchanged(key, standing.held_revision),), (delete(key),))
        self._revoke(standing.etcd_lease)

    def _wanted(self, standing: _Standing, holder: str, url: str, seconds: int) -> _Held:
        mine = standing.token > 0 and standing.holder == holder
        return _Held(standing.token + (not mine), holder, url, seconds)

    def _put(self, standing: _Standing, wanted: _Held) -> bool:
        """Put it in the place of what stood there; false when something else stands by now."""
        held, token = self._line.key(HELD), self._line.key(TOKEN)
        granted = self._line.call("/v3/lease/grant", {"TTL": str(wanted.ttl_s)}, Granted).id
        operations: list[Operation] = [put(held, msgspec.json.encode(wanted), granted)]
        if wanted.token != standing.token:
            holder = put(self._line.key(HOLDER), wanted.holder.encode())
            operations += [put(token, b"%d" % wanted.token), holder]
        compare = (
            unchanged(held, standing.held_revision),
            unchanged(token, standing.token_revision),
        )
        done = self._line.change(compare, operations, twice=False).succeeded
        self._revoke(standing.etcd_lease if done else granted)
        return done

    def _kept_alive(self, etcd_lease: int) -> bool:
        answer = self._line.call("/v3/lease/keepalive", {"ID": str(etcd_lease)}, KeptAlive)
        return answer.result.ttl_s > 0

    def _revoke(self, etcd_lease: int) -> None:
        """Nothing hangs on it any more; where that fails it runs out by itself."""
        if etcd_lease:
            with contextlib.suppress(Unavailable):
                self._line.call("/v3/lease/revoke", {"ID": str(etcd_lease)}, Nothing)

    def _standing(self) -> _Standing:
        names = (HELD, HOLDER, TOKEN)
        reads = [get(self._line.key(name)) for name in names]
        held, holder, token = (first(found) for found in self._line.look(*reads))
        return _Standing(
            held=self._decoded(held) if held else None,
            token=token_of(token),
            holder=holder.value.decode() if holder else "",
            held_revision=held.mod_revision if held else 0,
            token_revision=token.mod_revision if token else 0,
            etcd_lease=held.lease if held else 0,
        )

    def _decoded(self, found: KeyValue) -> _Held:
        try:
            return _held.decode(found.value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            what = f"{self._line.where}: {HELD} is not what was put there"
            way_out = "delete that key: the lease is then taken anew"
            raise Damaged(f"{what}. {way_out}") from None


def token_of(found: KeyValue | None) -> int:
    """The token of the newest lease; 0 before the first. Raises `Damaged`."""
    if found is None:
        return 0
    if not found.value.isdigit():
        way_out = "put a number there that is above every token so far"
        raise Damaged(f"{TOKEN} is {found.value[:20]!r}, and no number: {way_out}")
    return int(found.value)

"""Calls to an etcd cluster, over several endpoints: each is over when its time is.

An endpoint that failed is asked after the others for a while. Each endpoint but the last one gets
half of the time that is left, and `ATTEMPT_S` at most. A call that must not be made twice says so:
once it may have arrived, and no answer came, `Lost` is raised.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from holdfast.adapters.etcd_address import Credentials, EtcdAddress
from holdfast.adapters.etcd_endpoint import Endpoint, NotNow, Refused, TooMuch
from holdfast.adapters.etcd_wire import (
    Comparison,
    KeyValue,
    Operation,
    Range,
    Token,
    Transaction,
    decoder_of,
    past,
)
from holdfast.core.errors import Unavailable

ATTEMPT_S: Final = 3.0
"""The most that one endpoint gets while there are others: etcd itself waits up to 7 s for a leader
that was killed with the call in its hands.
"""
REST_S: Final = 5.0
"""How long an endpoint that failed is asked after the others."""
ROUND_S: Final = 0.1
"""Between two rounds of endpoints: a leader is elected in a second or two."""
CALLS_MAX: Final = 64
"""At the same time; one more waits for its turn, within its time."""
PAGE: Final = 512
"""Keys in one answer, unless they were too large for that a while ago."""
PAGE_GROWTH: Final = 8
_UNAUTHENTICATED: Final = 16
_NOT_ENABLED: Final = 9
_OLD_TOKEN: Final = ("auth: revision in header is old", "invalid auth token", "user name is empty")

_Answer = TypeVar("_Answer")


class Lost(Unavailable):
    """Nobody answered; the call may have been carried out all the same, or be so yet."""


class EtcdLine:
    """See the module. Thread-safe. `where` names the store for people."""

    def __init__(self, address: EtcdAddress) -> None:
        self.where = address.where
        self.timeout_s = address.timeout_s
        self.endpoints = [Endpoint(url, address.tls) for url in address.endpoints]
        self.failures = 0
        """How often an endpoint did not answer."""
        self._tls = address.tls
        self._credentials = address.credentials
        self._prefix = f"{address.prefix}/"
        self._preferred = self.endpoints[0]
        self._page = PAGE
        self._token = ""
        self._renewing = threading.Lock()
        self._turns = threading.BoundedSemaphore(CALLS_MAX)

    def key(self, name: str) -> bytes:
        """The key of a name, under this store's prefix."""
        return f"{self._prefix}{name}".encode()

    def name(self, key: bytes) -> str:
        """The name of a key, under this store's prefix."""
        return key.decode(errors="replace").removeprefix(self._prefix)

    def deadline_s(self) -> float:
        """When a call that begins now is over, by the monotonic clock."""
        return time.monotonic() + self.timeout_s

    def get(self, name: str) -> tuple[KeyValue | None, int]:
        """What stands under a name, linearizably, and the revision of etcd's at which it did."""
        found = self.call("/v3/kv/range", {"key": self.key(name)}, Range)
        return (found.kvs[0] if found.kvs else None), found.header.revision

    def look(self, *operations: Operation) -> list[tuple[KeyValue, ...]]:
        """Several reads at one moment: what each found."""
        return self.call("/v3/kv/txn", {"success": operations}, Transaction).found

    def under(self, name: str, *, keys_only: bool = False) -> Iterator[KeyValue]:
        """All whose names begin so, in order, read in pages: each page at its own moment."""
        key = self.key(name)
        return self.between(key, past(key), keys_only=keys_only)

    def between(
        self, key: bytes, end: bytes, *, keys_only: bool = False, page: int = PAGE
    ) -> Iterator[KeyValue]:
        """All from `key` up to but not including `end`, as `under`."""
        more = True
        while more:
            limit = page if keys_only else min(page, self._page)
            question = {"key": key, "range_end": end, "limit": str(limit), "keys_only": keys_only}
            try:
                found = self.call("/v3/kv/range", question, Range)
            except TooMuch:
                if limit == 1:
                    raise Unavailable(f"{self.where}: a value is larger than any of ours") from None
                self._page = max(1, limit // 8)
                continue
            self._page = min(PAGE, self._page + PAGE_GROWTH)
            yield from found.kvs
            more = found.more and bool(found.kvs)
            key = found.kvs[-1].key + b"\0" if more else key

    def change(
        self,
        compare: Sequence[Comparison],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        deadline_s: float = 0.0,
        twice: bool = True,
    ) -> Transaction:
        """One transaction: all of `success` if all of `compare` hold, else all of `failure`.

        `twice`: as in `call`.
        """
        question = {"compare": compare, "success": success, "failure": failure}
        return self.call("/v3/kv/txn", question, Transaction, deadline_s=deadline_s, twice=twice)

    def call(
        self,
        path: str,
        question: Mapping[str, Any],
        answer: type[_Answer],
        *,
        deadline_s: float = 0.0,
        twice: bool = True,
    ) -> _Answer:
        """Ask the cluster; without a deadline for as long as its URL says.

        Raises `Refused`; `Unavailable` when nobody answers in time; `Lost` when the call must not
        be made `twice`, and may have arrived; `TooMuch`.
        """
        deadline_s = deadline_s or self.deadline_s()
        if not self._turns.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
            raise Unavailable(f"{self.where}: {CALLS_MAX} calls are under way: try again later")
        try:
            return self._rounds(path, msgspec.json.encode(question), answer, deadline_s, twice)
        finally:
            self._turns.release()

    def call_one(
        self,
        endpoint: Endpoint,
        path: str,
        question: Mapping[str, Any],
        answer: type[_Answer],
        timeout_s: float,
    ) -> _Answer:
        """Ask one member and nobody else. Raises `Refused` and `Unavailable`."""
        try:
            content = self._authorised(
                endpoint, path, msgspec.json.encode(question), time.monotonic() + timeout_s
            )
        except NotNow as failed:
            raise Unavailable(f"{self.where}: {failed}") from None
        return self._decoded(content, answer)

    def other(self, url: str) -> Endpoint:
        """A member that the store's URL does not name, for `call_one`; the caller closes it."""
        return Endpoint(url, self._tls)

    def wait_for_change(
        self, name: str, revision: int, patience_s: float, ended: Callable[[], bool]
    ) -> None:
        """Return soon after something was written under `name` from that revision of etcd's on.

        After `patience_s` at the latest, and earlier for any other reason too: the caller looks
        what there is. Who ends it has `ended` say so, then calls `end_waits`. Raises `Unavailable`
        when there is no stream to be had.
        """
        question = {"create_request": {"key": self.key(name), "start_revision": str(revision)}}
        endpoint = self._ordered()[0]
        try:
            endpoint.wait_for_change(
                self._headers(), msgspec.json.encode(question), patience_s, ended
            )
        except NotNow as failed:
            self._rest(endpoint)
            raise Unavailable(f"{self.where}: {failed}") from None

    def end_waits(self) -> None:
        """Every wait that is under way returns soon."""
        for endpoint in self.endpoints:
            endpoint.end_waits()

    def close(self) -> None:
        for endpoint in self.endpoints:
            endpoint.close()

    def _rounds(
        self, path: str, body: bytes, answer: type[_Answer], deadline_s: float, twice: bool
    ) -> _Answer:
        while True:
            failures: list[NotNow] = []
            order = self._ordered()
            for endpoint in order:
                left_s = deadline_s - time.monotonic()
                share_s = left_s if endpoint is order[-1] else min(left_s / 2, ATTEMPT_S)
                try:
                    content = self._authorised(endpoint, path, body, time.monotonic() + share_s)
                except NotNow as failed:
                    self._rest(endpoint)
                    failures.append(failed)
                    if failed.sent and not twice:
                        raise Lost(self._told(failures)) from None
                    continue
                self._preferred = endpoint
                return self._decoded(content, answer)
            waiting = any(failed.soon or failed.sent for failed in failures)
            if not waiting or time.monotonic() + ROUND_S >= deadline_s:
                raise Unavailable(self._told(failures))
            time.sleep(ROUND_S)

    def _ordered(self) -> list[Endpoint]:
        """The likeliest first; of those that failed the one that did so first."""
        now_s, preferred = time.monotonic(), self._preferred
        return sorted(
            self.endpoints,
            key=lambda each: (max(now_s, each.resting_until_s), each is not preferred),
        )

    def _rest(self, endpoint: Endpoint) -> None:
        self.failures += 1
        endpoint.resting_until_s = time.monotonic() + REST_S

    def _authorised(self, endpoint: Endpoint, path: str, body: bytes, until_s: float) -> bytes:
        """The answer; asked with a new token where the old one is not taken any more."""
        credentials = self._credentials
        if credentials is None:
            return endpoint.ask(path, self._headers(), body, until_s)
        token = self._token or self._renewed("", credentials, endpoint, until_s)
        try:
            return endpoint.ask(path, self._headers(), body, until_s)
        except Refused as refused:
            old = any(text in str(refused) for text in _OLD_TOKEN)
            if not old and refused.grpc != _UNAUTHENTICATED:
                raise
        self._renewed(token, credentials, endpoint, until_s)
        return endpoint.ask(path, self._headers(), body, until_s)

    def _renewed(
        self, old: str, credentials: Credentials, endpoint: Endpoint, until_s: float
    ) -> str:
        """A token other than `old`, which one thread asks for; empty where etcd has no users."""
        with self._renewing:
            if self._token != old:
                return self._token
            question = msgspec.json.encode(
                {"name": credentials.user, "password": credentials.password}
            )
            try:
                content = endpoint.ask("/v3/auth/authenticate", {}, question, until_s)
            except Refused as refused:
                if refused.grpc == _NOT_ENABLED:  # no users yet: a URL may have its user before
                    return ""
                what = f"{self.where} refused the user {credentials.named!r}"
                way_out = "look at the user and the password in the store's URL"
                raise Refused(f"{what}: {refused}; {way_out}", refused.grpc) from None
            self._token = self._decoded(content, Token).token
            return self._token

    def _headers(self) -> dict[str, str]:
        kind = {"Content-Type": "application/json"}
        return {**kind, "Authorization": self._token} if self._token else kind

    def _decoded(self, content: bytes, answer: type[_Answer]) -> _Answer:
        try:
            return decoder_of(answer).decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unavailable(f"{self.where}: that is no answer of etcd's: {error}") from None

    def _told(self, failures: Sequence[NotNow]) -> str:
        reasons = "; ".join(failed.why for failed in failures)
        return f"{self.where} does not answer: {reasons}. Look at its members and at the network"

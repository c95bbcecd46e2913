"""`POST /v1/push`: a change that was signed offline, taken by this edge itself.

It is break-glass, and skips waiting and approval. It skips no check: its bundles go the way of
every candidate, on the follower's thread. The signature of the environment's key lets it in, and
where this edge knows tokens, one with the verb `write` as well. What became of it is asked for
under the hash of its entry: `GET /v1/push/{hash}`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from holdfast.adapters.ed25519 import verify
from holdfast.apps import http
from holdfast.apps.edge.door import EdgeDoor
from holdfast.apps.edge.spool import Spool
from holdfast.apps.http import NO_STORE, Request, Response
from holdfast.apps.observe import logger
from holdfast.core.bundle import decode_bundle
from holdfast.core.conversation import Answered, Refused
from holdfast.core.errors import HoldfastError, NotFound, Unavailable, Untrusted
from holdfast.core.model import Subject
from holdfast.core.pushes import Push, decode_push, stated
from holdfast.core.roots import extend
from holdfast.core.snapshot import STATEMENT_TYPE
from holdfast.core.trust import Generation
from holdfast.core.wire import signers
from holdfast.sdk.handed import Offer, Verdict

WAITING_MAX: Final = 64
"""Bundles that wait for the follower; one that is busy for so long takes no more."""
KEPT_MAX: Final = 32
"""Pushes of which it is still known what became of them."""

_log = logger("holdfast.edge.push")


class Outcome(msgspec.Struct):
    """What became of one subject of a push: `waiting`, `taken` or `refused`, and then why."""

    subject: str
    revision: int
    digest: str
    state: str = "waiting"
    code: str = ""
    message: str = ""


class Pushes:
    """The door for pushes. `handle` is called on the event loop, verdicts come from any thread."""

    def __init__(
        self,
        door: EdgeDoor,
        held: Callable[[Subject], Generation | None],
        offer: Callable[[Offer], None],
        spool: Spool | None = None,
    ) -> None:
        """`spool` is where the workers of one edge leave pushes for each other."""
        self._spool = spool
        self._door = door
        self._held = held
        self._offer = offer
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Outcome, ...]] = OrderedDict()
        self._waiting = 0
        self.counts: Counter[str] = Counter()
        """Bundles by what became of them; `turned-away` counts pushes that were not looked at."""

    def handle(self, request: Request) -> Response:
        """The answer to a push, or to the question what became of one."""
        name = request.path.removeprefix("/v1/push").strip("/")
        if request.method == "GET" and name:
            found = self._known.get(name)
            if found is None:
                return http.error_response(NotFound(f"no push {name[:64]} came here of late"))
            return http.json_response({"push": name, "subjects": found}, headers=[NO_STORE])
        if request.method != "POST" or name:
            return http.method_not_allowed(request.method, "POST")
        try:
            push = decode_push(request.body)
            for raw in push.bundles:
                self._let_in(request, stated(bytes(raw))[0])
            name, outcomes = self._take(push)
            if self._spool is not None:
                self._spool.put(name, request.body)
            return http.json_response({"push": name, "subjects": outcomes}, 202, [NO_STORE])
        except HoldfastError as error:
            self.counts["turned-away"] += 1
            _log.warning("push turned away", code=error.code, why=str(error))
            if isinstance(error, Untrusted):
                return http.fault(422, error.code, str(error))
            return http.error_response(error)

    def look(self) -> None:
        """Take what siblings took; from any one thread."""
        for body in self._spool.fresh() if self._spool is not None else ():
            try:
                self._take(decode_push(body))
            except HoldfastError as error:
                _log.warning("a sibling's push turned away", code=error.code, why=str(error))

    def _let_in(self, request: Request, subject: Subject) -> None:
        if self._door.knows(subject.environment):
            self._door.admit(request.headers, "write", subject)

    def _admitted(self, bundle: bytes) -> Outcome:
        """Raises what keeps the bundle out: an unknown subject, the signature."""
        subject, revision, digest = stated(bundle)
        generation = self._held(subject)
        if generation is None:
            raise NotFound(f"there is no {subject} here")
        parts = decode_bundle(bundle)
        # The key may have been rotated when nobody was there any more to tell of it.
        roots = extend(generation.admitted.roots, parts.roots, verify)
        if not signers(
            parts.signature, STATEMENT_TYPE, roots.keys_for(subject.environment), verify
        ):
            raise Untrusted(
                "signature", f"no key that may sign for {subject.environment} signed it"
            )
        made = Outcome(str(subject), revision, digest)
        if generation.digest == digest:
            made.state = "taken"
        return made

    def _take(self, push: Push) -> tuple[str, tuple[Outcome, ...]]:
        outcomes = tuple(self._admitted(bytes(raw)) for raw in push.bundles)
        name = hashlib.sha256(push.entry.body()).hexdigest()
        new = [each for each in zip(push.bundles, outcomes, strict=True) if _waits(each[1])]
        with self._lock:
            if self._waiting + len(new) > WAITING_MAX:
                raise Unavailable("pushes wait here already: ask again in a second")
            self._waiting += len(new)
            self._known[name] = outcomes
            while len(self._known) > KEPT_MAX:
                self._known.popitem(last=False)
        for raw, outcome in new:
            environment, _, service = outcome.subject.partition("/")
            told = partial(self._told, outcome)
            self._offer(Offer(Subject(environment, service), bytes(raw), told))
        return name, outcomes

    def _told(self, outcome: Outcome, verdict: Verdict) -> None:
        match verdict:
            case Answered():
                outcome.state = "taken"
            case Refused():
                outcome.state, outcome.code, outcome.message = (
                    "refused",
                    verdict.code,
                    verdict.message,
                )
            case _:
                outcome.state, outcome.code = "refused", "other-base"
                outcome.message = "it was made on another generation than this edge has"
        with self._lock:
            self._waiting -= 1
        self.counts[outcome.state] += 1
        _log.critical(
            f"push {outcome.state}",
            subject=outcome.subject,
            revision=outcome.revision,
            digest=outcome.digest,
            why=outcome.message,
        )


def _waits(outcome: Outcome) -> bool:
    return outcome.state == "waiting"

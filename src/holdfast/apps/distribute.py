"""Handing out snapshots: the data plane's routes, alike at an edge and at a control plane.

    GET /{environment}/{service}/snapshot?have={digest}     a bundle, or a delta bundle
    GET /{environment}/{service}/segments/{digest}          a segment's table, immutable
    GET /v1/catalogue                                       what there is to follow
    GET /v1/stream                                          hints that something changed

Both sides implement `Shelf`, so that edges can follow edges. What is on the shelf is bytes, made
when a generation came: an answer here compares digests and picks.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias

import msgspec

from holdfast.apps import http
from holdfast.apps.http import Headers, Request, Response
from holdfast.apps.streams import STREAM_HEADERS, Fanout, Refusal, Stream, frame
from holdfast.core.access import ACCESS
from holdfast.core.edition import Edition
from holdfast.core.errors import HoldfastError, Untrusted
from holdfast.core.model import RESERVED_ENVIRONMENTS, Subject, Verb
from holdfast.core.snapshot import decode_freshness
from holdfast.core.wire import decode_envelope

READ: tuple[str, ...] = ("GET", "HEAD")
MONTH_S = 30 * 24 * 3600
YEAR_S = 365 * 24 * 3600
TAG_S = 30
"""How old a freshness statement a cache may call the newest, a few seconds of its own on top."""
MAX_AGE_S = 1
"""A shared cache answers by itself for so long: many clients that heard one hint ask once."""
REVALIDATE_S = 30
_SHARED = b"max-age=%d, stale-while-revalidate=%d, stale-if-error=%d" % (
    MAX_AGE_S,
    REVALIDATE_S,
    MONTH_S,
)
_PRIVATE = b"no-cache, stale-if-error=%d" % MONTH_S
_FOREVER = b"max-age=%d, immutable" % YEAR_S
FRESHNESS_HEADER = b"holdfast-freshness"
VIA_HEADER = b"holdfast-via"
REVISION_HEADER = b"holdfast-revision"

_HAVE = re.compile(rb"(?:^|&)have=([0-9a-f]{64})(?:&|$)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Shelved(msgspec.Struct, frozen=True, gc=False):
    """The newest bundle of one subject, ready to send.

    `digest` is that of the snapshot inside; `gzipped` is `body` compressed, or empty where that
    saves nothing; `freshness` is the DSSE envelope of the newest freshness statement (or empty).
    """

    subject: Subject
    revision: int
    digest: str
    body: bytes
    gzipped: bytes = b""
    freshness: bytes = b""


class Listed(msgspec.Struct, frozen=True):
    """One line of the catalogue, and the data of one change hint."""

    environment: str
    service: str
    revision: int
    digest: str

    @property
    def subject(self) -> Subject:
        return Subject(self.environment, self.service)


class Shelf(Protocol):
    """What there is to hand out. Thread-safe; nothing here waits for anything."""

    def newest(self, subject: Subject) -> Shelved | None: ...

    def delta(self, subject: Subject, have: str) -> bytes | None:
        """The delta bundle from the snapshot with digest `have` to the newest, if one is kept."""

    def segment(self, subject: Subject, digest: str) -> bytes | None:
        """The table under that digest, when the subject's newest snapshot names it."""

    def catalogue(self) -> Sequence[Listed]:
        """Every subject, `_access` ones too, in any order."""

    def subscribe(self, callback: Callable[[Listed], None]) -> None:
        """Call back, from any thread and quickly, whenever a subject has a new snapshot."""


class Door(Protocol):
    """Who may come in; both raise `Unauthenticated` and `Forbidden`."""

    def admit(self, headers: Sequence[tuple[bytes, bytes]], verb: Verb, subject: Subject) -> None:
        """Let a caller do that with a subject, or raise."""

    def sees(self, headers: Sequence[tuple[bytes, bytes]]) -> Callable[[Subject], bool]:
        """Which subjects the caller may read."""

    @property
    def public(self) -> bool:
        """Whether reads need no token: then shared HTTP caches may keep them."""


Answer: TypeAlias = Response | Stream


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The answers about one shelved bundle, made once.

    `etag` is the digest, quoted: consumers ask by it, whatever form they had. `tag` is what is
    sent. It is weak, since the snapshot whole, zipped and as a delta is one state in other bytes.
    It changes with the freshness that comes along, every `TAG_S`: a cache that only marks an old
    answer as good again would hand out the old statement for ever.
    """

    shelved: Shelved
    etag: bytes
    tag: bytes
    unchanged: Response
    whole: Response
    zipped: Response

    def made(self, answer: Response) -> bool:
        """Whether that answer is of these, or a delta to them."""
        return any(
            answer.headers is each.headers for each in (self.unchanged, self.whole, self.zipped)
        )

    def still(self, shelved: Shelved) -> bool:
        """Whether these are the answers about that one, too."""
        made = self.shelved
        return (
            made.body is shelved.body
            and made.gzipped is shelved.gzipped
            and made.freshness is shelved.freshness
        )


class Distribution:
    """The routes over a shelf. `handle` is called on the event loop (streams live there)."""

    def __init__(  # noqa: PLR0913 - what there is, who may have it, and how it is told
        self,
        shelf: Shelf,
        door: Door,
        fanout: Fanout,
        *,
        shared: bool = False,
        via: Callable[[], str] = lambda: "",
        edition: Edition | None = None,
    ) -> None:
        """`shared`: caches that many share may keep what was asked for with a token.

        `via` names the edges that what is here came through. `edition` is the shelf's, if it
        keeps one.
        """
        self.edition = edition
        self._via = via
        self._shelf = shelf
        self._shared = shared
        self._door = door
        self._fanout = fanout
        self._ready: dict[Subject, Ready] = {}
        shelf.subscribe(self._changed)

    def handle(self, request: Request) -> Answer | None:
        """The answer, or none when the path is no route of the data plane."""
        route = self._route(request.path)
        if route is None:
            return None
        if request.method not in READ:
            return http.method_not_allowed(request.method, ", ".join(READ))
        try:
            return route(request)
        except HoldfastError as error:
            return http.error_response(error)

    def _route(self, path: str) -> Callable[[Request], Answer] | None:
        match path.split("/"):
            case ["", "v1", "catalogue"]:
                return self._catalogue
            case ["", "v1", "stream"]:
                return self._stream
            case ["", environment, service, "snapshot"] if _named(environment, service):
                return partial(self._snapshot, Subject(environment, service))
            case ["", environment, service, "segments", digest] if _named(environment, service):
                return partial(self._segment, Subject(environment, service), digest)
        return None

    def _snapshot(self, subject: Subject, request: Request) -> Response:
        self._door.admit(request.headers, "read", subject)
        ready = self.ready(subject)
        if ready is None:
            return http.fault(404, "not-found", f"there is no snapshot of {subject}")
        shelved = ready.shelved
        if http.etag_matches(request.header(b"if-none-match"), ready.etag):
            return ready.unchanged
        if http.etag_matches(request.header(b"if-none-match"), ready.tag):
            return ready.unchanged
        delta = self._delta(request, shelved)
        if delta is not None:
            return Response(200, ready.whole.headers, delta)
        if shelved.gzipped and http.accepts_gzip(request.header(b"accept-encoding")):
            return ready.zipped
        return ready.whole

    def ready(self, subject: Subject) -> Ready | None:
        """The answers about what is newest of a subject: the very same ones until it changes."""
        shelved = self._shelf.newest(subject)
        if shelved is None:
            return None
        ready = self._ready.get(subject)
        if ready is None or not (ready.shelved is shelved or ready.still(shelved)):
            ready = self._ready[subject] = self._prepare(shelved)
        return ready

    def _prepare(self, shelved: Shelved) -> Ready:
        digest = shelved.digest.encode()
        etag, tag = b'"%b"' % digest, b'"%b.%x"' % (digest, _said_at(shelved.freshness))
        headers = [
            (b"etag", b"W/" + tag),
            (b"cache-control", self._cache_control(_SHARED, _PRIVATE, shelved.subject)),
            (b"vary", b"accept-encoding, authorization, x-api-key"),
            (REVISION_HEADER, b"%d" % shelved.revision),
        ]
        if shelved.freshness:
            headers.append((FRESHNESS_HEADER, base64.b64encode(shelved.freshness)))
        typed = [*headers, http.JSON_TYPE]
        return Ready(
            shelved=shelved,
            etag=etag,
            tag=tag,
            unchanged=Response(304, headers),
            whole=Response(200, typed, shelved.body),
            zipped=Response(200, [*typed, (b"content-encoding", b"gzip")], shelved.gzipped),
        )

    def _cache_control(self, shared: bytes, private: bytes, subject: Subject) -> bytes:
        # Bytes carry their own signature, so a cache that hands out old ones does no harm; one
        # that hands them to those without a token does. `Vary` keeps tokens apart in it, and yet
        # it would go on for a while with a token that was revoked: so the operator says.
        # Who may read tokens is few, and no cache is asked to tell them apart.
        if (self._shared or self._door.public) and subject.service != ACCESS:
            return b"public, " + shared
        return b"private, " + private

    def _delta(self, request: Request, shelved: Shelved) -> bytes | None:
        have = _HAVE.search(request.query) if request.query else None
        if have is None:
            return None
        delta = self._shelf.delta(shelved.subject, have[1].decode())
        return delta if delta is not None and len(delta) < len(shelved.body) else None

    def _segment(self, subject: Subject, digest: str, request: Request) -> Response:
        self._door.admit(request.headers, "read", subject)
        table = self._shelf.segment(subject, digest) if _DIGEST.fullmatch(digest) else None
        if table is None:
            return http.fault(404, "not-found", f"{subject} names no segment of that digest")
        etag = b'"%b"' % digest.encode()
        headers: Headers = [
            (b"etag", etag),
            (b"cache-control", self._cache_control(_FOREVER, _FOREVER, subject)),
            (b"vary", b"authorization, x-api-key"),
        ]
        if http.etag_matches(request.header(b"if-none-match"), etag):
            return Response(304, headers)
        return Response(200, [(b"content-type", b"application/octet-stream"), *headers], table)

    def _catalogue(self, request: Request) -> Response:
        sees = self._door.sees(request.headers)
        listed = [each for each in self._shelf.catalogue() if sees(each.subject)]
        listed.sort(key=lambda each: each.subject)
        via = self._via().encode("latin-1")
        told: Headers = [http.NO_STORE, (VIA_HEADER, via)] if via else [http.NO_STORE]
        return http.json_response({"subjects": listed}, headers=told)

    def _stream(self, request: Request) -> Answer:
        sees = self._door.sees(request.headers)
        if request.method == "HEAD":
            return Response(200, STREAM_HEADERS)
        feed = self._fanout.open(None, sees)
        if isinstance(feed, Refusal):
            return http.fault(503, feed.code, feed.message, headers=feed.headers)
        return Stream(200, STREAM_HEADERS, feed)

    def _changed(self, listed: Listed) -> None:
        self._fanout.announce(listed.subject, None, frame("change", listed))


class Watchers:
    """Callbacks of a shelf. Subscribing is done at the start, calling from any thread."""

    def __init__(self) -> None:
        self._callbacks: tuple[Callable[[Listed], None], ...] = ()

    def add(self, callback: Callable[[Listed], None]) -> None:
        self._callbacks = (*self._callbacks, callback)

    def tell(self, listed: Listed) -> None:
        for callback in self._callbacks:
            callback(listed)


def _named(environment: str, service: str) -> bool:
    return bool(environment and service) and environment not in RESERVED_ENVIRONMENTS


def listed_of(shelved: Mapping[Subject, Shelved]) -> list[Listed]:
    """The catalogue of what a shelf holds."""
    return [
        Listed(subject.environment, subject.service, each.revision, each.digest)
        for subject, each in shelved.items()
    ]


def _said_at(sealed: bytes) -> int:
    """When a freshness statement was made, in steps of `TAG_S`; 0 for none that can be read."""
    try:
        return decode_freshness(decode_envelope(sealed).body()).at_ms // (TAG_S * 1000)
    except Untrusted:
        return 0

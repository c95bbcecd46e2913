"""Heads of requests: what the parser lets pass and we do not, and those known by heart.

llhttp refuses most of what smugglers use (two lengths, a length beside chunks, folded lines, bare
LF, blanks before the colon, bad chunk sizes). `fault_of` has the rest. A head that came before,
byte for byte, is not parsed again: `Heads`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import httptools
import msgspec

from holdfast.apps.http import HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX, Headers, Request

HEAD_END: Final = b"\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINE_ENDS: Final = (b"\r", b"\n")
HEAD_SLACK_BYTES: Final = 1024
CHUNK_OVERHEAD: Final = 8
"""Bytes on the wire for each byte of a body in chunks, sizes, extensions and trailers included."""
KNOWN_MAX: Final = 2_048
"""Heads known by heart."""
KNOWN_BYTES_MAX: Final = 2_048
"""Of one of them."""
SEEN_MAX: Final = 8_192
"""Hashes of heads that came once."""


class Fault(msgspec.Struct, frozen=True):
    """Why a head is refused."""

    status: int
    code: str
    message: str


class Framing(msgspec.Struct, gc=False):
    """What a head says of its request's body, and of the connection behind it."""

    hosts: int = 0
    length: int = 0
    chunked: bool = False
    expects: bool = False


_HOST: Final = (string.ascii_letters + string.digits + "._~!$&'()*+;=:%[]-").encode()
"""What a host may be made of (RFC 3986, 3.2.2), and its port."""
TOO_LONG: Final = Fault(414, "head-too-large", "a path with its query may have 8 KiB")
TOO_LARGE: Final = Fault(431, "head-too-large", "the head of a request may have 32 KiB")
TOO_MANY: Final = Fault(431, "head-too-large", "a request may have 64 headers")


def framing_of(version: str, target: bytes, headers: Headers) -> Framing | Fault:
    """How the body behind this head is framed, or why the head is refused.

    RFC 9112: 2.2 and 3.2 (host), 6.1 (transfer codings), 6.3 (lengths). The parser has seen to it
    that there is at most one content-length, of digits only, and none beside chunks.
    """
    fault = _too_much(version, target, headers)
    framing = Framing()
    for name, value in headers:
        if name in _READ and fault is None:
            fault = _read(framing, version, name, value)
    if fault is None and framing.hosts != 1 and (framing.hosts or version == "1.1"):
        fault = _bad("a request of HTTP/1.1 has one host header")
    return fault or framing


_READ: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


def _too_much(version: str, target: bytes, headers: Headers) -> Fault | None:
    if len(target) > TARGET_BYTES_MAX:
        return TOO_LONG
    if len(headers) > HEADERS_MAX:
        return TOO_MANY
    if version not in _VERSIONS:
        return Fault(505, "bad-version", "HTTP/1.1 is spoken here, and HTTP/1.0 understood")
    return None


_VERSIONS: Final = ("1.1", "1.0")


def too_large(target: bytes, headers: Headers) -> bool:
    """Whether a head that came in more than one slice is beyond its bound."""
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    return len(target) + size > HEAD_BYTES_MAX


def unfinished_bytes_max(body_bytes_max: int) -> int:
    """How much of one request may be here that is not whole: its head and, with a body, that.

    A body in chunks has sizes, extensions and trailers around it. `framing_of` has the last word on
    a head that is whole; it leaves some blanks uncounted.
    """
    return HEAD_BYTES_MAX + HEAD_SLACK_BYTES + CHUNK_OVERHEAD * body_bytes_max


def _read(framing: Framing, version: str, name: bytes, value: bytes) -> Fault | None:
    """Take one header into account."""
    match name:
        case b"host":
            framing.hosts += 1
            if value.translate(None, _HOST):
                return _bad("host is to be the name of one host")
        case b"content-length":
            framing.length = int(value)
        case b"transfer-encoding":
            framing.chunked = True
            if value.strip().lower() != b"chunked" or version == "1.0":
                return _bad("transfer-encoding may be chunked, and nothing else")
        case b"expect":
            framing.expects = value.lower() == b"100-continue" and version == "1.1"
    return None


def _bad(message: str) -> Fault:
    return Fault(400, "bad-request", message)


def request_of(method: str, target: bytes, headers: Headers, body: bytes) -> Request | None:
    """The request as a value; none when its target can't be read."""
    if target[:1] == b"/" and b"#" not in target:
        path, _, query = target.partition(b"?")
    elif target == b"*":
        path, query = target, b""
    else:
        try:
            url = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            return None
        path, query = url.path or b"/", url.query or b""
    text = path.decode("ascii")
    return Request(method, unquote(text) if "%" in text else text, query, headers, body)


def untraced(head: bytes) -> bytes:
    """A head without its trace context (W3C), which is new with each request and read by nobody.

    Only a line of exactly that form goes, between two whole lines: what is left is a head with the
    same meaning, and one that can be refused can be refused with it or without.
    """
    return _TRACE.sub(b"", head, 1) if b"raceparent: " in head else head


_TRACE: Final = re.compile(
    rb"\r\n[Tt]raceparent: [0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?=\r\n)"
)


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """The head of the same request, as an ordinary one: nobody is switched to another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % each for each in headers if each[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


class Known:
    """A head known by heart: what the parser made of it, and what it says of the body behind it.

    `size` is that of the whole request.
    `request` is used for one at a time. `asked` and `refusals` are the gate's: what it makes of
    such a head, and what whoever sends it gets until the batch is over, in turn (none: the gate is
    to be asked). `again` counts them.
    """

    __slots__ = (
        "again", "asked", "head", "headers", "length", "method", "refusals", "request", "size",
        "target",
    )  # fmt: skip

    def __init__(self, head: bytes, request: Request, target: bytes) -> None:
        self.head = head
        self.asked: object = None
        self.refusals: Sequence[bytes] = ()
        self.again = 0
        self.length = len(request.body)
        self.size = len(head) + self.length
        self.method = request.method.encode()
        self.target = target
        self.headers = [each for each in request.headers if each[0] != b"traceparent"]
        self.request = Request(request.method, request.path, request.query, self.headers, kept=True)


class Heads:
    """The heads known by heart, of requests that keep the connection and are framed by length.

    What stands in `known` under some bytes depends on these bytes alone, so that it can't be wrong
    for the next one who sends them; whether *he* is let in is asked each time. Those that come
    once, because each names a trace of its own, say, are not kept.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Known] = {}
        self._seen: set[int] = set()
        self.cleared = 0
        """Times that too many were known."""

    def find(self, head: bytes) -> Known | None:
        """What is known of a head, whatever its trace."""
        return self.known.get(untraced(head))

    def learn(self, head: bytes, request: Request, target: bytes) -> None:
        """Keep a head that came a second time; `request` is the one that came with it.

        Not one with empty lines before it: a trace between those would look like a header.
        """
        if len(head) > KNOWN_BYTES_MAX or head[:1] in _LINE_ENDS:
            return
        head = untraced(head)
        mark = hash(head)
        if mark not in self._seen:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen.add(mark)
            return
        if len(self.known) >= KNOWN_MAX:
            self.known.clear()
            self.cleared += 1
        self.known[head] = Known(head, request, target)

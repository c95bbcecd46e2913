"""Ten thousand ways in which an edge may lie, drip, flood or break off: bytes on a connection.

Each kind makes one lie from chance; all that it needs of the truth it takes from what was really
published. None has the publisher's keys: what is signed here was signed for something else, or by
somebody else.
"""

from __future__ import annotations

import base64
import gzip
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from holdfast.core.bundle import BUNDLE_BYTES_MAX, Bundle, encode_bundle
from holdfast.core.limits import SNAPSHOT_BYTES_MAX
from holdfast.core.wire import canonical
from holdfast.gameday.truth import BEGAN_MS, MAIL, SHOP, STAGED, Truth

Parts: TypeAlias = Iterator[bytes]
_CHUNK: Final = 64 * 1024
_JUNK: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "x",
    [],
    {},
    [[]],
    {"": None},
    "0" * 64,
    2**63,
)
_ENDLESS: Final = 1 << 40
_STATUSES: Final = (
    *("0 x", "99 x", "999 x", "204 No Content", "206 Partial", "226 IM", "-1 x", "2OO OK", ""),
    *("429 Later", "500 Oops", "503 Busy", "401 Who", "403 No", "404 Where", "418 I", "600 x"),
)


class Lie(msgspec.Struct, frozen=True):
    """One answer. `costly` ones take memory or time of who reads them; `slow` ones only time."""

    kind: str
    parts: Callable[[], Parts]
    costly: bool = False
    slow: bool = False


class Told(msgspec.Struct, frozen=True):
    """What a liar knows: the truth, in which the reader has the second issue, and its own keys."""

    truth: Truth
    other: Truth


def answer(
    body: bytes, status: str = "200 OK", headers: Mapping[str, str] | None = None
) -> Callable[[], Parts]:
    """An answer like an honest one's, with this in it."""
    named = {"Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    whole = f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body
    return lambda: iter((whole,))


def make(kind: str, told: Told, chance: random.Random) -> Lie:
    """A lie of a kind."""
    parts = KINDS[kind](told, chance)
    return Lie(kind, parts, costly=kind in COSTLY, slow=kind in SLOW)


def plan(count: int, chance: random.Random) -> list[str]:
    """`count` kinds in any order: the costly and slow ones a few times, the others evenly."""
    kinds: list[str] = []
    for some, share in ((SLOW, 0.001), (COSTLY, 0.004)):
        for kind in sorted(some):
            kinds += [kind] * max(1, int(count * share))
    rest = sorted(KINDS.keys() - COSTLY - SLOW)
    kinds += [rest[n % len(rest)] for n in range(max(0, count - len(kinds)))]
    chance.shuffle(kinds)
    return kinds


# What is said: bundles ----------------------------------------------------------------------------


def _newest(told: Told) -> bytes:
    return told.truth.issues[SHOP][-1].bundle


def _unsigned(told: Told, chance: random.Random) -> Callable[[], Parts]:
    parts = msgspec.json.decode(_newest(told))
    signature = parts["signature"]
    match chance.randrange(4):
        case 0:
            signature["signatures"] = []
        case 1:
            signature["signatures"][0]["sig"] = base64.b64encode(chance.randbytes(64)).decode()
        case 2:
            signature["signatures"][0]["keyid"] = chance.randbytes(32).hex()
            signature["signatures"][0]["sig"] = ""
        case _:
            del parts["signature"]
    return answer(msgspec.json.encode(parts))


def _changed(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """Another value, under the signature of the right one."""
    parts = msgspec.json.decode(_newest(told))
    _spoil(parts["snapshot"], chance)
    return answer(msgspec.json.encode(parts))


def _wrong_types(told: Told, chance: random.Random) -> Callable[[], Parts]:
    parts = msgspec.json.decode(_newest(told))
    _spoil(parts, chance)
    return answer(msgspec.json.encode(parts))


def _spoil(document: Any, chance: random.Random) -> None:
    """Something else in one place, at any depth."""
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
            place = place[key]
            continue
        others = [one for one in _JUNK if one != place[key] or type(one) is not type(place[key])]
        place[key] = chance.choice(others)
        return


def _wrong_key(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """All of it signed, by somebody else: under its own roots, or under the true ones."""
    issue = told.other.issues[SHOP][-1]
    chain = told.truth.keys.chain if chance.random() < 0.5 else told.other.keys.chain
    return answer(encode_bundle(Bundle(chain, issue.signature, snapshot=issue.body)))


def _mixed(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """Parts of several bundles, of other issues, subjects and publishers."""
    every = [
        one for truth in (told.truth, told.other) for all_ in truth.issues.values() for one in all_
    ]
    while True:
        signed, body = chance.choice(every), chance.choice(every)
        if signed is not body:
            break
    chain = chance.choice((told.truth.keys.chain, told.other.keys.chain))
    return answer(encode_bundle(Bundle(chain, signed.signature, snapshot=body.body)))


def _older(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """Truly signed, and older than what the reader has."""
    issue = told.truth.issues[SHOP][0]
    fresh = told.truth.fresh(issue, BEGAN_MS + chance.randrange(10**9))
    headers = {"Holdfast-Freshness": base64.b64encode(fresh).decode()}
    return answer(issue.bundle, headers=headers if chance.random() < 0.5 else None)


def _swapped(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """Truly signed, for another service or environment."""
    issue = chance.choice([*told.truth.issues[MAIL], *told.truth.issues[STAGED]])
    return answer(issue.bundle)


def _bad_delta(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """A delta of something else, or one that was tampered with."""
    if chance.random() < 0.3:
        return answer(told.truth.issues[MAIL][-1].delta)
    parts = msgspec.json.decode(told.truth.issues[SHOP][-1].delta)
    _spoil(parts["delta"], chance)
    return answer(msgspec.json.encode(parts))


def _bit_flips(told: Told, chance: random.Random) -> Callable[[], Parts]:
    body = bytearray(_newest(told))
    for _ in range(chance.randint(1, 8)):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return answer(bytes(body))


def _truncated(told: Told, chance: random.Random) -> Callable[[], Parts]:
    whole = _newest(told)
    body = whole[: chance.randrange(len(whole))]
    announced = len(whole) if chance.random() < 0.5 else len(body)
    return answer(body, headers={"Content-Length": str(announced)})


def _forged_freshness(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """Nothing new, it says, and a statement that is no statement about that."""
    held = told.truth.issues[SHOP][1]
    fresh = (
        told.other.fresh(told.other.issues[SHOP][1], BEGAN_MS * 2),
        told.truth.fresh(told.truth.issues[MAIL][1], BEGAN_MS * 2),
        told.truth.fresh(held, BEGAN_MS + 1_500)[: -chance.randint(1, 200)],
        chance.randbytes(chance.randint(1, 4_000)),
    )[chance.randrange(4)]
    text = base64.b64encode(fresh).decode()
    return answer(b"", "304 Not Modified", {"Holdfast-Freshness": text, "Content-Length": "0"})


def _no_bundle(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    """JSON, HTML, rubbish and nothing, with status 200."""
    deep = chance.randint(2, 50_000)
    body = (
        b"",
        b"null",
        canonical(chance.choice(_JUNK[:-1])),
        b"<html><body>captive portal</body></html>",
        b"[" * deep + b"]" * deep,
        b'{"roots":' + b"[" * deep,
        chance.randbytes(chance.randint(1, 5_000)),
        b'{"roots":[],"signature":{"payload":"","payloadType":"","signatures":[]},"snapshot":{}}',
    )[chance.randrange(8)]
    return answer(body)


# How it is said: HTTP -----------------------------------------------------------------------------


def _redirect(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    status = chance.choice(("301 Moved", "302 Found", "303 See Other", "307 T", "308 P", "300 M"))
    where = chance.choice(
        ("/", "//", "http://127.0.0.1:1/", "file:///etc/passwd", "", "\x00", "/" * 9_000)
    )
    return answer(b"", status, {"Location": where})


def _status(told: Told, chance: random.Random) -> Callable[[], Parts]:
    status = chance.choice(_STATUSES)
    headers = {
        "Retry-After": chance.choice(("1e9", "9" * 17, "-5", "Fri, 31 Dec 9999 23:59:59 GMT"))
    }
    return answer(_newest(told)[: chance.randrange(2_000)], status, headers)


def _strange_headers(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """The older issue, in an envelope of headers that contradict each other."""
    body = told.truth.issues[SHOP][0].bundle
    size = len(body)
    headers = chance.choice(
        (
            {"Content-Length": "-1"},
            {"Content-Length": f"{size}, {size + 1}"},
            {"Content-Length": "1e3"},
            {"Content-Length": str(_ENDLESS)},
            {"Content-Length": str(size), "Transfer-Encoding": "chunked"},
            {"Transfer-Encoding": "gzip, chunked"},
            {"Content-Encoding": "br"},
            {"Content-Encoding": "gzip, gzip, gzip"},
            {"Content-Encoding": "\xff" * 100},
            {"Content-Type": "text/html", "Set-Cookie": "a=" + "b" * 4_000},
            {"Holdfast-Pace": "poll=999999999"},
            {"Holdfast-Pace": "poll=-1"},
            {"Holdfast-Freshness": "ä" * 100},
            {"Holdfast-Freshness": "A" * 60_000},
            {"Connection": "upgrade", "Upgrade": "h2c"},
        )
    )
    return answer(body, headers=headers)


def _bad_chunks(told: Told, chance: random.Random) -> Callable[[], Parts]:
    body = _newest(told)
    size = chance.choice((b"zz", b"-1", b"", b"ffffffffffffffff", b"%x" % (len(body) + 9), b"1"))
    extension = b";a=" + b"b" * chance.choice((0, 10, 60_000, 70_000))
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + extension + b"\r\n"
    return lambda: iter((whole + body + b"\r\n0\r\n\r\n",))


def _garbage(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    whole = chance.choice(
        (
            chance.randbytes(chance.randint(0, 3_000)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"220 mail ready\r\n",
            b"\r\n" * 1_000,
            b"HTTP/0.9 200 OK\r\n\r\nbody",
            b"\x00" * 5_000,
        )
    )
    return lambda: iter((whole,))


def _closed_early(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """At any byte of an honest answer."""
    (whole,) = answer(_newest(told))()
    cut = chance.randrange(len(whole)) if chance.random() < 0.5 else chance.randrange(120)
    return lambda: iter((whole[:cut],))


# Without an end -----------------------------------------------------------------------------------


def _over(first: bytes, again: bytes) -> Callable[[], Parts]:
    """`first`, and then the same again for as long as somebody reads."""

    def parts() -> Parts:
        yield first
        block = again * max(1, _CHUNK // len(again))
        while True:
            yield block

    return parts


def _endless_body(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    head = b"HTTP/1.1 200 OK\r\n"
    piece = chance.randbytes(1) * _CHUNK
    return chance.choice(
        (
            _over(head + b"\r\n", piece),
            _over(head + b"Content-Length: %d\r\n\r\n" % BUNDLE_BYTES_MAX, piece),
            _over(head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (_CHUNK, piece)),
            _over(head + b'\r\n{"roots":[],"snapshot":{"', piece),
        )
    )


def _huge_bundle(told: Told, chance: random.Random) -> Callable[[], Parts]:
    """As large as an honest one may be, or as any answer may be, and shaped like one."""
    parts = msgspec.json.decode(_newest(told))
    whole = msgspec.json.encode({**parts, "snapshot": {"x": ""}})
    room = chance.choice((SNAPSHOT_BYTES_MAX - 10, BUNDLE_BYTES_MAX - len(whole)))
    rest = room - chance.randrange(100)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(whole) + rest}\r\n\r\n".encode()

    def sent() -> Parts:
        yield head + whole[:-3]
        for _ in range(rest // _CHUNK):
            yield b"x" * _CHUNK
        yield b"x" * (rest % _CHUNK) + whole[-3:]

    return sent


def _endless_head(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    ok = b"HTTP/1.1 200 OK\r\n"
    return chance.choice(
        (
            _over(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            _over(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
            _over(ok, b"X-One: more\r\n"),
            _over(ok + b"X-Long: ", b"x" * 1_000),
            _over(ok + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 1_000),
            _over(ok + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 60_000 + b"\r\nx\r\n"),
            _over(ok + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: more\r\n"),
            _over(b"HTTP/1.1 200 ", b"O"),
        )
    )


def _bomb(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    body = chance.choice(_bombs())
    return answer(body, headers={"Content-Encoding": "gzip"})


def _bombs() -> tuple[bytes, ...]:
    if not _made:
        packer = zlib.compressobj(9, wbits=31)
        zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
        _made.extend((zeros, gzip.compress(zeros), gzip.compress(b"{}") * 20_000))
    return tuple(_made)


_made: list[bytes] = []


def _silent(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    """Nothing more comes, and the connection stays open."""
    first = chance.choice(
        (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    )
    return _dripping(first, b"")


def _drip(_told: Told, chance: random.Random) -> Callable[[], Parts]:
    ok = b"HTTP/1.1 200 OK\r\n"
    return chance.choice(
        (
            _dripping(b"", b"H"),
            _dripping(ok, b"X: y\r\n"),
            _dripping(ok + b"Content-Length: 99999\r\n\r\n", b"x"),
            _dripping(ok + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            _dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        )
    )


def _dripping(first: bytes, drop: bytes) -> Callable[[], Parts]:
    """`first`, and then a drop at a time; who sends it waits between two."""

    def parts() -> Parts:
        yield first
        while True:
            yield drop

    return parts


Kind: TypeAlias = Callable[[Told, random.Random], Callable[[], Parts]]
KINDS: Final[Mapping[str, Kind]] = {
    "unsigned": _unsigned,
    "changed": _changed,
    "wrong-types": _wrong_types,
    "wrong-key": _wrong_key,
    "mixed-parts": _mixed,
    "older": _older,
    "swapped-subject": _swapped,
    "bad-delta": _bad_delta,
    "bit-flips": _bit_flips,
    "truncated": _truncated,
    "forged-freshness": _forged_freshness,
    "no-bundle": _no_bundle,
    "redirect": _redirect,
    "status": _status,
    "strange-headers": _strange_headers,
    "bad-chunks": _bad_chunks,
    "garbage": _garbage,
    "closed-early": _closed_early,
    "endless-body": _endless_body,
    "huge-bundle": _huge_bundle,
    "endless-head": _endless_head,
    "bomb": _bomb,
    "silent": _silent,
    "drip": _drip,
}
COSTLY: Final = frozenset({"endless-body", "huge-bundle", "endless-head", "bomb"})
SLOW: Final = frozenset({"silent", "drip"})

"""A revision is the same bytes on every build: what to say when two builds make different ones.

The first digest of every snapshot is recorded, in the journal (`Entry.published`) and in a table
beside it (`ports.Digests`). A build that makes another one has departed: it must not sign and not
serve. So that a person knows where to look, an `outline` of the newest recorded body is kept too:
a short digest of every setting, segment and section, by which two bodies are told apart by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from holdfast.core.errors import Untrusted
from holdfast.core.model import Subject
from holdfast.core.wire import UNREADABLE

NOT_REPRODUCIBLE: Final = "not-reproducible"
NAMED_MAX: Final = 20
"""Settings and parts named in one departure; the rest is counted."""
_SHORT_BYTES: Final = 8
_DIGITS_MAX: Final = 16  # of limits.SAFE_INTEGER_MAX
_PER_SETTING: Final = ("settings", "schemas")


class Departure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A snapshot that this build makes otherwise than the build that published it.

    - `published`, `made`: digests; `made` is empty when this build makes no such snapshot at all.
    - `by`: the build that published it, where that is known.
    - `settings`, `parts`: keys whose definition differs, and what else does (segments, sections);
      both empty when the published body is not known in enough detail. `more` counts those left
      out beyond `NAMED_MAX`.
    """

    environment: str
    service: str
    revision: int
    published: str
    made: str = ""
    by: str = ""
    settings: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    more: int = 0

    def __str__(self) -> str:
        what = [f"setting {key}" for key in self.settings] + list(self.parts)
        if self.more:
            what.append(f"and {self.more} more")
        names = f"; what differs: {', '.join(what)}" if what else ""
        by = f" by {self.by}" if self.by else ""
        made = self.made[:16] or "nothing"
        return (
            f"{self.environment}/{self.service} at revision {self.revision} was published{by} as "
            f"{self.published[:16]}, and this build makes {made}{names}"
        )


class NotReproducible(Untrusted):
    """This build departs. `bodies` are what it made instead, by subject, as far as there are."""

    def __init__(
        self, departures: Iterable[Departure], bodies: Mapping[Subject, bytes] | None = None
    ) -> None:
        self.departures = tuple(departures)
        self.bodies = bodies or {}
        told = "; ".join(map(str, self.departures[:3]))
        more = len(self.departures) - 3
        and_more = f"; and {more} snapshots more" if more > 0 else ""
        super().__init__(
            NOT_REPRODUCIBLE,
            f"{told}{and_more}. This build signs and serves nothing: run the version of Holdfast "
            "that published it",
        )


class _Body(msgspec.Struct, rename={"evaluators": "$evaluators"}):
    evaluators: dict[str, msgspec.Raw]
    flags: dict[str, msgspec.Raw]
    holdfast: dict[str, msgspec.Raw]
    metadata: msgspec.Raw


class _Outline(msgspec.Struct, forbid_unknown_fields=True):
    settings: dict[str, str]
    parts: dict[str, str]


_body: Final = msgspec.json.Decoder(_Body)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_outline: Final = msgspec.json.Decoder(_Outline)
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def outline(body: bytes) -> bytes:
    """A short digest of each setting and each other part of a snapshot's canonical bytes.

    About 30 bytes a setting. Raises `msgspec.MsgspecError` for what is no snapshot.
    """
    found = _body.decode(body)
    members = {name: _members.decode(found.holdfast[name]) for name in _PER_SETTING}
    settings = {
        key: _short(flag, *(members[name].get(key, b"") for name in _PER_SETTING))
        for key, flag in found.flags.items()
    }
    parts = {f"segment {name}": _short(logic) for name, logic in found.evaluators.items()}
    for name, section in found.holdfast.items():
        if name not in _PER_SETTING:
            parts[f"holdfast.{name}"] = _short(section)
    parts["metadata"] = _short(found.metadata)
    return _encode(_Outline(settings, parts))


def named(departure: Departure, published: bytes, body: bytes) -> Departure:
    """The departure with what differs named: `published` is the outline, `body` what was made."""
    try:
        theirs, ours = _outline.decode(published), _outline.decode(outline(body))
    except (*UNREADABLE, KeyError):
        return departure
    settings = _different(theirs.settings, ours.settings)
    parts = _different(theirs.parts, ours.parts)
    room = max(0, NAMED_MAX - len(settings))
    return msgspec.structs.replace(
        departure,
        settings=tuple(settings[:NAMED_MAX]),
        parts=tuple(parts[:room]),
        more=max(0, len(settings) - NAMED_MAX) + max(0, len(parts) - room),
    )


def record(revision: int, digest: str) -> str:
    """One value of `Entry.published`."""
    return f"{revision}:{digest}"


def recorded(value: str) -> tuple[int, str]:
    """Revision and digest of one value of `Entry.published`; (0, "") for what is none."""
    revision, _, digest = value.partition(":")
    if not (revision.isascii() and revision.isdecimal() and len(revision) <= _DIGITS_MAX):
        return 0, ""
    return int(revision), digest


def subject_of(name: str) -> Subject:
    """The subject of one key of `Entry.published`: `environment/service`."""
    environment, _, service = name.partition("/")
    return Subject(environment, service)


def _different(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    names = one.keys() | other.keys()
    return sorted(name for name in names if one.get(name) != other.get(name))


def _short(*parts: bytes | msgspec.Raw) -> str:
    covered = hashlib.blake2b(digest_size=_SHORT_BYTES)
    for part in parts:
        covered.update(memoryview(part))
        covered.update(b"\n")
    return covered.hexdigest()

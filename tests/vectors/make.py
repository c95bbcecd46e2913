"""Byte-exact vectors: journals, and what format 1 makes of them.

`python -m tests.vectors.make` writes them. Do that for a new format only: the bytes of a format
that was ever published don't change, and `tests/core/test_vectors.py` holds them to it.

    <name>/journal.jsonl                         entries, one canonical JSON a line
    <name>/<revision>.<environment>.<service>.json   snapshots, as made one after the other
    <name>/index.json                            digest and signed statement of each
    <name>/bundle.json, <name>/delta.json        of the subject in `LAST`, whole and from before
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from holdfast.adapters.signing import Keys
from holdfast.core import history
from holdfast.core.build import build
from holdfast.core.bundle import Bundle, encode_bundle
from holdfast.core.delta import make_delta
from holdfast.core.fold import fold
from holdfast.core.model import (
    Audience,
    DeleteSegment,
    DeleteSetting,
    Edit,
    Entry,
    Environment,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    PutToken,
    Rule,
    Scope,
    Segment,
    Service,
    Setting,
    Split,
    Subject,
    Targeting,
    Token,
)
from holdfast.core.snapshot import STATEMENT_TYPE, Previous, decode, encode, statement
from holdfast.core.state import EMPTY, State
from holdfast.core.subjects import affected
from holdfast.core.wire import canonical, decode_envelope, digest

FOLDER = Path(__file__).parent
LAST = {
    "plain": Subject("production", "teams-calling"),
    "shared": Subject("production", "shop"),
    "access": Subject("production", "_access"),
}

_PILOT = Segment(Audience(by="tenant", members=("contoso", "fabrikam", "åre", "\U0001f600")))
_TILES = Setting(
    type="integer",
    variants={"few": 9, "many": 49},
    schema={"minimum": 1, "maximum": 49},
    description="not in the snapshot",
    environments={
        "production": Targeting(
            default="few",
            rules=(
                Rule(
                    name="pilot tenants on a build that can",
                    when='tenant in segment("pilot") && semver(version) >= semver("1.5.0")',
                    logic={
                        "and": [
                            {"$ref": "pilot"},
                            {"sem_ver": [{"var": "version"}, ">=", "1.5.0"]},
                        ]
                    },
                    serve="many",
                ),
                Rule(
                    name="a tenth of users in general",
                    when='ring == "general"',
                    logic={"===": [{"var": "ring"}, "general"]},
                    split=Split({"many": 10, "few": 90}, by="user"),
                ),
                Rule(split=Split({"many": 1, "few": 99})),
            ),
        )
    },
)
_NUMBERS = Setting(
    type="object",
    variants={
        "all": {
            "": [0.0, -0.0, 1.0, 1e-6, 1.5e-5, 1e-7, 1e21, 123456.789, 9007199254740991],
            "é\u2028/\x7f": '\b\f\n\r\t"\\\x1f€\U0001f600',
            "nothing": None,
        }
    },
    environments={"production": Targeting(default="all"), "staging": Targeting(enabled=False)},
    metadata={"owner": "ann", "tier": 1},
)


def _serving(variant: str, logic: object = None, default: str | None = "off") -> Setting:
    targeting = Targeting(default=default, rules=(Rule(logic=logic, serve=variant),))
    return Setting(
        type="boolean",
        variants={"on": True, "off": False},
        environments={"production": targeting},
    )


_BIG = Audience(
    by="user",
    members_digest="1" * 64,
    member_count=1_000_000,
    table_digest="2" * 64,
    table_bytes=16_000_056,
)
_TOKEN = Token(
    name="edge of production",
    secret_sha256="3" * 64,
    scopes=(Scope(("follow",), environment="production"), Scope(("read",), "staging", "shop")),
    expires_s=1_900_000_000,
)

CHANGES: dict[str, Sequence[Sequence[Edit]]] = {
    "plain": (
        (
            PutEnvironment("production", Environment()),
            PutService("teams-calling", Service(owners=("ann@example.com",))),
            PutSegment("teams-calling", "pilot", _PILOT),
            PutSetting("teams-calling", "max-video-tiles", _TILES),
        ),
        (PutSetting("teams-calling", "numbers", _NUMBERS),),
        *(
            (PutSetting("teams-calling", f"switch.{at}", _serving("on", default=None)),)
            for at in range(3)
        ),
        (DeleteSetting("teams-calling", "switch.1"),),
    ),
    "shared": (
        (
            PutEnvironment("production", Environment(bucketing="v2")),
            PutSegment("common", "pilot", _PILOT),
            PutSegment("common", "big", Segment(_BIG)),
            PutSetting("common", "banner", _serving("on", {"$ref": "pilot"})),
            PutSetting("common", "theme", _serving("on", {"!": [{"$ref": "big"}]})),
            PutSetting("common", "old", _serving("on")),
        ),
        (
            PutService("shop", Service(includes=("common",))),
            PutSegment("shop", "pilot", Segment(Audience(logic={"==": [{"var": "ring"}, "r0"]}))),
            PutSetting("shop", "checkout", _serving("on", {"$ref": "pilot"})),
            PutSetting("shop", "theme", _serving("off")),
        ),
        (DeleteSetting("common", "old"), DeleteSetting("shop", "theme")),
        (PutSegment("common", "unused", _PILOT),),
        (DeleteSegment("common", "unused"), PutSetting("common", "banner", _serving("on"))),
    ),
    "access": (
        (PutEnvironment("production", Environment()), PutEnvironment("staging", Environment())),
        (PutToken("edge1", _TOKEN),),
        (PutToken("ci", Token("ci", "4" * 64, (Scope(("write",)),))),),
    ),
}


def fixed_keys(folder: Path) -> Keys:
    """Development keys that everybody knows: seeds 00…, 01…, 02…"""
    seeds = itertools.count()
    keys = Keys.init(folder, development=True, chance=lambda size: bytes([next(seeds)]) * size)
    return keys.rotate(["production"], chance=lambda size: bytes([next(seeds)]) * size)


def journal(changes: Sequence[Sequence[Edit]]) -> Iterator[Entry]:
    head = EMPTY.head
    for at, edits in enumerate(changes):
        entry = history.seal(head, 1_700_000_000_000 + at, "ann", f"change {at + 1}", edits)
        yield entry
        head = type(head)(entry.revision, entry.hash)


def snapshots(entries: Sequence[Entry]) -> Iterator[tuple[Subject, bytes]]:
    """Every subject's every snapshot, in the order of the journal and then by subject."""
    state: State = EMPTY
    previous: dict[Subject, Previous] = {}
    for entry in entries:
        before, state = state, fold(state, entry)
        for subject in sorted(affected(before, state)):
            made = build(state, subject, previous.get(subject))
            body = encode(made)
            previous[subject] = Previous(made.holdfast.revision, digest(body))
            yield subject, body


def files(name: str, entries: Sequence[Entry], keys: Keys) -> dict[str, bytes]:
    """A vector's files but for the journal: name -> bytes."""
    found: dict[str, bytes] = {}
    index = []
    last: list[bytes] = []
    for subject, body in snapshots(entries):
        revision = decode(body).holdfast.revision
        file = f"{revision}.{subject.environment}.{subject.service}.json"
        found[file] = body
        signature = keys.sign(STATEMENT_TYPE, _statement(body))
        index.append({"file": file, "digest": digest(body), "signature": msgspec.Raw(signature)})
        if subject == LAST[name]:
            last = [*last[-1:], body]
    found["index.json"] = canonical(index)
    sealed = decode_envelope(keys.sign(STATEMENT_TYPE, _statement(last[1])))
    found["bundle.json"] = encode_bundle(Bundle(keys.chain, sealed, snapshot=last[1]))
    delta = make_delta(*last)
    if delta is not None:
        found["delta.json"] = encode_bundle(Bundle(keys.chain, sealed, delta=delta))
    return found


def _statement(body: bytes) -> bytes:
    return statement(decode(body), body)


def main() -> None:
    with TemporaryDirectory() as folder:
        keys = fixed_keys(Path(folder))
    for name, changes in CHANGES.items():
        entries = list(journal(changes))
        target = FOLDER / name
        target.mkdir(exist_ok=True)
        lines = b"".join(canonical(entry) + b"\n" for entry in entries)
        (target / "journal.jsonl").write_bytes(lines)
        for file, body in files(name, entries, keys).items():
            (target / file).write_bytes(body)


if __name__ == "__main__":
    main()

"""A publisher and one consumer in this process, and inputs with something wrong in them.

A change is made of a good one by spoiling a place of its JSON; a snapshot likewise, and signed all
the same. What a spoiled input comes to is one of a few words; what it broke is told.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.core import proof, trust
from holdfast.core.access import Grant
from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.checks import examine
from holdfast.core.contracts import World
from holdfast.core.delta import make_delta
from holdfast.core.errors import HoldfastError, Invalid, Untrusted
from holdfast.core.model import (
    Audience,
    Change,
    Contract,
    Edit,
    Environment,
    Example,
    Need,
    Probe,
    PutContract,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Rule,
    Scope,
    Segment,
    Service,
    Setting,
    Split,
    Subject,
    Targeting,
)
from holdfast.core.snapshot import STATEMENT_TYPE, Statement
from holdfast.core.trust import EVERY_CHECK, NO_CHECKS, Generation
from holdfast.core.wire import canonical, decode_envelope, digest
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View

SHOP: Final = Subject("production", "shop")
NOW_S: Final = 1_790_000_000.0
DEEP: Final = 120
TYPES: Final[dict[str, Any]] = {
    "boolean": bool,
    "string": str,
    "integer": int,
    "number": (int, float),
    "object": (dict, list),
}
CONTEXTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    *({"targetingKey": f"u{n}", "tenant": "contoso", "ring": "ring0"} for n in range(3)),
    {"targetingKey": "\udc00", "tenant": [1], "ring": {"a": None}},
)


def _nested(depth: int) -> Any:
    value: Any = {"var": "ring"}
    for _ in range(depth):
        value = {"!": [value]}
    return value


WRONG: Final[tuple[Any, ...]] = (
    None, "", " ", "\0", "a" * 5_000, "../x", "~", "$ref", "\udc00", -1, 0, 2**53, 2**80, 1e308,
    0.1, True, False, [], {}, [[]], {"": None}, [None] * 50, {"if": [{"var": ""}]},
    {"$ref": "nowhere"}, {"fractional": [["a", -1]]}, {"in_segment": [{"var": "x"}, "nowhere"]},
    _nested(DEEP), ["x" * 1_000] * 1_000, {"pattern": "(a+)+$", "type": "string"},
)  # fmt: skip


class Harm(Exception):
    """Something wrong got in and did damage; the text says what."""


class Place:
    """A node that publishes, whatever its checks say when they are off, and one consumer of it.

    `slowest_s` is the longest that one evaluation took.
    """

    def __init__(self, keys: Keys, *, checked: bool, protected: bool) -> None:
        self.keys = keys
        self._protected = protected
        self.slowest_s = 0.0
        journal, blobs = MemoryJournal(), MemoryBlobs()
        self.view = View(journal, lambda: NOW_S)
        self.shelf = Shelf(self.view, blobs, keys.sign, make_delta)
        known = World(tables=lambda _: None, now_s=lambda: NOW_S)
        self._publisher = Publisher(
            view=self.view,
            journal=journal,
            blobs=blobs,
            clock=lambda: NOW_S,
            validate=(lambda *of: examine(*of, world=known)) if checked else (lambda *_: ()),
        )
        roots = keys.missing_from(())
        self.publish((*roots, PutEnvironment("production", Environment()), *good()))
        self.held = self.taken(None)

    def publish(self, edits: tuple[Edit, ...]) -> None:
        """Through the write door. Raises what it raises."""
        self._publisher.commit(
            Change(edits, "fuzz"), "ann", Grant("ann", "ann", (Scope(verbs=("admin",)),))
        )

    def newest(self) -> tuple[bytes, bytes]:
        """The newest snapshot: its bundle, its body."""
        found = self.shelf.newest(SHOP)
        if found is None:
            raise Harm("the snapshot is gone")
        return found.bundle, found.body

    def taken(self, active: Generation | None, bundle: bytes = b"") -> Generation:
        """What the consumer makes of the newest bundle, or of this one. Raises `Untrusted`."""
        admitted = active.admitted if active else None
        checks = EVERY_CHECK if self._protected else NO_CHECKS
        whole = bundle or self.newest()[0]
        made = trust.admit(whole, SHOP, admitted, self.keys.root, verify, checks=checks)
        candidate = trust.equip(made, {}, lambda: NOW_S)
        if self._protected:
            proof.prove(candidate, active)
        return candidate

    def signed(self, body: bytes) -> bytes:
        """A bundle of these bytes, signed by the trusted key, whatever they say."""
        revision = self.view.standing.lineages[SHOP].revision
        said = Statement(SHOP.service, SHOP.environment, revision, digest(body), len(body))
        envelope = decode_envelope(self.keys.sign(STATEMENT_TYPE, canonical(said)))
        roots = decode_bundle(self.newest()[0]).roots
        return encode_bundle(Bundle(roots, envelope, snapshot=body))

    def judge(self, made: Generation, touched: set[str], before: Generation) -> None:
        """Raise `Harm` unless every setting answers by its type, and untouched ones as before."""
        for key in list(made.evaluator.keys()):
            for context in CONTEXTS:
                began = time.perf_counter()
                outcome = made.evaluator.evaluate(key, context)
                self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
                if outcome.error_code is not None:
                    raise Harm(f"{key} fails: {outcome.error_code}")
                kind = TYPES[made.snapshot.setting(key).type]
                if outcome.value is not None and not isinstance(outcome.value, kind):
                    raise Harm(f"{key} is {outcome.value!r}")
                if key in touched or key not in before.evaluator:
                    continue
                if outcome.value != before.evaluator.evaluate(key, context).value:
                    raise Harm(f"{key} moved, and nothing names it")


def keys_in(folder: Path) -> Keys:
    """Development keys made there."""
    return Keys.init(folder, development=True)


def good() -> tuple[Edit, ...]:
    """Every kind of edit of settings, once or twice, none with anything wrong."""
    rules = (
        Rule("pilot", logic={"$ref": "pilot"}, serve="many"),
        Rule("ring", logic={"==": [{"var": "ring"}, "ring0"]}, split=Split({"few": 1, "many": 3})),
    )
    where = {"production": Targeting("few", True, rules)}
    shape = {"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"]}
    limits = {"type": "integer", "minimum": 1, "maximum": 49}
    tiles = Setting(
        "integer",
        {"few": 9, "many": 49},
        where,
        schema=limits,
        metadata={"owner": "shop"},
        expires="2030-01-01",
        probes=(Probe({"tenant": "contoso"}, 49),),
    )
    depth = Setting("object", {"few": {"depth": 1}, "many": {"depth": 2}}, where, schema=shape)
    needs = Contract({"tiles": Need("integer", {"maximum": 49})}, (Example({}, {"tiles": 9}),))
    return (
        PutService("shop", Service(owners=("shop@example.com",), attributes={"tenant": "string"})),
        PutSegment("shop", "pilot", Segment(Audience("tenant", ("contoso",)))),
        PutSetting("shop", "tiles", tiles),
        PutSetting("shop", "name", Setting("string", {"few": "a", "many": "b"}, where)),
        PutSetting("shop", "on", Setting("boolean", {"few": True, "many": False}, where)),
        PutSetting("shop", "shape", depth),
        PutContract("shop", "web", needs),
    )


def spots(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    if path:
        yield path
    for key, value in node.items() if isinstance(node, dict) else ():
        yield from spots(value, (*path, key))
    for index, value in enumerate(node) if isinstance(node, list) else ():
        yield from spots(value, (*path, index))


def spoiled(body: Any, chance: random.Random) -> Any:
    """A copy with one or two places emptied, dropped, doubled, renamed or replaced."""
    made = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 1, 2))):
        *way, last = chance.choice(list(spots(made)))
        inside = made
        for step in way:
            inside = inside[step]
        match chance.randrange(6):
            case 0:
                del inside[last]
            case 1 if isinstance(inside, dict) and isinstance(last, str):
                inside[chance.choice((last.upper(), "", "x" * 200, "a/b"))] = inside.pop(last)
            case 2 if isinstance(inside, list):
                inside.append(inside[last])
            case 3 if isinstance(inside[last], int | float):
                inside[last] += chance.choice((1, -1, 0.5, 1e9))
            case _:
                inside[last] = copy.deepcopy(chance.choice(WRONG))
        if not list(spots(made)):
            return made
    return made


def offer(place: Place, edits: tuple[Edit, ...]) -> str:
    """What the door says of spoiled edits; what it takes, the consumer takes too. Raises `Harm`."""
    head = place.view.state.head
    try:
        place.publish(edits)
    except HoldfastError as error:
        if not str(error) or (isinstance(error, Invalid) and not error.problems):
            raise Harm(f"refused without a word: {error!r}") from None
        if place.view.state.head != head:
            raise Harm("refused, and committed all the same") from None
        return "refused by the door"
    before, place.held = place.held, place.taken(place.held)
    place.judge(place.held, named(edits, place.held), before)
    return "harmless"


def force(place: Place, edits: tuple[Edit, ...]) -> str:
    """What becomes of spoiled edits that no check of the door looked at. Raises `Harm`."""
    try:
        place.publish(edits)
    except HoldfastError:
        return "nothing comes out"
    try:
        made = place.taken(place.held)
    except Untrusted:
        return "refused by the consumer"
    place.judge(made, named(edits, made), place.held)
    return "harmless"


def forge(place: Place, body: Any, touched: set[str]) -> str:
    """What becomes of a spoiled snapshot that is signed all the same. Raises `Harm`."""
    try:
        wrong = canonical(body)
    except Invalid:
        return "no bytes"
    try:
        made = place.taken(place.held, place.signed(wrong))
    except Untrusted:
        return "refused by the consumer"
    place.judge(made, touched, place.held)
    return "harmless"


def named(edits: tuple[Edit, ...], made: Generation) -> set[str]:
    """Keys whose answers these edits may move: those they name, or all by segments and includes."""
    if any(isinstance(edit, PutSegment | PutService) for edit in edits):
        return set(made.evaluator.keys())
    return {edit.key for edit in edits if isinstance(edit, PutSetting)}


def decoded(wrong: Any) -> tuple[Edit, ...] | None:
    """The edits, as the API reads them; none where it refuses to."""
    try:
        return msgspec.convert(wrong, tuple[Edit, ...])
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError):
        return None

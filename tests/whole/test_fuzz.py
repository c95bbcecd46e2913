"""10,000 changes and snapshots with something wrong in them: nothing crashes, nothing bad gets in.

- A change is made of a good one by spoiling a place of its JSON. The door refuses it with problems,
  or what it makes of it breaks nothing: consumers take it, and every setting answers by its type.
- The same changes are forced past the door's checks. What then comes out is not there (no snapshot
  can be built), refused by the consumer, or harmless by the same measure.
- A snapshot is spoiled and signed all the same. The consumer refuses it, or no answer moved.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.end_to_end.honest import Keys
from tests.whole.world import BREAKS_REQUESTS, USERS, grant

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.core import proof, trust
from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.checks import examine
from holdfast.core.contracts import World as Known
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
    PutRoot,
    PutSegment,
    PutService,
    PutSetting,
    Rule,
    Segment,
    Service,
    Setting,
    Split,
    Subject,
    Targeting,
)
from holdfast.core.snapshot import STATEMENT_TYPE, Statement
from holdfast.core.trust import Generation
from holdfast.core.wire import canonical, decode_envelope, digest
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View

SHOP = Subject("production", "shop")
ROUNDS = 20
CHANGES = 300
SNAPSHOTS = 200
TYPES: dict[str, Any] = {
    "boolean": bool,
    "string": str,
    "integer": int,
    "number": (int, float),
    "object": (dict, list),
}
CONTEXTS = (
    {},
    *({"targetingKey": user, "tenant": "contoso", "ring": "ring0"} for user in USERS[:3]),
    {"targetingKey": "\udc00", "tenant": [1], "ring": {"a": None}},
)
WRONG: tuple[Any, ...] = (
    None, "", " ", "\0", "a" * 5_000, "../x", "~", "$ref", "\udc00", -1, 0, 2**53, 2**80, 1e308,
    0.1, True, False, [], {}, [[]], {"": None}, [None] * 50, {"if": [{"var": ""}]},
    {"$ref": "nowhere"}, {"fractional": [["a", -1]]}, {"in_segment": [{"var": "x"}, "nowhere"]},
)  # fmt: skip


class Place:
    """A node that publishes, whatever its checks say when they are off, and one consumer of it."""

    def __init__(self, *, checked: bool) -> None:
        self.keys = Keys()
        journal, blobs = MemoryJournal(), MemoryBlobs()
        self.view = View(journal, lambda: 1_700_000_000.0)
        self.shelf = Shelf(self.view, blobs, self.keys.sign, make_delta)
        known = Known(tables=lambda _: None, now_s=lambda: 1_700_000_000.0)
        self.publisher = Publisher(
            view=self.view,
            journal=journal,
            blobs=blobs,
            clock=lambda: 1_700_000_000.0,
            validate=(lambda *of: examine(*of, world=known)) if checked else (lambda *_: ()),
        )
        root = PutRoot(1, self.keys.chain[0])
        self.publish((root, PutEnvironment("production", Environment()), *good()))
        self.held = self.taken(None)

    def publish(self, edits: tuple[Edit, ...]) -> None:
        self.publisher.commit(Change(edits, "fuzz"), "ann", grant("ann"))

    def taken(self, active: Generation | None, bundle: bytes = b"") -> Generation:
        """What a consumer makes of the newest bundle, or of this one. Raises `Untrusted`."""
        newest = self.shelf.newest(SHOP)
        assert newest is not None
        admitted = active.admitted if active else None
        made = trust.admit(bundle or newest.bundle, SHOP, admitted, self.keys.roots, verify)
        candidate = trust.equip(made, {}, lambda: 1_700_000_000.0)
        proof.prove(candidate, active)
        return candidate


def good() -> tuple[Edit, ...]:
    """Every kind of edit of settings, once or twice, none with anything wrong."""
    rules = (
        Rule("pilot", logic={"$ref": "pilot"}, serve="many"),
        Rule("ring", logic={"==": [{"var": "ring"}, "ring0"]}, split=Split({"few": 1, "many": 3})),
    )
    where = {"production": Targeting("few", True, rules)}
    shape = {"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"]}
    return (
        PutService("shop", Service(owners=("shop@example.com",), attributes={"tenant": "string"})),
        PutSegment("shop", "pilot", Segment(Audience("tenant", ("contoso",)))),
        PutSetting(
            "shop",
            "tiles",
            Setting(
                "integer",
                {"few": 9, "many": 49},
                where,
                schema={"type": "integer", "minimum": 1, "maximum": 49},
                metadata={"owner": "shop"},
                expires="2030-01-01",
                probes=(Probe({"tenant": "contoso"}, 49),),
            ),
        ),
        PutSetting("shop", "name", Setting("string", {"few": "a", "many": "b"}, where)),
        PutSetting("shop", "on", Setting("boolean", {"few": True, "many": False}, where)),
        PutSetting(
            "shop",
            "shape",
            Setting("object", {"few": {"depth": 1}, "many": {"depth": 2}}, where, schema=shape),
        ),
        PutContract(
            "shop",
            "web",
            Contract({"tiles": Need("integer", {"maximum": 49})}, (Example({}, {"tiles": 9}),)),
        ),
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


def break_nothing(made: Generation, touched: set[str], before: Generation) -> None:
    """Every setting answers by its type in every context; those not touched as they did."""
    for key in made.evaluator.keys():  # noqa: SIM118
        for context in CONTEXTS:
            outcome = made.evaluator.evaluate(key, context)
            assert outcome.error_code is None, (key, outcome)
            kind = TYPES[made.snapshot.setting(key).type]
            assert outcome.value is None or isinstance(outcome.value, kind), (key, outcome)
            if key not in touched and key in before.evaluator:
                assert outcome.value == before.evaluator.evaluate(key, context).value, key


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_spoiled_changes_are_refused_or_do_no_harm(seed: int) -> None:
    chance, came = random.Random(seed), Counter[str]()
    checked, forced = Place(checked=True), Place(checked=False)
    whole = msgspec.to_builtins(good())
    for _ in range(CHANGES):
        wrong = spoiled([chance.choice(whole)], chance)
        try:
            edits = msgspec.convert(wrong, tuple[Edit, ...])
        except (msgspec.ValidationError, UnicodeEncodeError):
            came["refused at the door's mat"] += 1
            continue
        came["refused" if (refused := offer(checked, edits)) else "taken"] += 1
        if refused:
            came["forced: " + force(forced, edits)] += 1
            forced = Place(checked=False)
        if chance.random() < 0.2:
            checked = Place(checked=True)
    assert came["refused"] > came["taken"] / 10
    assert came["forced: refused by the consumer"], came


def offer(place: Place, edits: tuple[Edit, ...]) -> bool:
    """Whether the door refuses them. What it takes, consumers take too, and it breaks nothing."""
    head = place.view.state.head
    refusal: HoldfastError | None = None
    try:
        place.publish(edits)
    except HoldfastError as error:
        refusal = error
    if refusal is not None:
        assert str(refusal)
        assert not isinstance(refusal, Invalid) or refusal.problems
        assert place.view.state.head == head
        return True
    held = place.held
    place.held = place.taken(held)
    break_nothing(place.held, named(edits, place.held), held)
    return False


def force(place: Place, edits: tuple[Edit, ...]) -> str:
    """What becomes of edits that no check looked at."""
    try:
        place.publish(edits)
    except HoldfastError:
        return "nothing comes out"
    try:
        made = place.taken(place.held)
    except Untrusted:
        return "refused by the consumer"
    break_nothing(made, named(edits, made), place.held)
    return "harmless"


def named(edits: tuple[Edit, ...], made: Generation) -> set[str]:
    """Keys whose answers these edits may move: those they name, or all by segments and includes."""
    if any(isinstance(edit, PutSegment | PutService) for edit in edits):
        return set(made.evaluator.keys())
    return {edit.key for edit in edits if isinstance(edit, PutSetting)}


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_spoiled_snapshots_are_refused_though_they_are_signed(seed: int) -> None:
    chance, came = random.Random(seed), Counter[str]()
    place = Place(checked=True)
    newest = place.shelf.newest(SHOP)
    assert newest is not None
    place.publish((PutSetting("shop", "more", Setting("integer", {"n": BREAKS_REQUESTS})),))
    body = msgspec.json.decode(place.shelf.newest(SHOP).body)  # type: ignore[union-attr]
    for _ in range(SNAPSHOTS):
        try:
            wrong = canonical(spoiled(body, chance))
        except Invalid:
            came["no bytes"] += 1
            continue
        try:
            made = place.taken(place.held, signed(place, wrong))
        except Untrusted as error:
            came[error.code] += 1
            continue
        came["taken"] += 1
        break_nothing(made, {"more"}, place.held)
    assert came["taken"] < SNAPSHOTS / 2, came


def signed(place: Place, body: bytes) -> bytes:
    """A bundle of these bytes, signed by a trusted key, whatever they say."""
    newest = place.shelf.newest(SHOP)
    assert newest is not None
    facts = place.view.standing.lineages[SHOP]
    said = Statement(SHOP.service, SHOP.environment, facts.revision, digest(body), len(body))
    envelope = decode_envelope(place.keys.sign(STATEMENT_TYPE, canonical(said)))
    return encode_bundle(Bundle(decode_bundle(newest.bundle).roots, envelope, snapshot=body))

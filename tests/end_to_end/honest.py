"""A real write path in memory, a random author, and consumers that look when they please."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from tests.sdk.publisher import Signer

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.core import trust
from holdfast.core.access import Grant
from holdfast.core.delta import make_delta
from holdfast.core.errors import Invalid
from holdfast.core.model import (
    JSON,
    Ahead,
    Audience,
    Change,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Environment,
    MoveRollout,
    PutEnvironment,
    PutRoot,
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
from holdfast.core.policies import Plan, Policy, Stage
from holdfast.core.rollback import rolled_back
from holdfast.core.roots import ROOT_TYPE, RootSet, encode_root_set, first, with_key, with_root
from holdfast.core.state import State
from holdfast.core.trust import Generation
from holdfast.core.validate import validate
from holdfast.core.wire import Envelope, encode_envelope
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View
from holdfast.ports import Journal

FREE_TO_DELETE = Policy(deletion_percent=100)
PLAN = Plan(
    stages=(Stage(rings=("first",)), Stage(percent=40), Stage(percent=100)), unit="targetingKey"
)
STAGED = Policy(deletion_percent=100, rollout=PLAN)
ADMIN = Grant("root", "root", (Scope(("admin",)),))
ENVIRONMENTS = ("production", "staging")
SERVICES = ("shop", "mail", "shared", "base")
INCLUDES: tuple[tuple[str, ...], ...] = (("shared",), ("shared", "base"), ("base",), ())
KEYS = ("a", "b", "c", "d")
SEGMENTS = ("pilot", "vips", "early")
TENANTS = ("contoso", "fabrikam", "ä")
CONTEXTS: tuple[Mapping[str, Any], ...] = (
    {},
    *({"targetingKey": f"u{n}", "tenant": TENANTS[n % 3], "ring": "general"} for n in range(6)),
)


class Keys:
    """Root and signing keys, and the chain of root documents that they signed."""

    def __init__(self) -> None:
        self._seeds = itertools.count(1)
        self._root, self.key = self._drawn(), self._drawn()
        self.roots: RootSet = first(self._root.public, {self.key.public: ("*",)}, development=False)
        self.chain: list[JSON] = [self._sealed(self.roots, self._root)]

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        return encode_envelope(self.key.sign(payload_type, payload))

    def rotate(self, *, revoke: bool) -> PutRoot:
        self.key = self._drawn()
        self.roots = with_key(self.roots, self.key.public, ("*",), revoke=revoke)
        return self._next(self._root)

    def rotate_root(self) -> PutRoot:
        old, self._root = self._root, self._drawn()
        self.roots = with_root(self.roots, self._root.public)
        return self._next(old, self._root)

    def _next(self, *signers: Signer) -> PutRoot:
        self.chain.append(self._sealed(self.roots, *signers))
        return PutRoot(self.roots.version, self.chain[-1])

    @staticmethod
    def _sealed(roots: RootSet, *signers: Signer) -> JSON:
        sealed = [each.sign(ROOT_TYPE, encode_root_set(roots)) for each in signers]
        marks = tuple(itertools.chain.from_iterable(each.signatures for each in sealed))
        whole: Envelope = msgspec.structs.replace(sealed[0], signatures=marks)
        return msgspec.to_builtins(whole)

    def _drawn(self) -> Signer:
        return Signer(next(self._seeds))


class Node:
    """A control-plane node without its HTTP face, over the public in-memory twins."""

    def __init__(self, keys: Keys, journal: Journal | None = None, blobs: Any = None) -> None:
        self.now_s = 1_700_000_000.0
        self.journal = journal or MemoryJournal()
        self.blobs = blobs or MemoryBlobs()
        self.view = View(self.journal, self._clock, checkpoint_entries=5)
        self.shelf = Shelf(self.view, self.blobs, keys.sign, make_delta)
        self._publisher = Publisher(
            view=self.view,
            journal=self.journal,
            blobs=self.blobs,
            clock=self._clock,
            validate=validate,
        )

    def commit(self, *edits: Edit) -> bool:
        """Whether the write door let it through."""
        self.now_s += 7
        try:
            self._publisher.commit(Change(edits, "why"), "ann", ADMIN)
        except Invalid:
            return False
        return True

    def _clock(self) -> float:
        return self.now_s


class Author:
    """Draws changes, most of which the write door lets through."""

    def __init__(self, chance: random.Random, long_list: int) -> None:
        self._chance = chance
        self._long_list = long_list

    def change(self, state: State) -> list[Edit]:
        draws: tuple[Callable[[State], list[Edit]], ...] = (
            self._setting,
            self._setting,
            self._setting,
            self._gone_setting,
            self._renamed_setting,
            self._segment,
            self._segment,
            self._segment,
            self._gone_segment,
            self._gone_segment,
            self._includes,
            self._includes,
            self._gone_service,
            self._bucketing,
            self._verdict,
            self._verdict,
            self._verdict,
            self._token,
        )
        count = self._chance.choice((1, 1, 1, 1, 2, 3))
        return [edit for _ in range(count) for edit in self._chance.choice(draws)(state)]

    def _setting(self, _: State) -> list[Edit]:
        service = self._one(SERVICES)
        return [PutSetting(service, self._key(service), self._any_setting())]

    def _gone_setting(self, _: State) -> list[Edit]:
        service = self._one(SERVICES)
        return [DeleteSetting(service, self._key(service))]

    def _renamed_setting(self, state: State) -> list[Edit]:
        """To another key, or to another service: what it was is gone, and another one is there."""
        service = self._one(SERVICES)
        kept = state.services.get(service)
        if kept is None or not kept.settings:
            return []
        key = self._one(sorted(kept.settings))
        to = PutSetting(self._one(SERVICES), self._key(service), kept.settings[key].setting)
        return [DeleteSetting(service, key), to]

    def _segment(self, _: State) -> list[Edit]:
        environments = {name: self._audience() for name in self._some(ENVIRONMENTS)}
        to = Segment(self._audience(), environments if self._one((True, False)) else {})
        return [PutSegment(self._one(SERVICES), self._one(SEGMENTS), to)]

    def _gone_segment(self, _: State) -> list[Edit]:
        return [DeleteSegment(self._one(SERVICES), self._one(SEGMENTS))]

    def _includes(self, _: State) -> list[Edit]:
        return [PutService(self._one(SERVICES), Service(includes=self._some(SERVICES)))]

    def _gone_service(self, _: State) -> list[Edit]:
        return [DeleteService(self._one(SERVICES))]

    def _bucketing(self, _: State) -> list[Edit]:
        policy = self._one((FREE_TO_DELETE, STAGED))
        ahead = Ahead(self._one(("v2", "v3")), self._some(SERVICES))
        to = Environment(
            bucketing=self._one(("v2", "v3")), policy=policy, ahead=self._one((None, ahead))
        )
        return [PutEnvironment(self._one(ENVIRONMENTS), to)]

    def _verdict(self, state: State) -> list[Edit]:
        """What the automation does with a rollout, sooner or later."""
        if not state.rollouts:
            return []
        name = self._one(sorted(state.rollouts))
        stage, last = state.rollouts[name].stage, len(PLAN.stages) - 1
        moves: dict[str, tuple[Edit, ...]] = {
            "on": (MoveRollout(name, min(stage + 1, last), "running"),),
            "hold": (MoveRollout(name, stage, "held"),),
            "end": (MoveRollout(name, last, "completed"),),
            "back": rolled_back(state, name),
        }
        return list(moves[self._one(("on", "on", "hold", "end", "end", "back"))])

    def _token(self, _: State) -> list[Edit]:
        name = self._one(("one", "two"))
        if self._one((True, False)):
            return [DeleteToken(name)]
        scopes = tuple(Scope(("read",), where) for where in self._some(("*", *ENVIRONMENTS)))
        return [PutToken(name, Token(name, self._one("abc") * 64, scopes))] if scopes else []

    def _any_setting(self) -> Setting:
        environments = {name: self._targeting() for name in self._some(ENVIRONMENTS)}
        few = self._one((9, 10))
        return Setting("integer", {"few": few, "many": 49, "none": 0}, environments)

    def _targeting(self) -> Targeting:
        rules = tuple(self._rule() for _ in range(self._chance.randrange(3)))
        return Targeting(self._one(("few", "many", None)), self._one((True, True, False)), rules)

    def _rule(self) -> Rule:
        logic = self._one(
            (
                {"$ref": self._one(SEGMENTS)},
                {"==": [{"var": "tenant"}, self._one(TENANTS)]},
                {"and": [{"$ref": self._one(SEGMENTS)}, {"==": [{"var": "ring"}, "general"]}]},
            )
        )
        if self._one((True, False)):
            return Rule(logic=logic, serve=self._one(("few", "many", "none")))
        by = self._one(("targetingKey", "tenant"))
        return Rule(logic=self._one((None, logic)), split=Split({"few": 1, "many": 2}, by))

    def _audience(self) -> Audience:
        if self._one((True, False, False)):
            return Audience(logic={"==": [{"var": "tenant"}, self._one(TENANTS)]})
        members = self._some(TENANTS)
        if self._one((True, False, False)):
            members += tuple(f"t{n}" for n in range(self._long_list + 1))
        return Audience(by="tenant", members=members)

    def _key(self, service: str) -> str:
        """Mostly one that no other service has: the write door refuses collisions."""
        return self._one((f"{service}-{self._one(KEYS)}",) * 5 + (self._one(KEYS),))

    def _one(self, values: Any) -> Any:
        return self._chance.choice(values)

    def _some(self, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self._chance.sample(values, self._chance.randrange(len(values))))


def foundation(keys: Keys) -> list[Edit]:
    """Services that include one another, each with settings that refer to its segments."""
    made: list[Edit] = [PutRoot(1, keys.chain[0])]
    made += [PutEnvironment(name, Environment(policy=FREE_TO_DELETE)) for name in ENVIRONMENTS]
    for service, includes in zip(SERVICES, INCLUDES, strict=True):
        made.append(PutService(service, Service(includes=includes)))
        for number, name in enumerate(SEGMENTS):
            made.append(PutSegment(service, name, Segment(Audience("tenant", (TENANTS[number],)))))
            rules = (Rule(logic={"$ref": name}, serve="many"),)
            where = {each: Targeting("few", True, rules) for each in ENVIRONMENTS}
            to = Setting("integer", {"few": 9, "many": 49, "none": 0}, where)
            made.append(PutSetting(service, f"{service}-{KEYS[number]}", to))
    return made


class Consumer:
    """Follows every subject, each when it pleases. `bodies` are by subject and revision."""

    def __init__(self, pinned: RootSet) -> None:
        self._pinned = pinned
        self.held: dict[Subject, Generation] = {}

    def look(self, node: Node, subject: Subject, *, delta: bool) -> None:
        """Take what the node has in. Fails when it is refused, or an answer moved unexplained."""
        published = node.shelf.newest(subject)
        old = self.held.get(subject)
        if published is None:
            return
        changed = node.shelf.delta(subject, old.digest) if old and delta else None
        active = old.admitted if old else None
        made = trust.admit(changed or published.bundle, subject, active, self._pinned, verify)
        assert (made.body, made.bundle) == (published.body, published.bundle)
        tables = {digest: node.shelf.segment(subject, digest) or b"" for digest in published.tables}
        new = trust.equip(made, tables, lambda: node.now_s)
        said = trust.vouch(node.shelf.freshness(subject), made, None, verify)
        assert said is not None
        if old is not None:
            check_explained(old, new)
        self._pinned = made.roots
        self.held[subject] = new


def check_explained(old: Generation, new: Generation) -> None:
    """Nobody is answered otherwise unless the setting's revision says that it was touched."""
    assert new.revision >= old.revision
    for key in set(old.evaluator.keys()) & set(new.evaluator.keys()):
        if new.snapshot.setting(key).revision > old.revision:
            continue
        for context in CONTEXTS:
            assert answer(old, key, context) == answer(new, key, context), (key, context)


def answer(generation: Generation, key: str, context: Mapping[str, Any]) -> tuple[Any, ...]:
    said = generation.evaluator.evaluate(key, context)
    return said.value, said.variant, said.reason, said.error_code

"""Random journals with rollouts, through the write door's own checks, and what they must answer.

The oracle is a build without any rollout: of the state as it is for whoever is exposed, and of the
state with what the change found put back for whoever is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from tests.core import histories
from tests.sdk.publisher import Signer

from holdfast.adapters.ed25519 import verify
from holdfast.core import trust
from holdfast.core.build import Fragments, build
from holdfast.core.bundle import Bundle, encode_bundle
from holdfast.core.covered import overlay, rollouts_in
from holdfast.core.errors import Invalid
from holdfast.core.evaluate import Evaluator
from holdfast.core.exposure import PREFIX
from holdfast.core.fold import after
from holdfast.core.history import seal
from holdfast.core.lineage import Standing, Step, rebuild, step
from holdfast.core.model import (
    Edit,
    Entry,
    Environment,
    MoveRollout,
    PutEnvironment,
    PutSetting,
    Setting,
    Subject,
)
from holdfast.core.policies import Gates, Plan, Policy, Shape, Stage
from holdfast.core.rollout import rolled_back, staged
from holdfast.core.roots import ROOT_TYPE, RootSet, encode_root_set, first
from holdfast.core.snapshot import STATEMENT_TYPE, Snapshot, decode, statement
from holdfast.core.state import RolloutState, State
from holdfast.core.subjects import known_services, subject_revision, subjects
from holdfast.core.validate import validate

Context = Mapping[str, Any]

PLAN = Plan(
    stages=(
        Stage(name="first", rings=("general",)),
        Stage(name="some", percent=30),
        Stage(name="most", rings=("ä",), percent=70),
        Stage(name="all", percent=100),
    ),
    unit="user",
    gates=Gates(),
)
FAST = Plan(stages=(Stage(name="half", percent=50), Stage(name="all", percent=100)))
ANY_SHAPE = Shape(lost_percent=100, retyped_percent=100, growth_percent=1e6, settings_min=1_000)
POLICY = Policy(rollout=PLAN, fast=FAST, shape=ANY_SHAPE)
BEGINNING: tuple[Edit, ...] = (
    PutEnvironment("production", Environment(policy=POLICY)),
    PutEnvironment("staging", Environment(policy=Policy(shape=ANY_SHAPE))),
    *histories.FOUNDATION[2:],
)
STAGED_EVERYWHERE: tuple[Edit, ...] = (
    *(PutEnvironment(name, Environment(policy=POLICY)) for name in histories.ENVIRONMENTS),
    *histories.FOUNDATION[2:],
)
CONTEXTS: tuple[Context, ...] = (
    {},
    {"targetingKey": "k"},
    *(
        {"targetingKey": f"k{n}", "user": f"u{n}", "tenant": tenant, "ring": ring}
        for n, (tenant, ring) in enumerate(
            [("contoso", "general"), ("fabrikam", ""), ("", "ä"), ("ä", "x"), ("contoso", "x")]
        )
    ),
)
TABLES = {"b" * 64: frozenset({"contoso"}), "c" * 64: frozenset({"contoso", "fabrikam"})}
_values = st.integers(0, 3)
_logics = st.sampled_from(
    [
        {"var": "tenant"},
        {"==": [{"var": "ring"}, "general"]},
        {"if": [{"==": [{"var": "tenant"}, "contoso"]}, "few", None]},
        {"fractional": [["few", 1], ["many", 1]]},
        {"fractional": [{"var": "user"}, ["few", 1], ["none", 1]]},
        {"if": [{"$ref": "pilot"}, {"cat": ["fe", "w"]}, {"missing": ["user"]}]},
    ]
)
_targetings = st.builds(
    msgspec.structs.replace,
    histories.targetings,
    logic=_logics,
    rules=st.just(()),
)
_settings = st.builds(
    Setting,
    type=st.just("integer"),
    variants=st.fixed_dictionaries(
        {"few": _values, "many": _values, "none": _values},
        optional={"contoso": _values, "true": _values, "false": _values, "few~2": _values},
    ),
    environments=st.dictionaries(
        st.sampled_from(histories.ENVIRONMENTS), histories.targetings | _targetings, min_size=1
    ),
)
_puts = st.builds(PutSetting, histories.services, st.sampled_from(histories.KEYS), _settings)
_edits = histories.edits | _puts | _puts
steps = st.sampled_from(["on", "on", "on", "on", "hold", "complete", "back"])
actions = st.lists(
    st.one_of(
        st.lists(_edits, min_size=1, max_size=3),
        st.lists(_edits, min_size=1, max_size=3),
        steps,
    ),
    min_size=1,
    max_size=14,
)
"""Changes, and moves of the oldest rollout that runs."""


class Journal:
    """Takes what the write door lets through; every build is checked against one from scratch."""

    def __init__(self, beginning: Sequence[Edit] = BEGINNING) -> None:
        self.standing = Standing()
        self.steps: list[Step] = []
        self.edits: list[tuple[Edit, ...]] = []
        self._fragments = Fragments()
        self._sealed: Entry
        self.commit(beginning)

    @property
    def state(self) -> State:
        return self.standing.state

    def act(self, action: Sequence[Edit] | str) -> bool:
        if not isinstance(action, str):
            return self.commit(_of_content(action))
        running = next(iter(self.state.rollouts), None)
        return running is not None and self.act_on(running, action)

    def act_on(self, rollout: str, how: str) -> bool:
        """As automation does: what it moves is not staged again."""
        return self.commit(_moves(self.state, rollout, how), automation=True)

    def check(self, action: Sequence[Edit] | str) -> Step | None:
        """What a change would do: all of a commit but that it is written. None when refused."""
        if not isinstance(action, str):
            return self._prepared(_of_content(action))
        running = next(iter(self.state.rollouts), None)
        moves = _moves(self.state, running, action) if running else ()
        return self._prepared(moves, automation=True) if moves else None

    def _prepared(self, edits: Iterable[Edit], *, automation: bool = False) -> Step | None:
        edits = tuple(edits)
        if not automation:
            edits = staged(self.state, edits, after(self.state, edits))
        if validate(self.state, edits):
            return None
        at_ms = histories.T0_MS + self.state.head.revision
        self._sealed = seal(self.state.head, at_ms, "ann", "because", edits)
        try:
            return step(self.standing, self._sealed, self._fragments)
        except Invalid:
            return None

    def commit(self, edits: Iterable[Edit], *, automation: bool = False) -> bool:
        """Whether it was let through."""
        made = self._prepared(edits, automation=automation)
        if made is None:
            return False
        edits = self._sealed.edits
        self.standing = made.standing
        self.steps.append(made)
        self.edits.append(edits)
        for subject in made.bodies:
            assert rebuild(self.standing, subject) == made.bodies[subject], "the memo shows"
        return True


def _of_content(edits: Iterable[Edit]) -> list[Edit]:
    return [one for one in edits if not isinstance(one, PutEnvironment)]


def _moves(state: State, name: str, how: str) -> tuple[Edit, ...]:
    stage, stages = state.rollouts[name].stage, state.rollouts[name].plan.stages
    if how == "back":
        return rolled_back(state, name)
    if how == "hold":
        return (MoveRollout(name, stage, "held"),)
    if how == "complete" or stage + 1 == len(stages):
        return (MoveRollout(name, len(stages) - 1, "completed"),)
    return (MoveRollout(name, stage + 1, "running"),)


# What is answered ---------------------------------------------------------------------------------


def evaluator_of(snapshot: Snapshot) -> Evaluator:
    facts = snapshot.holdfast
    return Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        bucketing=facts.semantics.bucketing,
        segments={name: TABLES[one.digest] for name, one in facts.segments.items()},  # type: ignore[misc]
        now_s=lambda: 0.0,
    )


def exposed(snapshot: Snapshot, rollout: str, context: Context) -> bool:
    """Whether the snapshot's own condition holds."""
    name = PREFIX + rollout
    logic = msgspec.Raw(b'{"if":[{"$ref":"' + name.encode() + b'"},"in","out"]}')
    flag = {"state": "ENABLED", "variants": {"in": True, "out": False}, "targeting": logic}
    one = Evaluator(
        {"it": msgspec.json.encode(flag)}, evaluators=snapshot.evaluators, now_s=lambda: 0.0
    )
    return bool(one.evaluate("it", context).value)


def value_of(evaluator: Evaluator | None, key: str, context: Context) -> Any:
    """The value, `error` for a rule that fails, none for the caller's code default."""
    if evaluator is None or key not in evaluator:
        return None
    outcome = evaluator.evaluate(key, context)
    return "error" if outcome.error_code else outcome.value


def without_rollouts(state: State, environment: str, unexposed: Iterable[str]) -> State:
    """What stands for a context that these rollouts don't expose."""
    services: Any = state.services
    for number, name in enumerate(unexposed):
        services = overlay(
            services if number else known_services(state), state.rollouts[name].before
        )
    return msgspec.structs.replace(state, services=services, rollouts={})


def plain(state: State, subject: Subject) -> Evaluator | None:
    """The subject built from a state without rollouts; none when there is none."""
    if subject.service not in state.services:
        return None
    head = msgspec.structs.replace(state.head, revision=subject_revision(state, subject))
    return evaluator_of(build(state, subject, None, head=head))


def check_answers(state: State, subject: Subject, body: bytes) -> None:
    """Whoever is exposed is answered as after the change, everybody else as before it."""
    snapshot = decode(body)
    merged = evaluator_of(snapshot)
    running = list(rollouts_in(state, subject.environment))
    known: dict[tuple[str, ...], Evaluator | None] = {}
    for context in CONTEXTS:
        unexposed = tuple(
            name
            for name in running
            if name in snapshot.holdfast.rollouts and not exposed(snapshot, name, context)
        )
        if unexposed not in known:
            known[unexposed] = plain(
                without_rollouts(state, subject.environment, unexposed), subject
            )
        alone = known[unexposed]
        keys = {*merged.keys(), *(alone.keys() if alone else ())}
        for key in keys:
            wanted, got = value_of(alone, key, context), value_of(merged, key, context)
            assert got == wanted, (subject, key, context, unexposed)


def live(state: State) -> set[Subject]:
    return {one for one in subjects(state) if not one.service.startswith("_")}


# Consumers ----------------------------------------------------------------------------------------

_ROOT, _KEY = Signer(101), Signer(102)
ROOTS: RootSet = first(_ROOT.public, {_KEY.public: ("*",)}, development=False)
_CHAIN = (_ROOT.sign(ROOT_TYPE, encode_root_set(ROOTS)),)


def signed(body: bytes) -> bytes:
    """A bundle as a publisher hands it out."""
    signature = _KEY.sign(STATEMENT_TYPE, statement(decode(body), body))
    return encode_bundle(Bundle(_CHAIN, signature, snapshot=body))


def admitted(body: bytes, subject: Subject, active: trust.Admitted | None) -> trust.Admitted:
    """Raises `Untrusted` as a consumer would."""
    return trust.admit(signed(body), subject, active, None, verify)


def rollout_of(state: State) -> RolloutState:
    """The only one that runs."""
    (found,) = state.rollouts.values()
    return found

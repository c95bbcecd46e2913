"""Journals for tests: entries sealed in a row, and hypothesis strategies for random ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from holdfast.core import history
from holdfast.core.fold import fold
from holdfast.core.model import (
    Audience,
    Contract,
    DeleteContract,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    DeleteToken,
    Edit,
    Environment,
    Need,
    PutContract,
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
    Targeting,
    Token,
)
from holdfast.core.state import EMPTY, State

T0_MS = 1_700_000_000_000


def states(changes: Iterable[Sequence[Edit]], start: State = EMPTY) -> list[State]:
    """The state after each change, `start` first."""
    found = [start]
    for edits in changes:
        head = found[-1].head
        entry = history.seal(head, T0_MS + head.revision, "ann", "because", edits)
        found.append(fold(found[-1], entry))
    return found


def state_after(*changes: Sequence[Edit], start: State = EMPTY) -> State:
    return states(changes, start)[-1]


def serving(variant: str, logic: object = None, **more: object) -> Setting:
    """A string setting in production that serves one variant by a rule."""
    targeting = Targeting(default="off", rules=(Rule(logic=logic, serve=variant),))
    return Setting(
        type="string",
        variants={"on": "yes", "off": "no"},
        environments={"production": targeting},
        **more,  # type: ignore[arg-type]
    )


SERVICES = ("alpha", "beta", "shared")
ENVIRONMENTS = ("production", "staging")
KEYS = ("a", "b", "c")
SEGMENTS = ("pilot", "vips")
VARIANTS = {"few": 9, "many": 49, "none": 0}

attributes = st.sampled_from(["tenant", "user", "ring"])
attribute_values = st.sampled_from(["contoso", "fabrikam", "general", "", "ä"])
references = st.sampled_from([{"$ref": name} for name in SEGMENTS])
comparisons = st.builds(
    lambda by, value: {"==": [{"var": by}, value]}, attributes, attribute_values
)
conditions = st.recursive(
    comparisons | references,
    lambda inner: (
        st.builds(lambda op, a, b: {op: [a, b]}, st.sampled_from(["and", "or"]), inner, inner)
        | st.builds(lambda a: {"!": [a]}, inner)
    ),
    max_leaves=4,
)
splits = st.builds(
    Split,
    weights=st.dictionaries(st.sampled_from(list(VARIANTS)), st.integers(0, 50), min_size=1),
    by=attributes | st.just("targetingKey"),
    seed=st.sampled_from(["", "seed"]),
)
rules = st.builds(Rule, logic=st.none() | conditions, serve=st.sampled_from(list(VARIANTS))) | (
    st.builds(Rule, logic=st.none() | conditions, split=splits)
)
targetings = st.builds(
    Targeting,
    default=st.none() | st.sampled_from(list(VARIANTS)),
    enabled=st.sampled_from([True, True, True, False]),
    rules=st.lists(rules, max_size=4).map(tuple),
)
settings_made = st.builds(
    Setting,
    type=st.just("integer"),
    variants=st.just(VARIANTS),
    environments=st.dictionaries(st.sampled_from(ENVIRONMENTS), targetings),
    description=st.sampled_from(["", "text"]),
    schema=st.none() | st.just({"minimum": 0}),
    metadata=st.just({}) | st.just({"owner": "ann"}),
)
audiences = st.builds(
    Audience, by=attributes, members=st.lists(attribute_values, max_size=2).map(tuple)
) | st.builds(Audience, logic=comparisons)
big = st.builds(
    Audience,
    by=attributes,
    members_digest=st.just("a" * 64),
    member_count=st.just(20_000),
    table_digest=st.sampled_from(["b" * 64, "c" * 64]),
    table_bytes=st.just(320_040),
)
segments_made = st.builds(
    Segment,
    audience=audiences | big,
    environments=st.dictionaries(st.sampled_from(ENVIRONMENTS), audiences, max_size=1),
)
tokens_made = st.builds(
    Token,
    name=st.just("edge"),
    secret_sha256=st.just("d" * 64),
    scopes=st.lists(
        st.builds(
            Scope,
            verbs=st.just(("read",)),
            environment=st.sampled_from(["*", *ENVIRONMENTS]),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
)
contracts_made = st.builds(
    Contract,
    needs=st.dictionaries(st.sampled_from(KEYS), st.just(Need("integer")), max_size=2),
    environments=st.sampled_from([(), ENVIRONMENTS, *((name,) for name in ENVIRONMENTS)]),
)
services = st.sampled_from(SERVICES)
edits = st.one_of(
    st.builds(PutSetting, service=services, key=st.sampled_from(KEYS), to=settings_made),
    st.builds(PutSetting, service=services, key=st.sampled_from(KEYS), to=settings_made),
    st.builds(DeleteSetting, service=services, key=st.sampled_from(KEYS)),
    st.builds(PutSegment, service=services, segment=st.sampled_from(SEGMENTS), to=segments_made),
    st.builds(DeleteSegment, service=services, segment=st.sampled_from(SEGMENTS)),
    st.builds(
        PutService,
        service=services,
        to=st.builds(Service, includes=st.lists(services, unique=True, max_size=2).map(tuple)),
    ),
    st.builds(DeleteService, service=services),
    st.builds(
        PutEnvironment,
        environment=st.sampled_from(ENVIRONMENTS),
        to=st.builds(Environment, bucketing=st.sampled_from(["v2", "v3"])),
    ),
    st.builds(PutToken, token=st.sampled_from(["one", "two"]), to=tokens_made),
    st.builds(DeleteToken, token=st.sampled_from(["one", "two"])),
    st.builds(PutContract, service=services, consumer=st.just("web"), to=contracts_made),
    st.builds(DeleteContract, service=services, consumer=st.just("web")),
)
FOUNDATION: tuple[Edit, ...] = (
    *(PutEnvironment(environment=name, to=Environment()) for name in ENVIRONMENTS),
    *(PutService(service=name, to=Service()) for name in SERVICES),
    *(
        PutSegment(service=service, segment=name, to=Segment(Audience(by="tenant")))
        for service in SERVICES
        for name in SEGMENTS
    ),
)
random_changes = st.lists(st.lists(edits, min_size=1, max_size=3), min_size=1, max_size=8)
"""To follow `FOUNDATION`, so that most rules find their segments."""

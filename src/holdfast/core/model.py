"""The nouns, frozen. DESIGN.md section 2 has the words; `core.history` folds edits into a `State`.

Everything here is what an author meant, as the journal keeps it. What a consumer gets is a
`core.snapshot.Snapshot`, built from it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from holdfast.core.policies import Pace, Plan, Policy

JSON: TypeAlias = Any  # null, boolean, number, string, list or object: a parsed JSON value

SettingType: TypeAlias = Literal["boolean", "string", "integer", "number", "object"]
AttributeType: TypeAlias = Literal[
    "string", "boolean", "integer", "number", "timestamp", "list<string>", "map"
]
Bucketing: TypeAlias = Literal["v2", "v3"]
Verb: TypeAlias = Literal["read", "write", "admin", "follow"]

NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""Names of services, environments and segments."""
KEY = r"^[A-Za-z0-9_]([A-Za-z0-9_-]|\.(?!\.)){0,127}$"
"""Keys of settings: no slash, no `..`, nothing that a client would have to escape in a URL."""
RESERVED_ENVIRONMENTS = frozenset({"v1", "config"})
"""No environment is named so: URLs of environments and of the services' own routes begin alike."""
TARGETING_KEY = "targetingKey"


class Split(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Shares of an audience, sticky by one attribute.

    `weights` maps variants to integer weights. Without `by` the unit is the `targetingKey`.
    Splits of two settings are independent unless both name the same `seed`.
    """

    weights: dict[str, int]
    by: str = TARGETING_KEY
    seed: str = ""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of targeting; the first rule whose condition holds decides.

    `when` is CEL as its author wrote it; `logic` is that condition as JsonLogic with flagd's
    operators, lowered once at the write door (or written by hand), and the only form that is
    evaluated. A rule with neither always holds. Exactly one of `serve` and `split` is set.
    """

    name: str = ""
    when: str = ""
    logic: JSON = None
    serve: str = ""
    split: Split | None = None


class Targeting(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A setting's answer in one environment.

    `default` names the variant when no rule decides; none means the caller's code default.
    `logic`, raw JsonLogic for the whole targeting, excludes `rules`.
    """

    default: str | None = None
    enabled: bool = True
    rules: tuple[Rule, ...] = ()
    logic: JSON = None


class Setting(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One typed, named value. `variants` are complete: `$extends` is resolved at the write door.

    `extends` keeps, for the author's next edit, which variant was written as a merge patch over
    which other one: variant name -> `Extension`.
    """

    type: SettingType
    variants: dict[str, JSON]
    environments: dict[str, Targeting] = {}
    description: str = ""
    schema: JSON = None
    metadata: dict[str, str | int | float | bool] = {}
    expires: str = ""
    extends: dict[str, Extension] = {}
    probes: tuple[Probe, ...] = ()


class Probe(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One context and the value that must come out, as the author of a setting wrote it.

    It holds in `environments`, without any in all of the setting's.
    """

    context: dict[str, JSON]
    expected: JSON
    environments: tuple[str, ...] = ()


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant as written: the variant it extends, and its JSON merge patch (RFC 7386)."""

    base: str
    patch: JSON


class Audience(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who is in a segment: a list of values of one attribute, or a rule.

    Exactly one of `members`, `members_digest` and `logic` is set. Lists above
    `limits.INLINE_MEMBERS_MAX` live in the blob store as sorted lines of UTF-8, under their digest,
    next to the table that consumers get (`core.targeting.segments`): `table_digest`, `table_bytes`.
    """

    by: str = ""
    members: tuple[str, ...] = ()
    members_digest: str = ""
    member_count: int = 0
    table_digest: str = ""
    table_bytes: int = 0
    when: str = ""
    logic: JSON = None


class Segment(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A named, reusable audience, owned by a service; `environments` overrides it where given."""

    audience: Audience
    environments: dict[str, Audience] = {}
    description: str = ""


class Service(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A namespace of settings. `includes` pulls in the settings and segments of shared services."""

    owners: tuple[str, ...] = ()
    description: str = ""
    depends_on: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    attributes: dict[str, AttributeType] = {}


class Ahead(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Services of an environment that have another bucketing than the rest of it, for the time in
    which the environment goes over to that one, a few services after the other.
    """

    bucketing: Bucketing
    services: tuple[str, ...]


class Environment(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One tree of targeting: production, staging, … `bucketing` is flagd's hash contract."""

    bucketing: Bucketing = "v3"
    description: str = ""
    policy: Policy = Policy()
    ahead: Ahead | None = None
    pacing: Pace = Pace()

    def bucketing_of(self, service: str) -> Bucketing:
        """How the service's splits are dealt."""
        ahead = self.ahead
        return ahead.bucketing if ahead and service in ahead.services else self.bucketing


class Scope(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a token may do, where. `*` stands for every environment or every service."""

    verbs: tuple[Verb, ...]
    environment: str = "*"
    service: str = "*"


class Token(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A credential as it is kept: the SHA-256 of its secret, never the secret.

    `expires_s` is in unix seconds, 0 for never.
    """

    name: str
    secret_sha256: str
    scopes: tuple[Scope, ...]
    expires_s: int = 0


class Need(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a consumer needs of one setting: its type, and the JSON Schema of what it can read."""

    type: SettingType
    schema: JSON = None
    required: bool = True


class Example(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A context, and the exact value that the consumer counts on for some settings in it."""

    context: dict[str, JSON]
    expected: dict[str, JSON]


class Contract(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one consumer reads of a service: keys, types, ranges, and exact answers.

    `version` is the consumer's own (its build); without `environments` it holds in all of them.
    """

    needs: dict[str, Need]
    examples: tuple[Example, ...] = ()
    environments: tuple[str, ...] = ()
    version: str = ""
    owners: tuple[str, ...] = ()


RolloutStatus: TypeAlias = Literal["running", "held", "completed", "rolled-back"]
"""`held`: stays at its stage until a person moves it. The last two end a rollout."""


class PutService(msgspec.Struct, frozen=True, tag="put-service", forbid_unknown_fields=True):
    service: str
    to: Service


class DeleteService(msgspec.Struct, frozen=True, tag="delete-service", forbid_unknown_fields=True):
    service: str


class PutSetting(msgspec.Struct, frozen=True, tag="put-setting", forbid_unknown_fields=True):
    service: str
    key: str
    to: Setting


class DeleteSetting(msgspec.Struct, frozen=True, tag="delete-setting", forbid_unknown_fields=True):
    service: str
    key: str


class PutSegment(msgspec.Struct, frozen=True, tag="put-segment", forbid_unknown_fields=True):
    service: str
    segment: str
    to: Segment


class DeleteSegment(msgspec.Struct, frozen=True, tag="delete-segment", forbid_unknown_fields=True):
    service: str
    segment: str


class PutEnvironment(
    msgspec.Struct, frozen=True, tag="put-environment", forbid_unknown_fields=True
):
    environment: str
    to: Environment


class PutToken(msgspec.Struct, frozen=True, tag="put-token", forbid_unknown_fields=True):
    token: str
    to: Token


class DeleteToken(msgspec.Struct, frozen=True, tag="delete-token", forbid_unknown_fields=True):
    token: str


class PutRoot(msgspec.Struct, frozen=True, tag="put-root", forbid_unknown_fields=True):
    """The next root document, a DSSE envelope; who signs snapshots follows from it."""

    version: int
    envelope: JSON


class PutContract(msgspec.Struct, frozen=True, tag="put-contract", forbid_unknown_fields=True):
    service: str
    consumer: str
    to: Contract


class DeleteContract(
    msgspec.Struct, frozen=True, tag="delete-contract", forbid_unknown_fields=True
):
    service: str
    consumer: str


class StartRollout(msgspec.Struct, frozen=True, tag="start-rollout", forbid_unknown_fields=True):
    """Let what this very change does in `environment` go out by `plan`, from stage 0.

    The rollout's id is `<environment>.<revision of the entry>`.
    """

    environment: str
    plan: Plan


class MoveRollout(
    msgspec.Struct, frozen=True, tag="move-rollout", omit_defaults=True, forbid_unknown_fields=True
):
    """A verdict: the rollout is at this stage with this status from now on; `evidence` says why."""

    rollout: str
    stage: int
    status: RolloutStatus
    reason: str = ""
    evidence: JSON = None


class PutContexts(msgspec.Struct, frozen=True, tag="put-contexts", forbid_unknown_fields=True):
    """Contexts seen in real traffic, from which probes of this subject are made."""

    environment: str
    service: str
    contexts: tuple[dict[str, JSON], ...]


class Approve(msgspec.Struct, frozen=True, tag="approve", forbid_unknown_fields=True):
    """For the record: who approved this change, by its digest. Changes nothing."""

    digest: str
    actor: str
    at_ms: int


class BreakGlass(msgspec.Struct, frozen=True, tag="break-glass", forbid_unknown_fields=True):
    """For the record: this change skipped approval and waiting, and why. Changes nothing."""

    environment: str
    reason: str
    until_s: int


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole flagd flag definition that was handed straight to edges (`core.overrides`)."""

    flag: JSON


class PutOverride(msgspec.Struct, frozen=True, tag="put-override", forbid_unknown_fields=True):
    """Let `to` stand over one setting, as one subject's consumers see it; none lifts it."""

    environment: str
    service: str
    key: str
    to: Override | None


class TouchSubject(msgspec.Struct, frozen=True, tag="touch-subject", forbid_unknown_fields=True):
    """Every setting of the subject counts as touched by this entry: two histories met in it."""

    environment: str
    service: str


Edit: TypeAlias = (
    PutService
    | DeleteService
    | PutSetting
    | DeleteSetting
    | PutSegment
    | DeleteSegment
    | PutEnvironment
    | PutToken
    | DeleteToken
    | PutRoot
    | PutContract
    | DeleteContract
    | StartRollout
    | MoveRollout
    | PutContexts
    | Approve
    | BreakGlass
    | PutOverride
    | TouchSubject
)


class Change(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An atomic set of edits over any number of services, made on `base_revision`."""

    edits: tuple[Edit, ...]
    reason: str = ""
    base_revision: int | None = None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One committed change: record number `revision` of the journal's hash chain.

    `at_ms` is in unix milliseconds. `previous` and `hash` are lower-case hex SHA-256; `hash` covers
    the canonical bytes of all the other fields (`core.history.seal`).

    `published`: `environment/service` -> `<revision>:<digest>` of snapshots that the entries before
    this one made and that no entry names yet; left out of the bytes when empty.

    `attempt`: lower-case hex SHA-256 of the request that committed it, where its caller named that;
    whoever asks again is known by it. Left out of the bytes when empty.
    """

    revision: int
    at_ms: int
    actor: str
    reason: str
    edits: tuple[Edit, ...]
    previous: str
    hash: str
    published: dict[str, str] = {}
    attempt: str = ""


class Head(msgspec.Struct, frozen=True):
    """The journal's newest revision and its hash; revision 0 is the empty journal."""

    revision: int
    hash: str


GENESIS = Head(revision=0, hash="0" * 64)


class Subject(msgspec.Struct, frozen=True, order=True):
    """What a snapshot is of: one service in one environment."""

    environment: str
    service: str

    def __str__(self) -> str:
        return f"{self.environment}/{self.service}"

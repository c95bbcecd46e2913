"""The shapes of the control API's bodies. What the journal keeps (`core.model`) goes out as it is.

Times are unix milliseconds (`at_ms`) or seconds (`expires_s`); digests and hashes are lower-case
hex SHA-256. A request body refuses fields that it does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from holdfast.apps.http import Fault
from holdfast.core import limits
from holdfast.core.difference import Difference
from holdfast.core.errors import Problem
from holdfast.core.model import (
    JSON,
    KEY,
    NAME,
    Ahead,
    BreakGlass,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    PutEnvironment,
    PutSegment,
    PutService,
    PutSetting,
    Scope,
    Segment,
    Service,
    Setting,
    SettingType,
)
from holdfast.core.policies import Pace

PAGE_MAX = 500
"""Items on one page of a list."""
PAGE = 100
DOCUMENTS_MAX = 1_000
"""Documents of one change."""

Name: TypeAlias = Annotated[str, Meta(pattern=NAME, examples=["demo-shop"])]
Key: TypeAlias = Annotated[str, Meta(pattern=KEY, examples=["max-video-tiles"])]
Revision: TypeAlias = Annotated[int, Meta(ge=0, le=limits.SAFE_INTEGER_MAX, examples=[12])]
DIGEST = r"^[0-9a-f]{64}$"
Digest: TypeAlias = Annotated[str, Meta(pattern=DIGEST)]
Reason: TypeAlias = Annotated[
    str,
    Meta(
        max_length=limits.TEXT_CHARS_MAX,
        description="Why; it stays in the journal.",
        examples=["pilot tenants get 49 tiles"],
    ),
]

BreakGlassReason: TypeAlias = Annotated[
    str,
    Meta(
        max_length=limits.TEXT_CHARS_MAX,
        description="Skip approval, freeze and waiting, and say why; everybody is told.",
    ),
]

AuthorEdit: TypeAlias = (
    PutService
    | DeleteService
    | PutSetting
    | DeleteSetting
    | PutSegment
    | DeleteSegment
    | PutEnvironment
)
"""The edits that a change may carry. Tokens and roots have routes of their own."""


class Text(Struct, frozen=True, forbid_unknown_fields=True):
    """One authored file, YAML or JSON, as text: lines and duplicate keys survive the way."""

    file: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=limits.TEXT_CHARS_MAX,
            description="Its name, for messages; `.json` is read as JSON, everything else as YAML.",
            examples=["teams-calling.yaml"],
        ),
    ]
    text: Annotated[str, Meta(max_length=limits.DOCUMENT_BYTES_MAX)]


class ChangeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A change: documents, edits, or both (documents first).

    Without `base_revision` the change is checked against the newest revision. With it, it is
    refused (409) when anything was committed since.
    """

    documents: Annotated[tuple[Text, ...], Meta(max_length=DOCUMENTS_MAX)] = ()
    edits: Annotated[tuple[AuthorEdit, ...], Meta(max_length=limits.EDITS_MAX)] = ()
    reason: Reason = ""
    base_revision: Revision | None = None
    prune: Annotated[
        bool,
        Meta(description="Also delete services that no document speaks of."),
    ] = False
    break_glass: BreakGlassReason = ""


class SubjectBody(Struct, frozen=True):
    """A service in an environment, and the revision that its newest snapshot has."""

    environment: str
    service: str
    revision: int


class Checked(Struct, frozen=True):
    """What a change would do. `ok` is false when a problem is an error: it can't be committed.

    `digest` is that of the change's canonical bytes; an approval is bound to it. `approvals_needed`
    is what the environments' policies ask for.
    """

    ok: bool
    problems: tuple[Problem, ...]
    differences: tuple[Difference, ...]
    base_revision: int
    digest: str
    approvals_needed: int = 0


class Committed(Struct, frozen=True):
    """What was committed. A change that differs in nothing leaves the revision as it was."""

    revision: int
    hash: str
    differences: tuple[Difference, ...]
    subjects: Annotated[
        tuple[SubjectBody, ...], Meta(description="All that get a new snapshot by it.")
    ]
    problems: Annotated[tuple[Problem, ...], Meta(description="Warnings only.")] = ()
    broken: Annotated[
        tuple[BreakGlass, ...], Meta(description="Whose glass it broke, and until when.")
    ] = ()
    repeated: Annotated[
        bool,
        Meta(
            description="It stood already: the same request with the same `Idempotency-Key` made "
            "it. Warnings are told the first time only."
        ),
    ] = False


class HeadBody(Struct, frozen=True):
    """The newest revision and its hash: proof of everything before it."""

    revision: int
    hash: str


class Recorded(Struct, frozen=True):
    """One line of the journal, without its edits. `break_glass`: it skipped a policy, and why."""

    revision: int
    at_ms: int
    actor: str
    reason: str
    hash: str
    edit_count: int
    approval_count: int = 0
    break_glass: str = ""


class History(Struct, frozen=True):
    """Newest first. `before` is the next page's `before`; null at the end."""

    entries: tuple[Recorded, ...]
    before: int | None


class RecordedDetail(Struct, frozen=True):
    """One entry of the journal, and what it changed, as far as the token may see it."""

    revision: int
    at_ms: int
    actor: str
    reason: str
    previous: str
    hash: str
    edits: tuple[Edit, ...]
    hidden_edit_count: int
    differences: tuple[Difference, ...]


class Differences(Struct, frozen=True):
    from_revision: int
    to_revision: int
    differences: tuple[Difference, ...]


class RevertBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Undo one revision, leaving all that came after it."""

    revision: Annotated[int, Meta(ge=1, le=limits.SAFE_INTEGER_MAX)]
    reason: Reason = ""
    base_revision: Revision | None = None
    break_glass: BreakGlassReason = ""


class RestoreBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Bring one setting or segment, or (with neither) a whole service, back as it was.

    Without `revision`: as it last was before it was deleted.
    """

    service: Name
    key: Key | None = None
    segment: Name | None = None
    revision: Revision | None = None
    reason: Reason = ""
    base_revision: Revision | None = None
    break_glass: BreakGlassReason = ""


class ServiceLine(Struct, frozen=True):
    service: str
    owners: tuple[str, ...]
    description: str
    setting_count: int
    segment_count: int
    subjects: tuple[SubjectBody, ...]


class Services(Struct, frozen=True):
    """In the order of their names; `cursor` continues, null at the end."""

    services: tuple[ServiceLine, ...]
    cursor: str | None


class ServiceDetail(Struct, frozen=True):
    """A service as its authors wrote it."""

    service: str
    info: Service
    settings: dict[str, Setting]
    segments: dict[str, Segment]
    subjects: tuple[SubjectBody, ...]


class SettingBody(Struct, frozen=True):
    """One setting; `revisions`: per environment, the newest revision that touched it there."""

    service: str
    key: str
    setting: Setting
    revisions: dict[str, int]


class SettingLine(Struct, frozen=True):
    """One search hit."""

    service: str
    key: str
    type: SettingType
    description: str
    environments: tuple[str, ...]
    revision: int


class Settings(Struct, frozen=True):
    """In the order of service and key; `cursor` continues, null at the end."""

    settings: tuple[SettingLine, ...]
    cursor: str | None


class SegmentBody(Struct, frozen=True):
    service: str
    segment: str
    definition: Segment
    revisions: dict[str, int]


class SegmentLine(Struct, frozen=True):
    segment: str
    description: str
    by: str
    member_count: int
    revision: int


class Segments(Struct, frozen=True):
    segments: tuple[SegmentLine, ...]
    cursor: str | None


class EnvironmentLine(Struct, frozen=True):
    """`revision`: the one that last changed the bucketing; `ahead`: services that went over to
    another one before the rest; `pacing`: how often consumers may ask.
    """

    environment: str
    bucketing: Literal["v2", "v3"]
    description: str
    revision: int
    ahead: Ahead | None = None
    pacing: Pace = Pace()


class Environments(Struct, frozen=True):
    environments: tuple[EnvironmentLine, ...]


class EnvironmentBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`bucketing` is flagd's hash contract: changing it moves users between the arms of splits.

    `ahead` names services that go over to another one before the rest; left out, it stays as it is,
    and it goes once `bucketing` is the same. `pacing` is how often consumers may ask; left out, it
    stays as it is.
    """

    bucketing: Literal["v2", "v3"] = "v3"
    description: Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX)] = ""
    reason: Reason = ""
    ahead: Ahead | None = None
    pacing: Pace | None = None


class ExplainBody(Struct, frozen=True, forbid_unknown_fields=True):
    environment: Name
    service: Name
    key: Key
    context: Annotated[
        dict[str, Any],
        Meta(
            description="The evaluation context: `targetingKey` and attributes.",
            examples=[{"targetingKey": "user-1", "tenant": "contoso"}],
        ),
    ] = {}


class ImportBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A flagd file to take over into one environment of a service.

    `lenient` mends what flagd itself would ignore and lists it; `check` writes nothing.
    """

    service: Name
    environment: Name
    text: Annotated[str, Meta(max_length=limits.DOCUMENT_BYTES_MAX)]
    file: Annotated[str, Meta(max_length=limits.TEXT_CHARS_MAX)] = "flagd.json"
    lenient: bool = False
    check: bool = False
    reason: Reason = ""
    base_revision: Revision | None = None


class Imported(Struct, frozen=True):
    """`commit` is null when `check` was asked for; `mended` lists what `lenient` changed."""

    check: Checked
    mended: tuple[Problem, ...]
    commit: Committed | None


class TokenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to issue; it can't be given more than the token that asks for it has."""

    name: Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX, examples=["ci"])]
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=64)]
    expires_s: Annotated[
        int,
        Meta(ge=0, le=limits.SAFE_INTEGER_MAX, description="Unix seconds; 0: never."),
    ] = 0


class Issued(Struct, frozen=True):
    """`token` is shown this once; only its hash is kept."""

    id: str
    token: str
    revision: int


class TokenLine(Struct, frozen=True):
    id: str
    name: str
    scopes: tuple[Scope, ...]
    expires_s: int
    revision: int


class Tokens(Struct, frozen=True):
    tokens: tuple[TokenLine, ...]


class Revised(Struct, frozen=True):
    """The revision that a small administrative change got."""

    revision: int
    hash: str


class RootBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The next root document: a DSSE envelope, signed by a key of the one before and of its own."""

    version: Annotated[int, Meta(ge=1, le=limits.ROOTS_MAX)]
    envelope: JSON
    reason: Reason = ""


class Roots(Struct, frozen=True):
    """The chain of root documents, version 1 first."""

    roots: tuple[JSON, ...]


class Blob(Struct, frozen=True):
    digest: str
    bytes: int


class Health(Struct, frozen=True, omit_defaults=True):
    """`role` of a node that is ready: of all nodes on a store one is the leader."""

    status: str
    role: Literal["", "leader", "follower"] = ""


class ErrorBody(Struct, frozen=True):
    """Every answer that is none. `problems` says all that is wrong, and the way out."""

    error: Fault

"""Parameters that many routes share, as they are read and as they are documented."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter, SkipValidation

from holdfast.apps.control.plane import Control
from holdfast.apps.control.schemas import PAGE_MAX
from holdfast.core import limits
from holdfast.core.access import Grant

TheControl: TypeAlias = NamedDependency[SkipValidation[Control]]
Caller: TypeAlias = NamedDependency[SkipValidation[Grant]]
Attempt: TypeAlias = NamedDependency[SkipValidation[str]]
"""What a repeat of this request is known by (`control.api`); empty where it has no key."""

ServiceName: TypeAlias = Annotated[str, PathParameter(description="A service's name.")]
SettingKey: TypeAlias = Annotated[str, PathParameter(description="A setting's key.")]
SegmentName: TypeAlias = Annotated[str, PathParameter(description="A segment's name.")]
EnvironmentName: TypeAlias = Annotated[str, PathParameter(description="An environment's name.")]
RevisionNumber: TypeAlias = Annotated[
    int, PathParameter(ge=0, le=limits.SAFE_INTEGER_MAX, description="A revision of the journal.")
]
Limit: TypeAlias = Annotated[
    int, QueryParameter(ge=1, le=PAGE_MAX, description="Items on this page, at most.")
]
Cursor: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        max_length=2 * limits.NAME_CHARS_MAX,
        description="Where the page before ended: its `cursor`.",
    ),
]

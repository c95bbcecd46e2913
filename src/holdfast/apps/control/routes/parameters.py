"""Parameters that many routes share, as they are read and as they are documented."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.params import Dependency, Parameter

from holdfast.apps.control.plane import Control
from holdfast.apps.control.schemas import PAGE_MAX
from holdfast.core import limits
from holdfast.core.access import Grant

TheControl: TypeAlias = Annotated[Control, Dependency(skip_validation=True)]
Caller: TypeAlias = Annotated[Grant, Dependency(skip_validation=True)]

ServiceName: TypeAlias = Annotated[str, Parameter(description="A service's name.")]
SettingKey: TypeAlias = Annotated[str, Parameter(description="A setting's key.")]
SegmentName: TypeAlias = Annotated[str, Parameter(description="A segment's name.")]
EnvironmentName: TypeAlias = Annotated[str, Parameter(description="An environment's name.")]
RevisionNumber: TypeAlias = Annotated[
    int, Parameter(ge=0, le=limits.SAFE_INTEGER_MAX, description="A revision of the journal.")
]
Limit: TypeAlias = Annotated[
    int, Parameter(ge=1, le=PAGE_MAX, description="Items on this page, at most.")
]
Cursor: TypeAlias = Annotated[
    str | None,
    Parameter(
        max_length=2 * limits.NAME_CHARS_MAX,
        description="Where the page before ended: its `cursor`.",
    ),
]

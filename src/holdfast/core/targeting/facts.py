"""What all settings of a snapshot share, as the compiler needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast.core.model import Bucketing
from holdfast.core.targeting.segments import SegmentTable
from holdfast.core.targeting.semver import VersionMemos


class Facts:
    """What all settings of a snapshot share, as the compiler needs it."""

    __slots__ = ("bucketing", "now", "segments", "versions")

    def __init__(
        self,
        bucketing: Bucketing,
        segments: Mapping[str, SegmentTable],
        now: Callable[[], int],
    ) -> None:
        """`now` gives unix seconds."""
        self.bucketing: Bucketing = bucketing
        self.segments = segments
        self.now = now
        self.versions = VersionMemos()

"""Builds with a defect, for tests of what protects from them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.core import lineage
from holdfast.core.build import build
from holdfast.core.snapshot import Snapshot
from holdfast.core.wire import canonical


def lose_a_rule(snapshot: Snapshot, key: str = "tiles") -> Snapshot:
    """The snapshot as a builder makes it that gives `key` another default."""
    if key not in snapshot.flags:
        return snapshot
    flag = msgspec.json.decode(snapshot.flags[key])
    flag["defaultVariant"] = "many"
    flags = {**snapshot.flags, key: msgspec.Raw(canonical(flag))}
    return msgspec.structs.replace(snapshot, flags=flags)


def plant_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on every node of this process is of a build that holds the defect."""

    def built(*arguments: Any, **named: Any) -> Snapshot:
        return lose_a_rule(build(*arguments, **named))

    monkeypatch.setattr(lineage, "build", built)

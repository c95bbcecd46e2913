"""The plan of shards as a file of JSON, the same one on every edge."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from holdfast.core.cells import Plan, problems_of
from holdfast.core.errors import Invalid, Problem

FILE_BYTES_MAX: Final = 1024 * 1024
_PLAN: Final = msgspec.json.Decoder(Plan)


def read_plan(path: Path, name: str = "") -> Plan:
    """The plan in a file, for the edge `name` of it. Raises `Invalid` with all that is wrong."""
    try:
        with path.open("rb") as file:
            plan = _PLAN.decode(file.read(FILE_BYTES_MAX))
    except OSError as error:
        raise Invalid([_problem(f"{path} can't be read: {error.strerror}")]) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid([_problem(f"{path} is no plan of shards: {error}")]) from None
    if problems := problems_of(plan):
        raise Invalid([_problem(f"{path}: {problem}") for problem in problems])
    if name and name not in plan.edges:
        raise Invalid([_problem(f"{path} has no edge {name!r}: it has {', '.join(plan.edges)}")])
    return plan


def _problem(message: str) -> Problem:
    hint = '{"edges": ["edge-1", "edge-2", "edge-3"], "per_service": 2, "everywhere": []}'
    return Problem(code="shards", message=message, hint=f"write it as {hint}")

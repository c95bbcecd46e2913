"""What keeps a well-formed change from going out: compatibility, contracts, policy.

`core.validate` says whether the resulting state is sound by itself; here it is held against what
stood, against what consumers need, and against what the environment asks of changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.core.answer_check import check_answers
from holdfast.core.compatibility import check_compatibility
from holdfast.core.contracts import World, check_contracts
from holdfast.core.errors import Problem
from holdfast.core.model import Edit, MoveRollout
from holdfast.core.shape_check import check_shape
from holdfast.core.state import State
from holdfast.core.validate import validate


def examine(old: State, edits: Sequence[Edit], new: State, *, world: World) -> list[Problem]:
    """All problems of a change: `validate`, and when that finds it sound, `checks`."""
    found = validate(old, edits, new)
    if any(problem.severity == "error" for problem in found):
        return found
    return [*found, *checks(old, edits, new, world=world)]


def checks(old: State, edits: Sequence[Edit], new: State, *, world: World) -> list[Problem]:
    """All problems of a change that `core.validate` found sound.

    Nothing keeps a rollout from being taken back: what that would break is told, as warnings.
    """
    found = [
        *check_compatibility(old, new, world.history),
        *check_contracts(old, edits, new, world),
        *check_shape(old, new),
        *check_answers(old, new, world.now_s()),
    ]
    if any(isinstance(edit, MoveRollout) and edit.status == "rolled-back" for edit in edits):
        return [msgspec.structs.replace(problem, severity="warning") for problem in found]
    return found

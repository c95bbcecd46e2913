"""Is this JsonLogic that flagd's evaluators all understand? For what people and importers write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.json_check import check_json
from holdfast.core.model import JSON
from holdfast.core.pointer import near, pointer
from holdfast.core.targeting import semver
from holdfast.core.targeting.prepare import measure

# Operator -> least and most arguments, after flagd's targeting schema: no `?:` and no `log`.
_OPERATORS: Final[dict[str, tuple[int, int]]] = {
    "var": (0, 2), "missing": (0, 1_000), "missing_some": (2, 2),
    "if": (0, 2 * limits.RULES_MAX + 1),
    "==": (2, 2), "===": (2, 2), "!=": (2, 2), "!==": (2, 2), "!": (1, 1), "!!": (1, 1),
    "and": (1, 1_000_000), "or": (1, 1_000_000),
    ">": (2, 3), ">=": (2, 3), "<": (2, 3), "<=": (2, 3),
    "max": (1, 1_000), "min": (1, 1_000), "+": (1, 1_000), "-": (1, 2), "*": (1, 1_000),
    "/": (2, 2), "%": (2, 2),
    "map": (2, 2), "filter": (2, 2), "all": (2, 2), "none": (2, 2), "some": (2, 2),
    "reduce": (2, 3), "merge": (0, 1_000), "in": (2, 2), "cat": (0, 1_000), "substr": (2, 3),
    "fractional": (1, 1_000), "sem_ver": (3, 3), "starts_with": (2, 2), "ends_with": (2, 2),
    "$ref": (1, 1),
}  # fmt: skip
_VERSION_OPERATORS: Final = ("=", "!=", "<", "<=", ">", ">=", "^", "~")
_RULE_DEPTH: Final = 3
"""What lowering puts around a rule's condition: the `if`, its list, and the guard of a split."""


def check_logic(
    logic: JSON, path: str, *, whole: bool = False, segments: bool = True
) -> list[Problem]:
    """All problems of one piece of logic.

    `whole` is raw targeting, which gives a variant; otherwise it is a condition. Without `segments`
    it must not refer to any: flagd does not nest references.
    """
    if whole and not isinstance(logic, dict):
        hint = "write an object such as {if: […]}"
        return [Problem(code="logic", message="targeting is an object", path=path, hint=hint)]
    depth, nodes = measure(logic)
    depth_max = limits.LOGIC_DEPTH_MAX - (0 if whole else _RULE_DEPTH)
    if depth > depth_max:
        message = f"the logic is nested {depth} levels deep, {depth_max} are the most"
        return [Problem(code="too-deep", message=message, path=path, hint="name parts as segments")]
    if nodes > limits.LOGIC_NODES_MAX:
        message = f"the logic has {nodes} values, {limits.LOGIC_NODES_MAX} are the most"
        return [Problem(code="too-large", message=message, path=path, hint="make lists segments")]
    return [*check_json(logic, path, depth_max), *_walk(logic, path, segments)]


def references(logic: JSON) -> set[str]:
    """The names of segments that the logic refers to."""
    found: set[str] = set()
    waiting = [logic]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            name = item.get("$ref")
            if isinstance(name, str):
                found.add(name)
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return found


def _walk(logic: JSON, path: str, segments: bool) -> Iterator[Problem]:
    """Recursive: the depth was checked before."""
    if isinstance(logic, list):
        for number, item in enumerate(logic):
            yield from _walk(item, f"{path}/{number}", segments)
    if not isinstance(logic, dict):
        return
    if len(logic) != 1:
        message = f"an operation has one operator, this has {len(logic)} keys"
        hint = "write {operator: [arguments]}"
        yield Problem(code="logic", message=message, path=path, hint=hint)
        return
    ((operator, arguments),) = logic.items()
    inner = path + pointer((operator,))
    yield from _operation(operator, arguments, inner, segments)
    yield from _walk(arguments, inner, segments)


def _operation(operator: str, arguments: JSON, path: str, segments: bool) -> Iterator[Problem]:
    if operator not in _OPERATORS:
        hint = near(operator, _OPERATORS) or f"flagd knows {', '.join(_OPERATORS)}"
        message = f"flagd has no operator `{operator[:60]}`"
        yield Problem(code="operator", message=message, path=path, hint=hint)
        return
    count = len(arguments) if isinstance(arguments, list) else 1
    least, most = _OPERATORS[operator]
    if not least <= count <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        message = f"`{operator}` takes {wanted} arguments, not {count}"
        yield Problem(code="arguments", message=message, path=path)
        return
    if operator == "$ref":
        yield from _reference(arguments, path, segments)
    elif operator == "sem_ver":
        yield from _version(arguments, path)
    elif operator == "fractional":
        yield from _fractional(arguments, path)


def _reference(name: JSON, path: str, segments: bool) -> Iterator[Problem]:
    if not isinstance(name, str):
        hint = 'write {"$ref": "name"}'
        yield Problem(code="logic", message="a reference is a name", path=path, hint=hint)
    elif not segments:
        hint = "repeat the condition: flagd does not nest references"
        message = "a segment can't refer to another one"
        yield Problem(code="nested-segment", message=message, path=path, hint=hint)


def _version(arguments: list[JSON], path: str) -> Iterator[Problem]:
    first, operator, second = arguments
    if isinstance(operator, str) and operator not in _VERSION_OPERATORS:
        hint = f"write one of {' '.join(_VERSION_OPERATORS)}"
        message = f"`sem_ver` has no operator `{operator[:20]}`"
        yield Problem(code="operator", message=message, path=f"{path}/1", hint=hint)
    for number, version in ((0, first), (2, second)):
        if isinstance(version, str) and semver.parse(version) is None:
            hint = "write it as major.minor.patch"
            message = f"`{version[:40]}` is no semantic version"
            yield Problem(code="version", message=message, path=f"{path}/{number}", hint=hint)


def _fractional(arguments: JSON, path: str) -> Iterator[Problem]:
    """Weights that are written out; those that are computed show at run time."""
    arms = arguments if isinstance(arguments, list) else [arguments]
    total, known = 0, True
    for number, arm in enumerate(arms):
        if not isinstance(arm, list):
            if number:
                message, hint = "a share is [variant, weight]", "write it as a list"
                yield Problem(
                    code="fractional", message=message, path=f"{path}/{number}", hint=hint
                )
            continue
        weight = arm[1] if len(arm) == 2 else 1
        if not 1 <= len(arm) <= 2 or isinstance(weight, bool | str | float) or weight is None:
            message, hint = "a share is [variant, weight]", "the weight is a whole number"
            yield Problem(code="fractional", message=message, path=f"{path}/{number}", hint=hint)
        elif isinstance(weight, int):
            total += max(weight, 0)
        else:
            known = False
    if known and not 0 < total <= limits.WEIGHT_SUM_MAX:
        message = f"the weights sum to {total}; 1 to {limits.WEIGHT_SUM_MAX} is possible"
        yield Problem(code="fractional", message=message, path=path, hint="change the weights")

"""A value that one schema accepts and another one refuses, looked for and then checked.

Candidates come from what the two schemas name: their values, their bounds and a step beyond,
objects with and without their properties. Only what the validator confirms is handed back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from holdfast.core.json_check import check_json
from holdfast.core.model import JSON
from holdfast.core.schema_terms import (
    TYPES,
    Unclear,
    accepts,
    alternatives,
    flat,
    item_of,
    least,
    most,
    names_of,
    parts,
    prefix_length,
    property_of,
    required,
    written_out,
)

TRIED_MAX: Final = 2_000
"""Candidates that are tried."""
SAMPLES_MAX: Final = 24
"""Of one property or item."""
DEPTH_MAX: Final = 6
BRANCHES_MAX: Final = 8
LENGTH_MAX: Final = 300
_encode = msgspec.json.Encoder(order="deterministic").encode
_EXTRA: Final = "another"


def counter_example(narrow: JSON, wide: JSON, known: Iterable[JSON] = ()) -> msgspec.Raw | None:
    """The shortest value found, as JSON; none when none was found, which proves nothing.

    `known` are values that may be worth trying: those that stand.
    """
    try:
        left, right = written_out(narrow), written_out(wide)
        tried = [*known, *islice(_samples((left,), (right,), 0), TRIED_MAX)]
    except (Unclear, RecursionError):
        tried = [*known]
    found = [
        _encode(value)
        for value in tried
        if not [*check_json(value, "")] and accepts(narrow, value) and not accepts(wide, value)
    ]
    return msgspec.Raw(min(found, key=lambda text: (len(text), text))) if found else None


def _samples(left: tuple[JSON, ...], right: tuple[JSON, ...], depth: int) -> Iterator[JSON]:
    """Values that all of `left` may accept, the more telling ones for `right` among them."""
    leaves = flat(left)
    if leaves is None or depth > DEPTH_MAX:
        return
    choice = alternatives(leaves)
    if choice is not None:
        rest, branches = choice
        for branch in branches[:BRANCHES_MAX]:
            yield from _samples((*rest, branch), right, depth + 1)
        return
    for leaf in leaves:
        for keyword in ("const", "default"):
            if keyword in leaf:
                yield leaf[keyword]
        for keyword in ("enum", "examples"):
            yield from leaf.get(keyword, ())
    wanted = flat(right) or ()
    around = (*leaves, *wanted)
    for kind in _kinds(leaves):
        yield from _of_kind(kind, leaves, wanted, around, depth)


def _kinds(leaves: tuple[dict[str, JSON], ...]) -> Iterator[str]:
    named = [{one} if isinstance(one, str) else set(one) for one in parts(leaves, "type")]
    for kind in TYPES:
        if all(kind in names or (kind == "integer" and "number" in names) for names in named):
            yield kind


def _of_kind(
    kind: str,
    left: tuple[dict[str, JSON], ...],
    right: tuple[dict[str, JSON], ...],
    around: tuple[dict[str, JSON], ...],
    depth: int,
) -> Iterator[JSON]:
    if kind == "null":
        yield None
    elif kind == "boolean":
        yield from (True, False)
    elif kind in ("integer", "number"):
        yield from _numbers(around, whole=kind == "integer")
    elif kind == "string":
        yield from _texts(around)
    elif kind == "array":
        yield from _lists(left, right, depth)
    else:
        yield from _objects(left, right, depth)


def _inside(schemas: Iterable[JSON]) -> Iterator[tuple[str, JSON]]:
    """(keyword, value) of everything that the schemas say at any depth."""
    waiting = list(schemas)
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting += schema
        elif isinstance(schema, dict):
            yield from schema.items()
            waiting += schema.values()


def _numbers(around: tuple[dict[str, JSON], ...], *, whole: bool) -> Iterator[JSON]:
    steps = (0, 1, -1) if whole else (0, 1, -1, 0.5, -0.5)
    seen: set[float] = set()
    for _, value in (("", 0), *islice(_inside(around), SAMPLES_MAX * 4)):
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int | float) and not isinstance(one, bool):
                seen.update(one + step for step in steps)
                seen.add(-one)
    yield from (one for one in sorted(seen) if not whole or one == int(one))


def _texts(around: tuple[dict[str, JSON], ...]) -> Iterator[JSON]:
    yield from ("", "a")
    for keyword, value in islice(_inside(around), SAMPLES_MAX * 4):
        if keyword in ("minLength", "maxLength") and isinstance(value, int):
            yield from ("a" * size for size in (value - 1, value, value + 1) if size <= LENGTH_MAX)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield one
                yield f"{one}a"


def _few(left: tuple[JSON, ...], right: tuple[JSON, ...], depth: int) -> list[JSON]:
    """Samples of a part, each once, that the part itself accepts."""
    found: dict[bytes, JSON] = {}
    for value in islice(_samples(left, right, depth + 1), SAMPLES_MAX * 8):
        if len(found) < SAMPLES_MAX and all(accepts(one, value) for one in left):
            found.setdefault(_encode(value), value)
    refused = [value for value in found.values() if not all(accepts(w, value) for w in right)]
    return refused + [value for value in found.values() if value not in refused]


def _lists(
    left: tuple[dict[str, JSON], ...], right: tuple[dict[str, JSON], ...], depth: int
) -> Iterator[JSON]:
    yield []
    first = prefix_length(left)
    start = [next(iter(_few(item_of(left, at), (), depth)), None) for at in range(first)]
    for at, _ in enumerate(start):
        for value in _few(item_of(left, at), item_of(right, at), depth):
            yield [*start[:at], value]
    items = _few(item_of(left, first), item_of(right, first), depth)
    around = (*left, *right)
    counts = {1, 2, least(left, "minItems"), least(right, "minItems") - 1}
    counts.add(min(most(left, "maxItems"), LENGTH_MAX))
    counts.add(min(most(around, "maxItems") + 1, LENGTH_MAX))
    for value in items[:SAMPLES_MAX]:
        for count in sorted(one for one in counts if first < one <= LENGTH_MAX):
            yield [*start, *[value] * (int(count) - first)]
    yield [*start, *items]


def _objects(
    left: tuple[dict[str, JSON], ...], right: tuple[dict[str, JSON], ...], depth: int
) -> Iterator[JSON]:
    needed = required(left)
    names = dict.fromkeys((*sorted(needed), *names_of(left), *names_of(right)))
    names.update(dict.fromkeys(sorted(required(right))))
    values = {
        name: _few(property_of(left, name), property_of(right, name), depth)
        for name in (*names, _EXTRA)
    }
    base = {
        name: next((one for one in values[name] if _passes(right, name, one)), values[name][0])
        for name in names
        if name in needed and values[name]
    }
    yield base
    for name, ones in values.items():
        for value in ones:
            yield {**base, name: value}
    yield {name: ones[0] for name, ones in values.items() if ones and name != _EXTRA}
    yield {name: ones[-1] for name, ones in values.items() if ones and name != _EXTRA}


def _passes(right: tuple[dict[str, JSON], ...], name: str, value: JSON) -> bool:
    return all(accepts(one, value) for one in property_of(right, name))

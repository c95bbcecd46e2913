"""Small pieces of JsonLogic."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.core.model import JSON

_encode = msgspec.json.Encoder(order="deterministic").encode


def present(path: str) -> JSON:
    return {"!==": [{"var": path}, None]}


def negated(logic: JSON) -> JSON:
    return not logic if isinstance(logic, bool) else {"!": [logic]}


def all_of(conditions: Sequence[JSON]) -> JSON:
    return _joined("and", conditions, neutral=True)


def any_of(conditions: Sequence[JSON]) -> JSON:
    return _joined("or", conditions, neutral=False)


def _joined(operator: str, conditions: Sequence[JSON], *, neutral: bool) -> JSON:
    """Conditions under one operator, flattened, without repetitions and neutral ones.

    Told apart by their bytes: to Python `{"===": [x, 1]}` and `{"===": [x, true]}` are equal.
    """
    parts: dict[bytes, JSON] = {}
    for condition in conditions:
        if condition is (not neutral):
            return condition
        nested = condition.get(operator) if isinstance(condition, dict) else None
        for part in nested or [condition]:
            if part is not neutral:
                parts.setdefault(_encode(part), part)
    if not parts:
        return neutral
    return next(iter(parts.values())) if len(parts) == 1 else {operator: [*parts.values()]}


def remainder(dividend: JSON, divisor: int) -> JSON:
    """CEL's remainder has the dividend's sign; of positive numbers it is the same everywhere."""
    negative = {"-": [{"%": [{"-": [dividend]}, divisor]}]}
    return {"if": [{"<": [dividend, 0]}, negative, {"%": [dividend, divisor]}]}

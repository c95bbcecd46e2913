"""flagd's `$evaluators` as segments: names that segments can have, and no references in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from holdfast.core import limits
from holdfast.core.model import JSON, NAME

VALUES_MAX: Final = 10 * limits.LOGIC_NODES_MAX
"""Values that the evaluators of one file may come to when their references are written out."""


def segment_names(evaluators: Mapping[str, JSON]) -> dict[str, str]:
    """Names of evaluators as names that segments can have, each its own."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for name in evaluators:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
        new = re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:48] or "segment"
        new = name if re.fullmatch(NAME, name) else new
        plain = new
        while new in taken:
            numbers[plain] = numbers.get(plain, 1) + 1
            new = f"{plain}-{numbers[plain]}"
        taken.add(new)
        names[name] = new
    return names


def renamed(logic: JSON, names: Mapping[str, str]) -> JSON:
    """The logic with references under their new names."""
    if isinstance(logic, list):
        return [renamed(item, names) for item in logic]
    if not isinstance(logic, dict):
        return logic
    name = logic.get("$ref")
    if len(logic) == 1 and isinstance(name, str):
        return {"$ref": names.get(name, name)}
    return {key: renamed(value, names) for key, value in logic.items()}


class TooLargeError(Exception):
    """References come to more values, or deeper, than any segment may be."""


class WrittenOut:
    """References written out, those of all evaluators of a file within one bound: where each refers
    twice to the next, every one doubles it.
    """

    def __init__(self) -> None:
        self._left = VALUES_MAX

    def out(
        self, logic: JSON, evaluators: Mapping[str, JSON], open_names: tuple[str, ...], depth: int
    ) -> JSON:
        """The logic with what its references stand for in their places; circles stay references.

        Raises `TooLargeError`.
        """
        self._left -= 1
        if self._left < 0 or depth + len(open_names) > limits.WIRE_DEPTH_MAX:
            raise TooLargeError
        if isinstance(logic, list):
            return [self.out(item, evaluators, open_names, depth + 1) for item in logic]
        if not isinstance(logic, dict):
            return logic
        name = logic.get("$ref")
        if len(logic) == 1 and isinstance(name, str) and name in evaluators:
            if name in open_names:
                return logic
            return self.out(evaluators[name], evaluators, (*open_names, name), depth)
        return {
            key: self.out(value, evaluators, open_names, depth + 1) for key, value in logic.items()
        }

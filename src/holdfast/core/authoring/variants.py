"""Variants that extend one another: JSON merge patches, resolved when a file is compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from holdfast.core.authoring.tree import BROKEN
from holdfast.core.errors import Problem
from holdfast.core.model import JSON, Extension
from holdfast.core.pointer import near, pointer, short

EXTENDS: Final = "$extends"


def merge_patch(target: JSON, patch: JSON) -> JSON:
    """RFC 7386: null takes a member out, objects are patched, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


class Variants:
    """The variants of one setting as written; `values` and `extends` are what a `Setting` holds.

    Problems have paths relative to the setting.
    """

    def __init__(self, written: Mapping[str, Any]) -> None:
        self._written = written
        self.problems: list[Problem] = []
        self.values: dict[str, JSON] = {}
        self.extends: dict[str, Extension] = {}
        for name in written:
            self._extension(name)
        for name in written:
            self.values[name] = self._value(name)

    def _extension(self, name: str) -> None:
        written = self._written[name]
        if not isinstance(written, dict) or EXTENDS not in written:
            return
        base = written[EXTENDS]
        path = pointer(("variants", name, EXTENDS))
        if not isinstance(base, str) or base not in self._written:
            hint = near(str(base), self._written) or "name a variant of this setting"
            message = f"there is no variant `{short(str(base))}`"
            self._report("unknown-variant", message, path, hint)
        elif not isinstance(self._written[base], dict) and self._written[base] is not BROKEN:
            message = f"variant `{short(base)}` is no object, so nothing can extend it"
            self._report("extends", message, path, "write the value out")
        else:
            patch = {key: value for key, value in written.items() if key != EXTENDS}
            self.extends[name] = Extension(base, patch)

    def _value(self, name: str) -> JSON:
        """The base that nothing extends, patched by each variant on the way back to `name`."""
        chain = list(self._chain(name))
        written = self._written[chain[-1]]
        if isinstance(written, dict):
            value: JSON = {key: inner for key, inner in written.items() if key != EXTENDS}
        else:
            value = written
        for step in reversed(chain[:-1]):
            value = merge_patch(value, self.extends[step].patch)
        return value

    def _chain(self, name: str) -> Iterator[str]:
        seen = [name]
        yield name
        while name in self.extends:
            name = self.extends[name].base
            if name in seen:
                path = pointer(("variants", seen[0], EXTENDS))
                message = f"a circle: {' extends '.join([*seen, name])}"
                self._report("extends-cycle", message, path, "write one of them out")
                return
            seen.append(name)
            yield name

    def _report(self, code: str, message: str, path: str, hint: str) -> None:
        self.problems.append(Problem(code=code, message=message, path=path, hint=hint))

"""Differences for people: `+`, `-` and `~`, per setting and environment, with what moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from holdfast.core.difference import Difference

VALUE_CHARS_MAX = 60
MARKS = {"+": "green", "-": "red", "~": "yellow"}
EVERYWHERE = "everywhere"
_ABSENT: Any = object()


def difference_lines(differences: Sequence[Difference]) -> Iterator[str]:
    """One head line for each item, and below it what moved, by environment."""
    for difference in differences:
        mark = mark_of(difference)
        name = click.style(f"{mark} {_name(difference)}", fg=MARKS[mark], bold=True)
        where = f"  ({', '.join(difference.environments)})" if difference.environments else ""
        yield name + click.style(where, dim=True)
        moved = list(_moved(difference))
        width = max((len(environment) for environment, _ in moved), default=0)
        last = ""
        for environment, text in moved:
            shown = environment if environment != last else ""
            yield f"    {shown.ljust(width)}  {text}"
            last = environment


def mark_of(difference: Difference) -> str:
    if difference.before is None:
        return "+"
    return "-" if difference.after is None else "~"


def summary(differences: Iterable[Difference]) -> str:
    """`2 to add, 1 to change, 0 to remove`."""
    marks = [mark_of(difference) for difference in differences]
    return f"{marks.count('+')} to add, {marks.count('~')} to change, {marks.count('-')} to remove"


def _name(difference: Difference) -> str:
    if difference.kind == "setting":
        return f"{difference.service}/{difference.name}"
    if difference.kind == "segment":
        return f"{difference.service}/{difference.name} (segment)"
    if difference.kind == "override":
        return f"{difference.service}/{difference.name} (pushed over)"
    if difference.kind == "contexts":
        return f"{difference.service} (contexts in {difference.name})"
    return f"{difference.kind} {difference.name}"


def _moved(difference: Difference) -> list[tuple[str, str]]:
    """(environment, what moved there), by environment; what belongs to none comes first."""
    if difference.kind in ("override", "contexts"):
        where = difference.environments or (difference.name,)
        return [(name, difference.summary) for name in where]
    if difference.before is None or difference.after is None:
        one = difference.after if difference.before is None else difference.before
        return _standing(one) if difference.kind == "setting" else []
    found = []
    for path, before, after in _leaves(difference.before, difference.after, ()):
        environment, rest = EVERYWHERE, path
        if len(path) > 1 and path[0] == "environments":
            environment, rest = path[1], path[2:]
        found.append((environment, f"{'.'.join(rest) or 'all'}: {_text(before)} -> {_text(after)}"))
    return sorted(found, key=lambda one: (one[0] != EVERYWHERE, one[0]))


def _standing(setting: Any) -> list[tuple[str, str]]:
    """A setting that comes or goes: its type and variants, and its default per environment."""
    variants = ", ".join(f"{name} {_text(value)}" for name, value in setting["variants"].items())
    lines = [(EVERYWHERE, f"{setting['type']}: {_cut(variants)}")]
    for environment, targeting in sorted(setting.get("environments", {}).items()):
        rules = len(targeting.get("rules", ()))
        default = targeting.get("default")
        text = f"default {default}" if default is not None else "the caller's default"
        if rules:
            text += f", {rules} rule{'s' * (rules > 1)}"
        if not targeting.get("enabled", True):
            text += ", disabled"
        lines.append((environment, text))
    return lines


def _leaves(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """(path, before, after) of what differs, as deep as both are of one shape."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _leaves(before.get(key, _ABSENT), after.get(key, _ABSENT), (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (was, now) in enumerate(zip(before, after, strict=True)):
            yield from _leaves(was, now, (*path, str(index)))
    elif before is _ABSENT or after is _ABSENT or before != after or _kinds(before, after):
        yield path, before, after


def _kinds(before: Any, after: Any) -> bool:
    """Whether two values that Python finds equal differ in JSON: true is not 1."""
    return isinstance(before, bool) is not isinstance(after, bool)


def _text(value: Any) -> str:
    return "nothing" if value is _ABSENT else _cut(msgspec.json.encode(value).decode())


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"

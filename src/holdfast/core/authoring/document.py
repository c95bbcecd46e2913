"""One settings file, read: its tree, and its values as far as they have the right shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from holdfast.core.authoring.layout import DOCUMENT
from holdfast.core.authoring.shape import check
from holdfast.core.authoring.tree import BROKEN, Tree, read_tree
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import Service


@dataclass(frozen=True)
class Document:
    """The file of one service, to be compiled; `tree` knows where everything stands."""

    file: str
    service: str
    info: Service
    settings: Mapping[str, Any]
    segments: Mapping[str, Any]
    tree: Tree = field(repr=False)

    def segment_kinds(self) -> dict[str, frozenset[str]]:
        """Each segment's attributes that its lists are of, `""` where it is a rule."""
        kinds = {}
        for name, segment in self.segments.items():
            if segment is BROKEN:
                kinds[name] = frozenset[str]()
                continue
            audiences = [segment, *segment.get("environments", {}).values()]
            kinds[name] = frozenset(a.get("by", "") for a in audiences if a is not BROKEN)
        return kinds


class Parsed(msgspec.Struct, frozen=True):
    """`document` is there whenever the file is a mapping; it is good when `problems` is empty.

    One with problems still compiles as far as it goes, so that a single run reports them all.
    """

    document: Document | None
    problems: tuple[Problem, ...] = ()


def parse(text: bytes, file: str = "") -> Parsed:
    """Read one settings file, YAML or JSON. Never raises on what is in it."""
    tree = read_tree(text, file)
    clean = check(tree, DOCUMENT)
    document = None
    if isinstance(clean, dict):
        document = Document(
            file=file,
            service=clean.get("service", ""),
            info=_info(clean),
            settings=clean.get("settings", {}),
            segments=clean.get("segments", {}),
            tree=tree,
        )
    return Parsed(document, tuple(tree.problems))


def read(text: bytes, file: str = "") -> Document:
    """Like `parse`, but raises `Invalid` with all problems of the file's shape."""
    parsed = parse(text, file)
    if parsed.problems or parsed.document is None:
        raise Invalid(parsed.problems)
    return parsed.document


def _info(clean: Mapping[str, Any]) -> Service:
    lists = {
        name: tuple(item for item in clean.get(name, ()) if item is not BROKEN)
        for name in ("owners", "depends_on", "includes")
    }
    attributes = {
        name: kind for name, kind in clean.get("attributes", {}).items() if kind is not BROKEN
    }
    return Service(description=clean.get("description", ""), attributes=attributes, **lists)

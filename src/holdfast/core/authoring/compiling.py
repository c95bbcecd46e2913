"""From documents to nouns: conditions lowered, variants resolved, everything checked and placed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from holdfast.core.authoring.document import Document
from holdfast.core.authoring.layout import GOES_WITH
from holdfast.core.authoring.members import (
    PutBlob,
    ReadMembers,
    audience_of,
    digest_only,
    lines,
)
from holdfast.core.authoring.place import in_file
from holdfast.core.authoring.tree import BROKEN, PROBLEMS_MAX, Path, steps
from holdfast.core.authoring.variants import Variants
from holdfast.core.cel import BUILT_IN, RESERVED, Scope, lower
from holdfast.core.content import check_segment, check_service, check_setting
from holdfast.core.errors import Invalid, Problem
from holdfast.core.logic_check import references
from holdfast.core.model import (
    JSON,
    TARGETING_KEY,
    AttributeType,
    Audience,
    Probe,
    Rule,
    Segment,
    Service,
    Setting,
    Split,
    Targeting,
)
from holdfast.core.pointer import below, near, pointer

_PLACEHOLDERS: Mapping[str, JSON] = {
    "boolean": False, "string": "", "integer": 0, "number": 0, "object": {},
}  # fmt: skip
_ADDITIONS = frozenset({"unknown-key", "missing-key", "too-many", "duplicate-key"})
"""Problems of a place that leave the rest of it readable."""
_SUMMARIES = frozenset({"rule", "segment", "variants"})
"""Problems of a whole that follow from any problem of a part."""


class Visible(msgspec.Struct, frozen=True):
    """What a document may speak of beyond itself.

    - `scope`: attributes and segments, its own and those of all services that it includes.
    - `inherited`: attributes of the included services alone.
    - `services`, `environments`: names that exist; None leaves them to the write door.
    """

    scope: Scope
    inherited: Mapping[str, AttributeType] = {}
    services: Collection[str] | None = None
    environments: Collection[str] | None = None


class Compiled(msgspec.Struct, frozen=True):
    """One service as nouns; usable when `problems` is empty."""

    service: str
    info: Service
    settings: dict[str, Setting] = {}
    segments: dict[str, Segment] = {}
    problems: tuple[Problem, ...] = ()


def compile_document(
    document: Document,
    visible: Visible,
    *,
    read_members: ReadMembers | None = None,
    put_blob: PutBlob = digest_only,
) -> Compiled:
    """The nouns of a document, and all problems but those that `parse` found already."""
    compiler = _Compiler(document, visible, read_members, put_blob)
    compiler.service()
    segments = {
        name: compiler.segment(name, written)
        for name, written in document.segments.items()
        if written is not BROKEN and not compiler.is_full
    }
    settings = {
        key: compiler.setting(key, written)
        for key, written in document.settings.items()
        if written is not BROKEN and not compiler.is_full
    }
    problems = tuple(dict.fromkeys(compiler.problems))
    return Compiled(document.service, document.info, settings, segments, problems)


class _Compiler:
    def __init__(
        self,
        document: Document,
        visible: Visible,
        read_members: ReadMembers | None,
        put_blob: PutBlob,
    ) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._visible = visible
        self._read_members = read_members
        self._put_blob = put_blob
        known = [problem for problem in document.tree.problems if problem.path]
        self._broken = {problem.path for problem in known if problem.code not in _ADDITIONS}
        self._parts = {prefix for problem in known for prefix in _prefixes(problem.path)}

    @property
    def is_full(self) -> bool:
        return len(self.problems) >= PROBLEMS_MAX

    # The service ----------------------------------------------------------------------------------

    def service(self) -> None:
        info = self._document.info
        self._add((), check_service(self._document.service or "unnamed", info))
        for field, names in (("includes", info.includes), ("depends_on", info.depends_on)):
            for number, name in enumerate(names):
                self._known((field, number), name, self._visible.services, "service")
        for name, kind in info.attributes.items():
            self._attribute_name(name, kind)

    def _attribute_name(self, name: str, kind: str) -> None:
        path: Path = ("attributes", name)
        if name in BUILT_IN:
            message = f"`{name}` is there without declaring it"
            self._report("built-in", message, path, "take it out", at_key=True)
        elif name in RESERVED:
            hint = "use another name: conditions can't contain this one"
            self._report("reserved-name", f"`{name}` is a word of CEL", path, hint, at_key=True)
        elif self._visible.inherited.get(name, kind) != kind:
            message = f"`{name}` is {self._visible.inherited[name]} in an included service"
            self._report("attribute-type", message, path, "give it the same type everywhere")

    # Segments -------------------------------------------------------------------------------------

    def segment(self, name: str, written: Mapping[str, Any]) -> Segment:
        path: Path = ("segments", name)
        environments = {}
        for environment, audience in written.get("environments", {}).items():
            inner: Path = (*path, "environments", environment)
            self._known(inner, environment, self._visible.environments, "environment")
            if audience is not BROKEN:
                environments[environment] = self._audience(audience, inner)
        segment = Segment(
            audience=self._audience(written, path),
            environments=environments,
            description=written.get("description", ""),
        )
        self._add(path, check_segment(name, segment))
        return segment

    def _audience(self, written: Mapping[str, Any], path: Path) -> Audience:
        if "by" in written:
            self._attribute(written["by"], (*path, "by"))
        for kinds in (("by", "when", "logic"), ("members", "members_file", "members_digest")):
            if len(given := [kind for kind in kinds if kind in written]) > 1:
                message = f"`{given[0]}` and `{given[1]}` exclude each other"
                self._report("segment", message, (*path, given[1]), "keep one of them")
        for name, whole in GOES_WITH.items():
            if name in written and whole not in written:
                message, hint = f"`{name}` means nothing without `{whole}`", "take it out"
                self._report("segment", message, (*path, name), hint, at_key=True)
        if "members_digest" in written:
            names = ("by", "members_digest", "member_count", "table_digest", "table_bytes")
            return Audience(**{name: written[name] for name in names if name in written})
        if "by" not in written:
            when, logic = self._condition(written, path, Scope(self._visible.scope.attributes))
            return Audience(when=when, logic=logic)
        try:
            return audience_of(written["by"], self._members(written, path), self._put_blob)
        except Invalid as invalid:
            self._add(path, invalid.problems)
            return Audience(by=written["by"])

    def _members(self, written: Mapping[str, Any], path: Path) -> Iterable[str]:
        if "members_file" not in written:
            if "members" not in written:
                hint = "add `members:` or `members_file:`"
                self._report("segment", "a list without members", path, hint)
            return [member for member in written.get("members", ()) if member is not BROKEN]
        place: Path = (*path, "members_file")
        if self._read_members is None:
            hint = "give the list as `members`, or publish the file from a command line"
            self._report("members-file", "files can't be read from here", place, hint)
            return []
        try:
            return lines(self._read_members(written["members_file"]))
        except Invalid as invalid:
            self._add(place, invalid.problems)
        except OSError as failure:
            hint = "give its path relative to this file"
            self._report("members-file", failure.strerror or "can't be read", place, hint)
        return []

    # Settings -------------------------------------------------------------------------------------

    def setting(self, key: str, written: Mapping[str, Any]) -> Setting:
        path: Path = ("settings", key)
        variants = Variants(written.get("variants", {}))
        self._add(path, variants.problems)
        kind = written.get("type") or _type_of(variants.values.values())
        placeholder = _PLACEHOLDERS[kind]
        setting = Setting(
            type=kind,
            variants={
                name: placeholder if value is BROKEN else value
                for name, value in variants.values.items()
            },
            environments=self._environments(written.get("environments", {}), path),
            description=written.get("description", ""),
            schema=written.get("schema"),
            metadata={k: v for k, v in written.get("metadata", {}).items() if v is not BROKEN},
            expires=written.get("expires", ""),
            extends=variants.extends,
            probes=tuple(_probes(written.get("probes", ()))),
        )
        problems = [_extension_place(problem) for problem in check_setting(key, setting)]
        if not written.get("variants"):
            problems = [p for p in problems if p.code not in {"unknown-variant", "variants"}]
        if "type" not in written:
            problems = [p for p in problems if p.code != "variant-type"]
        self._add(path, problems)
        return setting

    def _environments(self, written: Mapping[str, Any], path: Path) -> dict[str, Targeting]:
        found = {}
        for environment, targeting in written.items():
            inner: Path = (*path, "environments", environment)
            self._known(inner, environment, self._visible.environments, "environment")
            if targeting is not BROKEN:
                found[environment] = self._targeting(targeting, inner)
        return found

    def _targeting(self, written: Mapping[str, Any], path: Path) -> Targeting:
        rules = []
        for number, rule in enumerate(written.get("rules", ())):
            if rule is not BROKEN and not self.is_full:
                rules.append(self._rule(rule, (*path, "rules", number)))
        logic = written.get("targeting")
        self._references(logic, (*path, "targeting"))
        return Targeting(
            default=written.get("default"),
            enabled=written.get("enabled", True),
            rules=tuple(rules),
            logic=logic or None,  # an empty object is flagd's way to say that there is none
        )

    def _rule(self, written: Mapping[str, Any], path: Path) -> Rule:
        if "when" in written and "logic" in written:
            message = "`when` and `logic` exclude each other"
            self._report("when-and-logic", message, (*path, "logic"), "keep one of them")
        when, logic = self._condition(written, path, self._visible.scope)
        return Rule(
            name=written.get("name", ""),
            when=when,
            logic=logic,
            serve=written.get("serve", ""),
            split=self._split(written.get("split"), (*path, "split")),
        )

    def _split(self, written: Mapping[str, Any] | None, path: Path) -> Split | None:
        if written is None or "weights" not in written:
            return None
        by = written.get("by", TARGETING_KEY)
        self._attribute(by, (*path, "by"))
        weights = {
            name: 1 if weight is BROKEN else weight for name, weight in written["weights"].items()
        }
        return Split(weights=weights, by=by, seed=written.get("seed", ""))

    # Conditions and names -------------------------------------------------------------------------

    def _condition(self, written: Mapping[str, Any], path: Path, scope: Scope) -> tuple[str, JSON]:
        """A condition as written and as logic; a placeholder where it has problems."""
        if "when" not in written:
            self._references(written.get("logic"), (*path, "logic"))
            return "", written.get("logic")
        source = written["when"]
        lowered = lower(source, scope)
        place: Path = (*path, "when")
        self.problems += [in_file(self._document.tree, place, p) for p in lowered.problems]
        return source, False if lowered.problems else lowered.logic

    def _references(self, logic: JSON, path: Path) -> None:
        segments = self._visible.scope.segments or {}
        for name in sorted(references(logic) - segments.keys())[:PROBLEMS_MAX]:
            hint = near(name, segments) or "declare it, or include the service that owns it"
            self._report("unknown-segment", f"no segment `{name}` is visible here", path, hint)

    def _attribute(self, name: str, path: Path) -> None:
        """A dotted name reaches into a map."""
        known = self._visible.scope.types()
        if name.split(".", maxsplit=1)[0] not in known:
            close = near(name, known)
            hint = f"{close} Else declare it" if close else "declare it"
            message = f"no attribute `{name}` is declared"
            self._report("unknown-attribute", message, path, f"{hint} under `attributes:`")

    def _known(self, path: Path, name: str, names: Collection[str] | None, what: str) -> None:
        if names is None or name in names:
            return
        hint = near(name, names) or f"create the {what} first"
        self._report(f"unknown-{what}", f"there is no {what} `{name}`", path, hint, at_key=True)

    def _report(
        self, code: str, message: str, path: Path, hint: str, *, at_key: bool = False
    ) -> None:
        self.problems.append(self._document.tree.problem(code, message, path, hint, at_key=at_key))

    def _add(self, path: Path, problems: Iterable[Problem]) -> None:
        """Problems of a noun, placed in the file; those that only follow from others left out."""
        for problem in below(pointer(path), problems):
            if problem.code in _SUMMARIES and problem.path in self._parts:
                continue
            if any(prefix in self._broken for prefix in (problem.path, *_prefixes(problem.path))):
                continue
            place = self._document.tree.problem(
                "", "", steps(problem.path, self._document.tree.root)
            )
            self.problems.append(
                msgspec.structs.replace(
                    problem, file=place.file, line=place.line, column=place.column
                )
            )


def _probes(written: Iterable[Any]) -> Iterator[Probe]:
    """Those that could be read whole; what is wrong with the others has been reported."""
    for probe in written:
        if probe is not BROKEN and "context" in probe and "expected" in probe:
            names = (name for name in probe.get("environments", ()) if name is not BROKEN)
            yield Probe(probe["context"], probe["expected"], tuple(names))


def _type_of(values: Iterable[JSON]) -> Any:
    """The type that a setting without a readable one seems to have."""
    kinds = (("boolean", bool), ("integer", int), ("number", float), ("string", str))
    first = next(iter(values), None)
    return next((name for name, kind in kinds if isinstance(first, kind)), "object")


def _extension_place(problem: Problem) -> Problem:
    """Files write extensions as variants."""
    if not problem.path.startswith("/extends/"):
        return problem
    return msgspec.structs.replace(problem, path=f"/variants/{problem.path[9:]}")


def _prefixes(path: str) -> Iterator[str]:
    """The pointers of all that contains the place, the whole document left out."""
    while "/" in path[1:]:
        path = path[: path.rindex("/")]
        yield path

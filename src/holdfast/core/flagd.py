"""flagd flag definitions, in and out: `flagd.dev/schema/v0`.

What is taken over evaluates as before: targeting stays raw JsonLogic, `$evaluators` become segments
of the service. What flagd's schema forbids is a problem; a lenient import mends it where the
answers stay the same, leaves the flag out where they can't, and lists what it did.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from holdfast.core import limits
from holdfast.core.authoring.batch import ordered
from holdfast.core.authoring.tree import Path, Tree, read_tree, steps
from holdfast.core.build import build
from holdfast.core.content import check_segment, check_setting
from holdfast.core.errors import NotFound, Problem
from holdfast.core.evaluators import TooLargeError, WrittenOut, renamed, segment_names
from holdfast.core.logic_check import references
from holdfast.core.model import (
    JSON,
    Audience,
    Edit,
    Head,
    PutSegment,
    PutService,
    PutSetting,
    Segment,
    Service,
    Setting,
    SettingType,
    Subject,
    Targeting,
)
from holdfast.core.pointer import below, near, pointer, short
from holdfast.core.state import ServiceState, State, closure, same
from holdfast.core.subjects import subject_revision
from holdfast.core.wire import canonical

SCHEMA: Final = "https://flagd.dev/schema/v0/flags.json"
_FILE_KEYS: Final = ("$schema", "flags", "$evaluators", "metadata")
_FLAG_KEYS: Final = ("state", "variants", "defaultVariant", "targeting", "metadata", "description")
_OF_THE_FILE: Final = frozenset({"flagSetId", "version"})
"""Metadata that a snapshot says itself."""
ReadMembers = Callable[[str], bytes | None]
"""A member list's digest -> its lines."""


class Imported(msgspec.Struct, frozen=True):
    """What a flagd file comes to. With `problems` there are no edits; `mended` lists changes."""

    edits: tuple[Edit, ...] = ()
    problems: tuple[Problem, ...] = ()
    mended: tuple[Problem, ...] = ()


def import_flagd(  # noqa: PLR0913  one way in: each argument is independent of the others
    text: bytes,
    file: str,
    *,
    service: str,
    environment: str,
    services: Mapping[str, ServiceState],
    lenient: bool = False,
) -> Imported:
    """The edits that take a flagd file (JSON or YAML) over into one environment of a service.

    Settings that the file does not name stay as they are, and so do other environments of those
    that it names. Never raises on what is in the file.
    """
    reader = _Reader(read_tree(text, file), lenient)
    reader.read(_values(text, reader.tree), environment)
    edits = list(_edits(reader, service, environment, services.get(service)))
    if any(problem.severity == "error" for problem in reader.problems):
        return Imported(problems=ordered(reader.problems), mended=tuple(reader.mended))
    return Imported(tuple(edits), ordered(reader.problems), tuple(reader.mended))


def _values(text: bytes, tree: Tree) -> Any:
    """The file's values. JSON keeps 1.0 apart from 1, from which the type of a setting follows."""
    if tree.problems or tree.root is None:
        return None
    try:
        return msgspec.json.decode(text.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError):
        return tree.root.plain()


class _Reader:
    def __init__(self, tree: Tree, lenient: bool) -> None:
        self.tree = tree
        self.problems: list[Problem] = list(tree.problems)
        self.mended: list[Problem] = []
        self.settings: dict[str, Setting] = {}
        self.segments: dict[str, Segment] = {}
        self._lenient = lenient
        self._names: dict[str, str] = {}
        self._written = WrittenOut()

    def read(self, document: Any, environment: str) -> None:
        if document is None:
            return
        flags = document.get("flags") if isinstance(document, dict) else None
        if not isinstance(flags, dict):
            hint = "write {flags: {key: {state, variants, …}}}"
            self._refuse("flagd", "no `flags`, so this is no flagd file", (), hint)
            return
        self._known(document, _FILE_KEYS, ())
        evaluators = self._mapping(document, "$evaluators", ())
        if len(evaluators) > limits.SEGMENTS_MAX:
            message = f"{len(evaluators)} evaluators; {limits.SEGMENTS_MAX} are the most"
            self._refuse("too-many", message, ("$evaluators",), "write some of them out")
            return
        self._names = segment_names(evaluators)
        for name, logic in evaluators.items():
            self._segment(name, logic, evaluators)
        shared = self._metadata(self._mapping(document, "metadata", ()), ("metadata",))
        shared = {name: value for name, value in shared.items() if name not in _OF_THE_FILE}
        if len(msgspec.json.encode(shared)) * len(flags) > limits.SNAPSHOT_BYTES_MAX:
            message = "the file's metadata comes to too much when each flag gets it"
            self._refuse("too-large", message, ("metadata",), "take out what no caller reads")
            return
        for key, flag in flags.items():
            self._flag(key, flag, shared, environment)

    # Segments -------------------------------------------------------------------------------------

    def _segment(self, name: str, logic: JSON, evaluators: Mapping[str, JSON]) -> None:
        path: Path = ("$evaluators", name)
        told: set[str] = set()
        if references(logic):
            hint = "repeat the rule: flagd does not nest references"
            self._mend("nested-segment", f"`{name}` refers to others", path, hint, "written out")
            if self._lenient:
                logic = self._in_full(name, logic, evaluators)
            else:
                told.add("nested-segment")
        new = self._names[name]
        if new != name:
            message = f"`{name}` is called `{new}` from now on"
            self._note("renamed", message, path, "conditions were changed with it")
        segment = Segment(audience=Audience(logic=logic))
        problems = [found for found in check_segment(new, segment) if found.code not in told]
        self._add(path, problems)
        self.segments[new] = segment

    def _in_full(self, name: str, logic: JSON, evaluators: Mapping[str, JSON]) -> JSON:
        """Written out, or false and a problem where that comes to too much."""
        try:
            return self._written.out(logic, evaluators, (name,), 0)
        except TooLargeError:
            message = f"`{name}` comes to too much when what it refers to is written out"
            self._refuse("too-large", message, ("$evaluators", name), "refer to fewer others")
            return False

    # Flags ----------------------------------------------------------------------------------------

    def _flag(self, key: str, flag: Any, shared: Mapping[str, Any], environment: str) -> None:
        path: Path = ("flags", key)
        before = len(self.problems)
        if not isinstance(flag, dict):
            self._refuse("wrong-type", "a flag is a mapping", path, "write {state, variants, …}")
        else:
            self._known(flag, _FLAG_KEYS, path)
            setting = self._setting(key, flag, shared, environment)
            if setting is not None and len(self.problems) == before:
                self.settings[key] = setting
        if self._lenient and len(self.problems) > before:
            why = "; ".join(problem.message for problem in self.problems[before:])
            del self.problems[before:]
            self._note("left-out", f"`{key}` was left out: {why}", path, "")

    def _setting(
        self, key: str, flag: dict[str, Any], shared: Mapping[str, Any], environment: str
    ) -> Setting | None:
        path: Path = ("flags", key)
        variants = self._mapping(flag, "variants", path)
        kind = type_of(variants)
        if kind is None:
            message = "the variants are of different types, or of none that a setting has"
            hint = "give all variants one type: boolean, string, number or object"
            self._refuse("variant-types", message, (*path, "variants"), hint)
            return None
        metadata = self._metadata(self._mapping(flag, "metadata", path), (*path, "metadata"))
        targeting = Targeting(
            default=self._default(flag, variants, path),
            enabled=self._state(flag, path),
            logic=self._targeting(flag, path),
        )
        setting = Setting(
            type=kind,
            variants=variants,
            environments={environment: targeting},
            description=self._description(flag, path),
            metadata={**shared, **metadata},
        )
        self._add(path, _as_flag(check_setting(key, setting), environment))
        return setting

    def _state(self, flag: Mapping[str, Any], path: Path) -> bool:
        state = flag.get("state")
        if state not in ("ENABLED", "DISABLED"):  # a list or a mapping can't be in a set
            hint = "write ENABLED or DISABLED"
            message = "`state` is missing" if state is None else f"`state` is {short(repr(state))}"
            self._mend("state", message, (*path, "state"), hint, "taken for ENABLED")
        return state != "DISABLED"

    def _default(
        self, flag: Mapping[str, Any], variants: Mapping[str, Any], path: Path
    ) -> str | None:
        default = flag.get("defaultVariant")
        place: Path = (*path, "defaultVariant")
        if isinstance(default, bool):
            hint = 'quote it: "true"'
            self._mend("wrong-type", "a variant is named by text", place, hint, "taken for text")
            default = str(default).lower()
        if default is None or (isinstance(default, str) and default in variants):
            return default
        hint = near(str(default), variants) or f"the variants are {', '.join(variants)[:200]}"
        self._refuse("unknown-variant", f"there is no variant `{short(str(default))}`", place, hint)
        return None

    def _targeting(self, flag: Mapping[str, Any], path: Path) -> JSON:
        logic = flag.get("targeting")
        for name in sorted(references(logic) - self._names.keys()):
            hint = near(name, self._names) or "define it under `$evaluators`"
            message = f"there is no evaluator `{name}`"
            self._refuse("unknown-segment", message, (*path, "targeting"), hint)
        return None if logic == {} else renamed(logic, self._names)

    def _description(self, flag: Mapping[str, Any], path: Path) -> str:
        found = flag.get("description", "")
        if not isinstance(found, str):
            message, place = "a description is text", (*path, "description")
            self._mend("wrong-type", message, place, "write text", "left out")
        return found if isinstance(found, str) else ""

    # Parts ----------------------------------------------------------------------------------------

    def _mapping(self, holder: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
        found = holder.get(key)
        if found is not None and not isinstance(found, dict):
            self._refuse("wrong-type", f"`{key}` is a mapping", (*path, key), "write {…}")
        return found if isinstance(found, dict) else {}

    def _metadata(self, written: Mapping[str, Any], path: Path) -> dict[str, Any]:
        kept = {}
        for name, value in written.items():
            if isinstance(value, str | int | float | bool):
                kept[name] = value
            else:
                message = "metadata is text, numbers, true and false"
                hint = "write it as text"
                self._mend("wrong-type", message, (*path, name), hint, "left out")
        return kept

    def _known(self, holder: Mapping[str, Any], keys: tuple[str, ...], path: Path) -> None:
        for key in holder:
            if key not in keys:
                hint = near(key, keys) or "take it out"
                self._mend(
                    "unknown-key",
                    f"flagd has no `{short(key)}` here",
                    (*path, key),
                    hint,
                    "left out",
                )

    def _add(self, path: Path, problems: list[Problem]) -> None:
        for problem in below(pointer(path), problems):
            place = self.tree.problem("", "", steps(problem.path, self.tree.root))
            self.problems.append(
                msgspec.structs.replace(
                    problem, file=place.file, line=place.line, column=place.column
                )
            )

    def _mend(self, code: str, message: str, path: Path, hint: str, done: str) -> None:
        """A problem, or, leniently, a note of what was done about it."""
        if self._lenient:
            self._note(code, f"{message}: {done}", path, hint)
        else:
            self._refuse(code, message, path, hint)

    def _refuse(self, code: str, message: str, path: Path, hint: str) -> None:
        self.problems.append(self.tree.problem(code, message, path, hint))

    def _note(self, code: str, message: str, path: Path, hint: str) -> None:
        problem = self.tree.problem(code, message, path, hint)
        self.mended.append(msgspec.structs.replace(problem, severity="warning"))


def type_of(variants: Mapping[str, JSON]) -> SettingType | None:
    """The type that all variants have: integers are numbers too when a float is among them."""
    kinds = {type(value) for value in variants.values()}
    if float in kinds and kinds <= {int, float}:
        return "number"
    names: dict[type, SettingType] = {
        bool: "boolean", str: "string", int: "integer", dict: "object",
    }  # fmt: skip
    return names.get(kinds.pop()) if len(kinds) == 1 else None


def _as_flag(problems: list[Problem], environment: str) -> list[Problem]:
    """Paths into a setting as paths into the flag."""
    prefix = pointer(("environments", environment))
    renamed = []
    for problem in problems:
        path = problem.path.removeprefix(prefix).replace("/default", "/defaultVariant", 1)
        renamed.append(msgspec.structs.replace(problem, path=path))
    return renamed


# Edits --------------------------------------------------------------------------------------------


def _edits(
    reader: _Reader, service: str, environment: str, old: ServiceState | None
) -> Iterator[Edit]:
    if old is None:
        yield PutService(service, Service())
    for name, segment in sorted(reader.segments.items()):
        before = old.segments[name].segment if old and name in old.segments else None
        if before is not None:
            overrides = {**before.environments, environment: segment.audience}
            segment = msgspec.structs.replace(before, environments=overrides)  # noqa: PLW2901
        if before is None or not same(before, segment):
            yield PutSegment(service, name, segment)
    for key, setting in sorted(reader.settings.items()):
        before_setting = old.settings[key].setting if old and key in old.settings else None
        merged = _merged(reader, key, setting, environment, before_setting)
        if before_setting is None or not same(before_setting, merged):
            yield PutSetting(service, key, merged)


def _merged(
    reader: _Reader, key: str, new: Setting, environment: str, old: Setting | None
) -> Setting:
    """The imported setting beside what other environments have of it."""
    others = {n: t for n, t in old.environments.items() if n != environment} if old else {}
    if old is None:
        return new
    if others:
        for name in old.variants.keys() & new.variants.keys():
            if not same(old.variants[name], new.variants[name]):
                message = f"variant `{name}` has another value in {', '.join(sorted(others))}"
                hint = "give it another name"
                reader.problems.append(
                    reader.tree.problem(
                        "variant-conflict", message, ("flags", key, "variants", name), hint
                    )
                )
        if old.type != new.type:
            message = f"the setting is {old.type} in {', '.join(sorted(others))}, {new.type} here"
            hint = "use another key, or import into all environments"
            place: Path = ("flags", key)
            reader.problems.append(reader.tree.problem("type-conflict", message, place, hint))
    return msgspec.structs.replace(
        new,
        variants={**old.variants, **new.variants} if others else new.variants,
        environments={**others, **new.environments},
        description=new.description or old.description,
        schema=old.schema,
        expires=old.expires,
    )


# Export -------------------------------------------------------------------------------------------


def export_flagd(
    state: State,
    service: str,
    environment: str,
    read_members: ReadMembers,
    *,
    descriptions: bool = False,
) -> bytes:
    """A service in one environment as a flagd file that evaluates the same, included settings too.

    Long member lists are written out, as flagd knows no tables. flagd's Python core refuses a file
    whose flags have descriptions, so they are left out unless asked for. Raises `NotFound`.
    """
    subject = Subject(environment, service)
    at = Head(subject_revision(state, subject), "")  # of which nothing is exported
    snapshot = build(state, subject, None, head=at)
    flags = {key: msgspec.json.decode(flag) for key, flag in snapshot.flags.items()}
    evaluators: dict[str, JSON] = dict(snapshot.evaluators)
    for name, facts in snapshot.holdfast.segments.items():
        members = _members(state, service, environment, name, read_members)
        evaluators[name] = {"in": [{"var": facts.by}, members]}
    settings = _settings(state.services, service)
    for key, flag in flags.items():
        if "targeting" in flag and snapshot.holdfast.segments:
            flag["targeting"] = _without_tables(flag["targeting"])
        if descriptions and settings[key].description:
            flag["description"] = settings[key].description
    document = {"$schema": SCHEMA, "flags": flags, "metadata": dict(snapshot.metadata)}
    if evaluators:
        document["$evaluators"] = evaluators
    return canonical(document)


def _settings(services: Mapping[str, ServiceState], service: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for owner in reversed(closure(services, service)):
        found |= {key: kept.setting for key, kept in services[owner].settings.items()}
    return found


def _members(
    state: State, service: str, environment: str, name: str, read_members: ReadMembers
) -> list[str]:
    """The members of a segment by its name in the snapshot, where others have theirs in front."""
    owner, _, bare = name.rpartition("/")
    segment = state.services[owner or service].segments[bare].segment
    audience = segment.environments.get(environment, segment.audience)
    lines = read_members(audience.members_digest)
    if lines is None:
        raise NotFound(f"the member list of segment {name} is not stored here")
    return lines.decode().removesuffix("\n").split("\n")


def _without_tables(logic: JSON) -> JSON:
    if isinstance(logic, list):
        return [_without_tables(item) for item in logic]
    if not isinstance(logic, dict):
        return logic
    match logic:
        case {"in_segment": [_, str(name)], **rest} if not rest:
            return {"$ref": name}
    return {key: _without_tables(value) for key, value in logic.items()}

"""Any number of files at once: one list of problems, one set of edits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from holdfast.core.authoring.compiling import Compiled, Visible, compile_document
from holdfast.core.authoring.document import Document, parse
from holdfast.core.authoring.members import PutBlob, ReadMembers, digest_only
from holdfast.core.authoring.tree import PROBLEMS_MAX
from holdfast.core.cel import Scope
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import (
    AttributeType,
    Audience,
    DeleteSegment,
    DeleteService,
    DeleteSetting,
    Edit,
    PutSegment,
    PutService,
    PutSetting,
    Segment,
    Service,
)
from holdfast.core.state import ServiceState, same


class SourceFile(msgspec.Struct, frozen=True):
    """A settings file as it came: `name` is what problems call it."""

    name: str
    text: bytes


class Plan(msgspec.Struct, frozen=True):
    """What files come to. `edits` is empty when there are problems, or when nothing differs.

    `compiled` and `documents` have all that could be read, one for one.
    """

    edits: tuple[Edit, ...] = ()
    problems: tuple[Problem, ...] = ()
    compiled: tuple[Compiled, ...] = ()
    documents: tuple[Document, ...] = ()


def plan(  # noqa: PLR0913  one way in: each argument is independent of the others
    files: Iterable[SourceFile],
    services: Mapping[str, ServiceState],
    *,
    environments: Collection[str] | None = None,
    prune: bool = False,
    read_members: Mapping[str, ReadMembers] | ReadMembers | None = None,
    put_blob: PutBlob = digest_only,
) -> Plan:
    """Read, check and compare settings files with the state's services. Never raises on content.

    - `environments`: names that exist; None leaves that check to the write door.
    - `prune`: services that no file speaks of are deleted.
    - `read_members`: how to read a `members_file`; by name of the settings file where that matters.
    - `put_blob`: keeps long member lists; without one this is a dry run that keeps nothing.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    for file in files:
        parsed = parse(file.text, file.name)
        problems += parsed.problems
        if parsed.document is not None:
            documents.append(parsed.document)
    problems += _repeated(documents)
    compiled = []
    for document in documents:
        reader = read_members
        if isinstance(reader, Mapping):
            reader = reader.get(document.file)
        found = compile_document(
            document,
            visible_to(document, documents, services, environments),
            read_members=reader,
            put_blob=put_blob,
        )
        problems += found.problems
        compiled.append(found)
    edits: tuple[Edit, ...] = ()
    if not any(problem.severity == "error" for problem in problems):
        edits = edits_for(services, compiled, prune=prune)
    return Plan(edits, ordered(problems), tuple(compiled), tuple(documents))


def visible_to(
    document: Document,
    documents: Iterable[Document],
    services: Mapping[str, ServiceState],
    environments: Collection[str] | None = None,
) -> Visible:
    """What a document may speak of: itself and what it includes, of the batch or the state."""
    batch = {other.service: other for other in documents}
    batch[document.service] = document
    inherited: dict[str, AttributeType] = {}
    segments = document.segment_kinds()
    for name in _closure(document.service, batch, services):
        if name != document.service:
            info, kinds = _facts(name, batch, services)
            # Who comes first decides, as it does when a snapshot is built.
            inherited = {**info.attributes, **inherited}
            segments = {**kinds, **segments}
    attributes = {**inherited, **document.info.attributes}
    known = batch.keys() | services.keys()
    return Visible(Scope(attributes, segments), inherited, known, environments)


def edits_for(
    services: Mapping[str, ServiceState], compiled: Iterable[Compiled], *, prune: bool = False
) -> tuple[Edit, ...]:
    """The least edits after which the state says what the documents say.

    A document is the whole of its service: settings and segments that it does not name are
    deleted. With `prune`, so are services without a document. Raises `Invalid` when a document has
    problems.
    """
    edits: list[Edit] = []
    named = set()
    for one in sorted(compiled, key=lambda found: found.service):
        if one.problems:
            raise Invalid(one.problems)
        named.add(one.service)
        edits += _service_edits(one, services.get(one.service))
    if prune:
        edits += [DeleteService(name) for name in sorted(services.keys() - named)]
    return tuple(edits)


def _service_edits(new: Compiled, old: ServiceState | None) -> Iterable[Edit]:
    name = new.service
    old_settings = old.settings if old else {}
    old_segments = old.segments if old else {}
    if old is None or not same(old.info, new.info):
        yield PutService(name, new.info)
    for segment, found in sorted(new.segments.items()):
        before = old_segments[segment].segment if segment in old_segments else None
        if before is None or not same(before, _with_tables(found, before)):
            yield PutSegment(name, segment, found)
    for key, setting in sorted(new.settings.items()):
        if key not in old_settings or not same(old_settings[key].setting, setting):
            yield PutSetting(name, key, setting)
    for key in sorted(old_settings.keys() - new.settings.keys()):
        yield DeleteSetting(name, key)
    for segment in sorted(old_segments.keys() - new.segments.keys()):
        yield DeleteSegment(name, segment)


def _with_tables(new: Segment, old: Segment) -> Segment:
    """The segment with what the write door found out about lists that were there before."""
    known = {one.members_digest: one for one in (old.audience, *old.environments.values())}

    def settled(audience: Audience) -> Audience:
        same_list = known.get(audience.members_digest)
        if not audience.members_digest or same_list is None:
            return audience
        return msgspec.structs.replace(same_list, by=audience.by)

    environments = {name: settled(audience) for name, audience in new.environments.items()}
    return msgspec.structs.replace(new, audience=settled(new.audience), environments=environments)


def _closure(
    service: str, batch: Mapping[str, Document], services: Mapping[str, ServiceState]
) -> Iterable[str]:
    """The service and all that it includes, in order of precedence (`core.state.closure`)."""
    found: dict[str, None] = {}
    waiting = [service]
    while waiting:
        name = waiting.pop()
        if name not in found and (name in batch or name in services):
            found[name] = None
            waiting.extend(reversed(_facts(name, batch, services)[0].includes))
    return found


def _facts(
    name: str, batch: Mapping[str, Document], services: Mapping[str, ServiceState]
) -> tuple[Service, dict[str, frozenset[str]]]:
    if name in batch:
        return batch[name].info, batch[name].segment_kinds()
    state = services[name]
    return state.info, {key: segment_kinds(found.segment) for key, found in state.segments.items()}


def segment_kinds(segment: Segment) -> frozenset[str]:
    """The attributes that a segment's lists are of, `""` where it is a rule (`cel.Scope`)."""
    return frozenset(a.by for a in (segment.audience, *segment.environments.values()))


def _repeated(documents: Iterable[Document]) -> Iterable[Problem]:
    first: dict[str, str] = {}
    for document in documents:
        name = document.service
        if name in first:
            message = f"service `{name}` stands in `{first[name]}` too"
            hint = "write a service into one file"
            yield document.tree.problem("repeated-service", message, ("service",), hint)
        first.setdefault(name, document.file)


def ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each problem once, by file and place, up to their bound; the rest is counted."""
    unique = dict.fromkeys(problems)
    ordered = sorted(unique, key=lambda found: (found.file, found.line, found.column))
    if len(ordered) > PROBLEMS_MAX:
        message = f"{len(ordered) - PROBLEMS_MAX} or more other problems"
        ordered[PROBLEMS_MAX:] = [Problem(code="more", message=message, hint="mend these first")]
    return tuple(ordered)

"""Long lists of members out of the journal: into the blob store, as lines and as a table.

The journal's entry then names digests, and a consumer loads the table in milliseconds. Nobody's
word is taken for a table: it is made here from the lines, unless the head has it already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from holdfast.core import limits
from holdfast.core.errors import Problem
from holdfast.core.model import Audience, Edit, PutSegment, Segment
from holdfast.core.state import State
from holdfast.core.targeting import segments
from holdfast.ports import Blobs

_FIELDS: Final = ("members", "members_digest", "member_count", "table_digest", "table_bytes")


def settle(
    edits: tuple[Edit, ...], state: State, blobs: Blobs
) -> tuple[tuple[Edit, ...], list[Problem]]:
    """The edits with every long list in `blobs`, and problems of lists that can't be found.

    What is put there is immutable and named by its digest, so it does no harm when the change is
    then refused.
    """
    problems: list[Problem] = []
    settled: list[Edit] = []
    for number, edit in enumerate(edits):
        if not isinstance(edit, PutSegment):
            settled.append(edit)
            continue
        known = {audience.members_digest: audience for audience in _audiences_of(state, edit)}
        audience = _settle(edit.to.audience, known, blobs, f"/edits/{number}/to/audience", problems)
        environments = {
            name: _settle(one, known, blobs, f"/edits/{number}/to/environments/{name}", problems)
            for name, one in edit.to.environments.items()
        }
        to = msgspec.structs.replace(edit.to, audience=audience, environments=environments)
        settled.append(msgspec.structs.replace(edit, to=to))
    return tuple(settled), problems


def blobs_of(edits: Iterable[Edit]) -> Iterator[str]:
    """The digests of all blobs that the edits name: member lists, and their tables."""
    for edit in edits:
        if isinstance(edit, PutSegment):
            for audience in (edit.to.audience, *edit.to.environments.values()):
                yield from filter(None, (audience.members_digest, audience.table_digest))


def _settle(
    audience: Audience,
    known: Mapping[str, Audience],
    blobs: Blobs,
    path: str,
    problems: list[Problem],
) -> Audience:
    if audience.members_digest:
        same = known.get(audience.members_digest)
        if same is not None:
            facts = {name: getattr(same, name) for name in _FIELDS}
            return msgspec.structs.replace(audience, **facts)
        body = blobs.get(audience.members_digest)
        members = None if body is None else _lines(body)
        if members is None:
            problems.append(_not_there(path, audience.members_digest))
            return audience
        return _tabled(audience, members, blobs, path, problems)
    if len(audience.members) > limits.INLINE_MEMBERS_MAX:
        return _tabled(audience, audience.members, blobs, path, problems)
    return audience


def _tabled(
    audience: Audience,
    members: tuple[str, ...],
    blobs: Blobs,
    path: str,
    problems: list[Problem],
) -> Audience:
    distinct = sorted(set(members))
    wrong = next((one for one in distinct if not one or "\n" in one or not _is_text(one)), None)
    if wrong is not None or len(distinct) > limits.SEGMENT_MEMBERS_MAX:
        problems.append(_not_a_list(path, wrong, len(distinct)))
        return audience
    if len(distinct) <= limits.INLINE_MEMBERS_MAX:
        return msgspec.structs.replace(
            audience, members=tuple(distinct), members_digest="", member_count=0
        )
    table = segments.build(distinct)
    return msgspec.structs.replace(
        audience,
        members=(),
        members_digest=blobs.put("\n".join((*distinct, "")).encode()),
        member_count=len(distinct),
        table_digest=blobs.put(table),
        table_bytes=len(table),
    )


def _audiences_of(state: State, edit: PutSegment) -> Iterator[Audience]:
    service = state.services.get(edit.service)
    kept = service.segments.get(edit.segment) if service else None
    segment: Segment | None = kept.segment if kept else None
    for audience in (segment.audience, *segment.environments.values()) if segment else ():
        if audience.members_digest:
            yield audience


def _lines(body: bytes) -> tuple[str, ...] | None:
    try:
        return tuple(body.decode().removesuffix("\n").split("\n"))
    except UnicodeDecodeError:
        return None


def _is_text(member: str) -> bool:
    try:
        member.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_there(path: str, digest: str) -> Problem:
    return Problem(
        code="no-members",
        message=f"no list of members is stored under {digest}",
        path=f"{path}/members_digest",
        hint="upload the list first: UTF-8, one member a line",
    )


def _not_a_list(path: str, wrong: str | None, count: int) -> Problem:
    if wrong is None:
        message = f"{count} members, at most {limits.SEGMENT_MEMBERS_MAX}"
        hint = "split the segment"
    else:
        message = f"{wrong[:64]!r} can't be a member"
        hint = "write members as text of at least one character, without line breaks"
    return Problem(code="wrong-members", message=message, path=f"{path}/members", hint=hint)

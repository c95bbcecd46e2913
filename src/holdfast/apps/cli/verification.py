"""What `holdfast verify` does: this build against a journal, its probes and recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from holdfast import __version__
from holdfast.adapters.journal_copy import ReadOnly
from holdfast.apps.cli.store_copy import open_copy
from holdfast.core.errors import Damaged, HoldfastError, Invalid, Problem
from holdfast.core.evaluate import Evaluator
from holdfast.core.history import decode_entry
from holdfast.core.lineage import Standing, rebuild
from holdfast.core.model import Entry, Subject
from holdfast.core.replay import (
    Answered,
    Replayed,
    answered,
    evaluator_of,
    failed_probes,
    moved,
    published_in,
    replayed,
)
from holdfast.core.reproduce import Departure, NotReproducible, named
from holdfast.core.snapshot import Snapshot, decode
from holdfast.core.targeting.segments import SegmentTable
from holdfast.core.wire import UNREADABLE
from holdfast.ports import Imprint

DEPARTURES_MAX: Final = 1_000
"""Departures told; more are counted."""
RECORDS_MAX: Final = 1_000_000
LINE_BYTES_MAX: Final = 1024 * 1024


class FailedProbes(msgspec.Struct, frozen=True):
    """Settings of a snapshot whose probes do not come out by this build's evaluator."""

    environment: str
    service: str
    revision: int
    settings: tuple[str, ...]


class Moved(msgspec.Struct, frozen=True):
    """A recorded evaluation that comes out otherwise, or can't be repeated."""

    environment: str
    service: str
    revision: int
    key: str
    how: str


class Verification(msgspec.Struct, kw_only=True):
    """All that was found. `compared` counts snapshots; `unrecorded` those with no digest on record.

    `skipped` names settings that were not evaluated: the tables of their segments are not there.
    """

    build: str
    journal: str
    revision: int = 0
    entries: int = 0
    compared: int = 0
    unrecorded: int = 0
    probes: int = 0
    evaluations: int = 0
    recorded: int = 0
    departures: list[Departure] = []
    departed: int = 0
    failed_probes: list[FailedProbes] = []
    moved: list[Moved] = []
    skipped: list[str] = []
    ok: bool = True


def verify(
    at: str | Path,
    last: int,
    records: Sequence[Answered],
    tell: Callable[[int, int], None],
    password_file: Path | None = None,
) -> tuple[Verification, list[Answered]]:
    """Build the journal at `at` again and compare; `last` bounds how many revisions are built.

    `tell(done, all)` hears of the progress. Returns what was found, and the answers to all probes
    of the newest snapshots, for a file to check later builds against. Raises `Damaged` for a
    journal that is not whole.
    """
    with closing(open_copy(at, password_file)) as copy:
        head = copy.head.revision if copy.head else 0
        found = Verification(build=f"holdfast/{__version__}", journal=copy.name, revision=head)
        imprints, wrong = copy.imprints()
        if wrong:
            raise Damaged("; ".join(wrong[:5]))
        published = {
            **published_in(row.body for row in copy.rows()),
            **{(one.subject, one.revision): one.digest for one in _appended(imprints, copy)},
        }
        outlines = {one.digest: one.outline for one in imprints if one.outline}
        wanted = {(Subject(one.environment, one.service), one.revision) for one in records}
        bodies: dict[tuple[Subject, int], bytes] = {}
        standing = Standing()
        builds_after = min([head - last, *(revision - 1 for _, revision in wanted)])
        for one in replayed(_entries(copy), published, outlines, builds_after):
            _count(found, one)
            standing = one.standing
            for subject, body in one.bodies.items():
                if (subject, one.revision) in wanted:
                    bodies[subject, one.revision] = body
            tell(one.revision, head)
        newest = _newest(found, standing, outlines)
        made = _evaluate(found, copy, {**bodies, **newest}, newest.keys(), records)
    found.ok = not (found.departed or found.failed_probes or found.moved)
    return found, made


def _newest(
    found: Verification, standing: Standing, outlines: Mapping[str, bytes]
) -> dict[tuple[Subject, int], bytes]:
    """The newest body of every subject that is there, made by this build."""
    made, told = {}, {(one.environment, one.service, one.revision) for one in found.departures}
    for subject in sorted(standing.live):
        try:
            made[subject, standing.lineages[subject].revision] = rebuild(standing, subject)
        except NotReproducible as error:
            made[subject, standing.lineages[subject].revision] = error.bodies[subject]
            for one in error.departures:
                if (one.environment, one.service, one.revision) not in told:
                    found.departed += 1
                    outline = outlines.get(one.published, b"")
                    found.departures.append(named(one, outline, error.bodies[subject]))
        except HoldfastError:
            continue  # it can't be built; that was told where its revision was built again
    return made


def read_records(path: Path) -> list[Answered]:
    """The recorded evaluations of a file, one JSON object a line. Raises `Invalid`."""
    found = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number > RECORDS_MAX or len(line) > LINE_BYTES_MAX:
                raise _bad_record(path, number, "past the bound on lines or their length")
            try:
                found.append(msgspec.json.decode(line, type=Answered))
            except UNREADABLE as error:
                raise _bad_record(path, number, str(error)) from None
    return found


def write_records(path: Path, records: Sequence[Answered]) -> None:
    with path.open("wb") as out:
        for one in records:
            out.write(msgspec.json.encode(one) + b"\n")


def _bad_record(path: Path, line: int, message: str) -> Invalid:
    hint = "a line is one evaluation as holdfast verify --record writes it"
    return Invalid(
        [Problem(code="bad-record", message=message, file=str(path), line=line, hint=hint)]
    )


def _entries(copy: ReadOnly) -> Iterator[Entry]:
    for row in copy.rows():
        yield decode_entry(row.body, row.hash)


def _appended(imprints: Sequence[Imprint], copy: ReadOnly) -> Iterator[Imprint]:
    """Those whose entry is in the journal: others were never appended."""
    low = min((one.revision for one in imprints), default=1)
    hashes = {row.revision: row.hash for row in copy.rows(low - 1)}
    return (one for one in imprints if hashes.get(one.revision) == one.entry)


def _count(found: Verification, one: Replayed) -> None:
    found.entries += 1
    found.compared += one.compared
    found.unrecorded += one.unrecorded
    found.departed += len(one.departures)
    found.departures += one.departures[: max(0, DEPARTURES_MAX - len(found.departures))]


def _evaluate(
    found: Verification,
    copy: ReadOnly,
    bodies: Mapping[tuple[Subject, int], bytes],
    newest: Collection[tuple[Subject, int]],
    records: Sequence[Answered],
) -> list[Answered]:
    by_place: dict[tuple[Subject, int], list[Answered]] = {}
    for record in records:
        place = (Subject(record.environment, record.service), record.revision)
        by_place.setdefault(place, []).append(record)
    made: list[Answered] = []
    for place in sorted({*newest, *by_place}):
        ready = _ready(found, bodies[place], copy) if place in bodies else None
        if ready is not None:
            made += _probe(found, *ready) if place in newest else ()
            _repeat(found, by_place.get(place, ()), ready[1])
        elif place in by_place:
            found.moved += [_not_there(one) for one in by_place[place]]
    found.recorded = len(made)
    return made


def _ready(found: Verification, body: bytes, copy: ReadOnly) -> tuple[Snapshot, Evaluator] | None:
    snapshot, tables = decode(body), {}
    for name, facts in snapshot.holdfast.segments.items():
        table = copy.blob(facts.digest)
        if table is None:
            found.skipped.append(str(snapshot.subject))
            return None
        tables[name] = SegmentTable(table)
    return snapshot, evaluator_of(snapshot, tables)


def _probe(found: Verification, snapshot: Snapshot, evaluator: Evaluator) -> list[Answered]:
    total, failed = failed_probes(snapshot, evaluator)
    found.probes += total
    facts = snapshot.holdfast
    if failed:
        where = (facts.environment, facts.service, facts.revision)
        found.failed_probes.append(FailedProbes(*where, failed))
    return list(answered(snapshot, evaluator))


def _repeat(found: Verification, records: Sequence[Answered], evaluator: Evaluator) -> None:
    for record in records:
        found.evaluations += 1
        if how := moved(record, evaluator):
            where = (record.environment, record.service, record.revision, record.key)
            found.moved.append(Moved(*where, how))


def _not_there(record: Answered) -> Moved:
    where = (record.environment, record.service, record.revision, record.key)
    return Moved(*where, "this build has no such snapshot to evaluate it in")

"""What `holdfast audit verify` does: the journal against everything that left it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from holdfast.adapters.cache_copy import CacheCopy
from holdfast.adapters.ed25519 import verify
from holdfast.adapters.journal_copy import ReadOnly
from holdfast.apps.cli.api import Api
from holdfast.apps.cli.store_copy import open_copy
from holdfast.apps.control.fleet_schemas import FleetBody
from holdfast.core import audit
from holdfast.core.audit import Chain, Finding, Held, Seen
from holdfast.core.errors import Damaged, HoldfastError, Untrusted
from holdfast.core.history import decode_entry, encode_state
from holdfast.core.lineage import Standing, decode_standing
from holdfast.core.model import Entry, Subject
from holdfast.core.replay import published_in, replayed
from holdfast.core.roots import RootSet, decode_root_set
from holdfast.core.wire import UNREADABLE, Envelope
from holdfast.ports import Imprint

FLEET_PAGES_MAX: Final = 100
ROOTS_FILE: Final = Path("keys/roots.json")


class Audited(msgspec.Struct, kw_only=True):
    """All that was found. `heads` and `snapshots` count the evidence from outside of the store."""

    journal: str
    revision: int = 0
    hash: str = ""
    entries: int = 0
    snapshots_built: int = 0
    heads: int = 0
    snapshots: int = 0
    findings: list[Finding] = []
    ok: bool = True


class Evidence(msgspec.Struct):
    """What others hold: gathered first, judged when the journal has been read."""

    seen: list[Seen] = []
    held: list[Held] = []
    chains: list[tuple[str, Sequence[Envelope]]] = []
    pinned: list[tuple[str, RootSet]] = []
    findings: list[Finding] = []

    def add_cache(self, directory: Path) -> None:
        """A consumer's cache directory. Raises `Unavailable` when it is none."""
        cache = CacheCopy(directory)
        roots: list[RootSet] = []
        if pinned := cache.root():
            try:
                roots.append(decode_root_set(pinned))
                self.pinned.append((str(directory), roots[0]))
            except Untrusted as error:
                self.findings.append(audit.unproven(error, str(directory)))
        for path, body in cache.bundles():
            try:
                seen, held, chain, root = audit.of_bundle(path, body, verify)
            except HoldfastError as error:
                self.findings.append(audit.unproven(error, path))
                continue
            self.seen.append(seen)
            self.held.append(held)
            self.chains.append((path, chain))
            roots.append(root)
        for path, body in cache.freshness():
            try:
                self.seen.append(audit.of_freshness(path, body, roots, verify))
            except HoldfastError as error:
                self.findings.append(audit.unproven(error, path))
        for path in cache.damaged:
            self.findings.append(audit.unproven(Damaged("it is not what was written"), path))

    def add_root(self, path: Path) -> None:
        """A root document that was handed out. Raises `Untrusted` when it is none."""
        self.pinned.append((str(path), decode_root_set(path.read_bytes())))

    def add_fleet(self, api: Api) -> None:
        """What consumers told the control plane that they saw."""
        cursor: str | None = None
        for _ in range(FLEET_PAGES_MAX):
            page = api.call(FleetBody, "GET", "/v1/fleet", limit=500, cursor=cursor)
            for line in page.consumers:
                report = line.report
                by = f"{report.kind} {report.consumer[:16]} of {report.service}"
                self.seen += [Seen(one.revision, one.hash, by, False) for one in report.heads]
            cursor = page.cursor
            if cursor is None:
                return


def audited(
    at: str | Path,
    evidence: Evidence,
    last: int,
    tell: Callable[[int, int], None],
    password_file: Path | None = None,
) -> Audited:
    """Judge the journal at `at` by itself and by the evidence; it is only read."""
    with closing(open_copy(at, password_file)) as copy:
        try:
            chain = audit.chain(copy.rows(), copy.head, copy.witnessed)
        except Damaged as error:
            chain = Chain({}, (Finding("file", str(error)),))
        found = Audited(
            journal=copy.name,
            revision=chain.last,
            hash=chain.hashes.get(chain.last, ""),
            entries=len(chain.hashes),
            heads=len(evidence.seen),
            snapshots=len(evidence.held),
        )
        found.findings += chain.findings
        imprints, wrong = copy.imprints()
        found.findings += [Finding("record", text) for text in wrong]
        found.findings += _unknown_entries(chain, imprints)
        if not chain.findings:
            found.findings += _rebuilt(found, copy, imprints, evidence, last, tell)
        found.findings += audit.against_seen(chain.hashes, evidence.seen)
        found.findings += evidence.findings
    found.findings = sorted(set(found.findings), key=lambda one: (one.revision, one.code))
    found.ok = not any(one.severity == "error" for one in found.findings)
    del found.findings[audit.FINDINGS_MAX :]
    return found


def _unknown_entries(chain: Chain, imprints: Sequence[Imprint]) -> Iterator[Finding]:
    """Revisions at which the record of digests knows entries, and none of them is the journal's."""
    known: dict[int, set[str]] = {}
    for one in imprints:
        known.setdefault(one.revision, set()).add(one.entry)
    for revision, hashes in sorted(known.items()):
        if revision <= chain.last and chain.hashes.get(revision) not in hashes:
            message = f"the record of digests knows another entry {revision} than the journal"
            yield Finding("record", message, revision, "digests.db", "warning")
        elif revision > chain.last + 1:
            message = f"the record of digests knows entry {revision}: the journal ends before it"
            yield Finding("truncated", message, revision, "digests.db")


def _rebuilt(
    found: Audited,
    copy: ReadOnly,
    imprints: Sequence[Imprint],
    evidence: Evidence,
    last: int,
    tell: Callable[[int, int], None],
) -> Iterator[Finding]:
    """Everything built again: digests, roots, the checkpoint, the snapshots that others hold."""
    published = published_in(row.body for row in copy.rows())
    published.update({(one.subject, one.revision): one.digest for one in _firsts(imprints, found)})
    checkpoint, standing = _checkpoint(copy), Standing()
    made: dict[tuple[Subject, int], str] = {}
    try:
        outlines = {one.digest: one.outline for one in imprints if one.outline}
        for one in replayed(_entries(copy), published, outlines, found.revision - last):
            standing = one.standing
            found.snapshots_built += len(one.bodies)
            for subject, lineage in standing.lineages.items():
                made[subject, lineage.revision] = lineage.digest
            for departure in one.departures:
                yield Finding("digest", f"{departure}", departure.revision)
            if isinstance(checkpoint, Standing) and checkpoint.state.head == standing.state.head:
                yield from _same_checkpoint(checkpoint, standing)
            tell(one.revision, found.revision)
    except HoldfastError as error:
        at = standing.state.head.revision + 1
        yield Finding("entry", f"entry {at} can't be taken: {error}", at)
        return
    if isinstance(checkpoint, Finding):
        yield checkpoint
    yield from _roots(copy, standing, evidence)
    yield from audit.against_held(made, evidence.held)


def _firsts(imprints: Sequence[Imprint], found: Audited) -> Iterator[Imprint]:
    """The newest of the record: what no entry names yet. Older ones stand in the journal."""
    return (one for one in imprints if one.revision == found.revision and one.entry == found.hash)


def _entries(copy: ReadOnly) -> Iterator[Entry]:
    for row in copy.rows():
        yield decode_entry(row.body, row.hash)


def _checkpoint(copy: ReadOnly) -> Standing | Finding | None:
    kept = copy.checkpoint()
    try:
        return decode_standing(kept.body) if kept else None
    except Damaged as error:
        return Finding("checkpoint", f"{error}; delete it", kept.revision if kept else 0)


def _same_checkpoint(kept: Standing, standing: Standing) -> Iterator[Finding]:
    at = kept.state.head.revision
    same = encode_state(kept.state) == encode_state(standing.state)
    if not same or kept.lineages != standing.lineages:
        what = "another state" if not same else "other digests"
        message = f"the checkpoint at revision {at} holds {what} than its journal gives; delete it"
        yield Finding("checkpoint", message, at)


def _roots(copy: ReadOnly, standing: Standing, evidence: Evidence) -> Iterator[Finding]:
    ours = msgspec.convert(standing.state.roots, tuple[Envelope, ...])
    chains = list(evidence.chains)
    beside = copy.folder / ROOTS_FILE if copy.folder else None
    if beside is not None and beside.is_file():
        try:
            kept = msgspec.json.decode(beside.read_bytes(), type=tuple[Envelope, ...])
            chains.append((str(beside), kept))
        except UNREADABLE as error:
            yield Finding("root", f"{beside} holds no root documents: {error}", where=str(beside))
    yield from audit.against_roots(ours, chains, evidence.pinned, verify)

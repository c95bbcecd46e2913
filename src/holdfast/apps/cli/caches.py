"""The commands of a consumer's cache directory: `cache list`, `cache pin`, `cache unpin`.

They need nobody alive. A client or an edge on the directory sees a pin within a second or so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from holdfast.apps.cli.options import output_option
from holdfast.apps.cli.output import print_data, print_table, say

if TYPE_CHECKING:
    from holdfast.adapters.disk_cache import DiskCache
    from holdfast.core.generations import Pin, Record
    from holdfast.core.model import Subject


class KeptGeneration(NamedTuple):
    """One generation on disk; `trust` is proven, probation, pinned or refused."""

    subject: str
    revision: int
    digest: str
    bytes: int
    trust: str
    why: str = ""


@click.group()
def cache() -> None:
    """Look after the generations that a client or an edge keeps on disk."""


@cache.command("list")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@output_option()
def list_generations(directory: Path, output: str) -> None:
    """Show what the cache in DIRECTORY holds, and how far each generation is trusted.

    \b
    Example:
      holdfast cache list .holdfast/edge
    """
    found = list(_generations(_open(directory)))
    if not print_data([one._asdict() for one in found], output):
        print_table(
            ["subject", "revision", "digest", "bytes", "trust", "why"],
            ((g.subject, g.revision, g.digest[:12], g.bytes, g.trust, g.why) for g in found),
        )


@cache.command("pin")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("subject", metavar="ENVIRONMENT/SERVICE")
@click.argument("revision", type=click.IntRange(min=1))
@click.option("--reason", default="", help="Why; it is shown with the pin.")
def pin_revision(directory: Path, subject: str, revision: int, reason: str) -> None:
    """Hold all who use DIRECTORY to one REVISION, whatever upstreams say, until `unpin`.

    \b
    Example:
      holdfast cache pin .holdfast/edge production/shop 41 --reason "incident 7"
    """
    from holdfast.core import generations

    kept, named = _open(directory), _subject(subject)
    there = [one.revision for one in _generations(kept) if one.subject == str(named)]
    if revision not in there:
        known = ", ".join(map(str, there)) or "none"
        raise click.ClickException(
            f"Revision {revision} of {named} is not in {directory}; there are: {known}."
        )
    pin = generations.Pin(revision, reason, int(time.time() * 1000))
    _note(kept, generations.pinned(_pins(kept), named, pin))
    say(f"{named} is pinned to revision {revision}.", fg="green")


@cache.command("unpin")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("subject", metavar="ENVIRONMENT/SERVICE")
def unpin_revision(directory: Path, subject: str) -> None:
    """Follow again. What was refused here gets another chance.

    \b
    Example:
      holdfast cache unpin .holdfast/edge production/shop
    """
    from holdfast.core import generations

    kept, named = _open(directory), _subject(subject)
    if str(named) not in _pins(kept):
        raise click.ClickException(f"{named} is not pinned in {directory}.")
    _note(kept, generations.unpinned(_pins(kept), named))
    say(f"{named} is pinned no more.", fg="green")


def _open(directory: Path) -> DiskCache:
    from holdfast.adapters.disk_cache import DiskCache

    if not (directory / "holdfast-1").is_dir():
        raise click.ClickException(
            f"There is no cache in {directory}: give the cache directory of a client or an edge."
        )
    return DiskCache(directory)


def _subject(text: str) -> Subject:
    from holdfast.core.model import Subject

    environment, slash, service = text.partition("/")
    if not (environment and slash and service):
        raise click.UsageError(f"{text!r} is not ENVIRONMENT/SERVICE, as in production/shop.")
    return Subject(environment, service)


def _pins(kept: DiskCache) -> dict[str, Pin]:
    from holdfast.core import generations

    return generations.decode_pins(kept.noted(generations.PINS_NAME))


def _note(kept: DiskCache, pins: dict[str, Pin]) -> None:
    from holdfast.core import generations

    kept.note(generations.PINS_NAME, generations.encode(pins))


def _generations(kept: DiskCache) -> Iterator[KeptGeneration]:
    """All of them, newest first for each subject; what can't be read is left out."""
    from holdfast.core import generations
    from holdfast.core.bundle import decode_bundle
    from holdfast.core.errors import Untrusted
    from holdfast.core.snapshot import decode
    from holdfast.core.wire import digest

    pins = _pins(kept)
    for subject in kept.subjects():
        record = generations.decode_record(kept.noted(generations.record_name(subject)))
        for bundle in kept.load(subject):
            try:
                body = decode_bundle(bundle).snapshot
                revision = decode(body).holdfast.revision
            except Untrusted:
                continue
            name = digest(body)
            trust, why = _trust(record, pins.get(str(subject)), revision, name)
            yield KeptGeneration(str(subject), revision, name, len(bundle), trust, why)


def _trust(record: Record, pin: Pin | None, revision: int, digest: str) -> tuple[str, str]:
    refusal = record.refusal_of(digest)
    if pin is not None and pin.revision == revision:
        return "pinned", pin.reason
    if refusal is not None:
        return "refused", f"{refusal.code}: {refusal.message}"
    return ("proven" if record.proven == digest else "probation"), ""

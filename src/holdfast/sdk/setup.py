"""From a client's settings to its follower: which cache, which sources, which roots."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.core.errors import Invalid, Problem, Untrusted
from holdfast.core.model import Subject
from holdfast.core.pacing import UNSIGNED
from holdfast.core.roots import RootSet, decode_root_set
from holdfast.core.snapshot import Pacing
from holdfast.core.trust import EVERY_CHECK, NO_CHECKS
from holdfast.core.wire import canonical, decode_envelope, digest
from holdfast.ports import Cache, Fetched, Hints
from holdfast.sdk.follower import Follower, Following
from holdfast.sdk.forks import import_http
from holdfast.sdk.reporting import Reporting, sender
from holdfast.sdk.settings import UNPROTECTED, ClientSettings
from holdfast.sdk.trials import Host

_log: Final = logging.getLogger("holdfast")


def loud(message: str) -> None:
    """A warning that somebody should read: logged under `holdfast`."""
    _log.warning(message)


def quiet(message: str) -> None:
    _log.info(message)


class LaterSource:
    """An upstream over HTTP whose code is loaded when it is first asked, in a follower's thread."""

    def __init__(self, base_url: str, token: str) -> None:
        self.name = base_url
        self._make = partial(_http_source, base_url, token)
        self._source: Any = None

    def within(self, total_s: float) -> None:
        self._made().within(total_s)

    def catalogue(self) -> Any:
        return self._made().catalogue()

    def snapshot(self, subject: Subject, have: str | None) -> Fetched:
        fetched: Fetched = self._made().snapshot(subject, have)
        return fetched

    def segment(self, subject: Subject, digest: str) -> bytes:
        return bytes(self._made().segment(subject, digest))

    def hints(self) -> Hints:
        hints: Hints = self._made().hints()
        return hints

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    def _made(self) -> Any:
        if self._source is None:
            self._source = self._make()
        return self._source


def follower_for(
    settings: ClientSettings, used: Callable[[Subject], bool], **callbacks: Any
) -> Follower:
    """The follower of one subject, not started; `callbacks` are those of `Following`."""
    if settings.unprotected:
        loud(f"{UNPROTECTED} is set: whatever is signed is believed, nothing is checked")
    root = trusted(settings.root) if settings.root else None
    return Follower(
        Following(
            sources=lambda: [LaterSource(url, settings.token) for url in settings.endpoints],
            cache=_cache(settings.cache_dir),
            verify=verify,
            subjects=(settings.subject,),
            root=root,
            poll_interval_s=settings.poll_interval_s,
            streams=settings.streams,
            contract=settings.contract,
            host=Host(probation_s=settings.probation_s, health=settings.health, used=used),
            checks=NO_CHECKS if settings.unprotected else EVERY_CHECK,
            gentle=not settings.unprotected,
            **callbacks,
        )
    )


def reporting_for(settings: ClientSettings, follower: Follower) -> Reporting | None:
    """The client's telemetry, not started; none when it is switched off."""
    if not settings.reports:
        return None

    def contract() -> Pacing:
        held = follower.generation(settings.subject)
        return held.snapshot.holdfast.pacing if held is not None else UNSIGNED

    return Reporting(
        follower,
        settings.subject,
        send=sender(settings.token, contract),
        application=settings.application,
        ring=settings.ring,
        contract=digest(canonical(settings.contract)) if settings.contract else "",
    )


def _cache(directory: str) -> Cache:
    if not directory:
        loud("no cache_dir: after a restart with everything dead there will be no settings")
        return MemoryCache()
    from holdfast.adapters.disk_cache import DiskCache  # late: who has no disk needs none of it

    return DiskCache(directory, patient=True)  # what is wrong with it is told when it is tried


def _http_source(base_url: str, token: str) -> Any:
    return import_http().HttpSource(base_url, token)


def trusted(text: str) -> RootSet:
    """The roots in a root document, in its envelope, or in the last one of a chain of envelopes.

    Who gives them is believed: no signature is asked for. Raises `Invalid`.
    """
    try:
        document = msgspec.json.decode(text)
        if isinstance(document, list) and document:
            document = document[-1]
        if isinstance(document, dict) and "payload" in document:
            return decode_root_set(decode_envelope(canonical(document)).body())
        return decode_root_set(canonical(document))
    except (msgspec.DecodeError, RecursionError, Untrusted, Invalid) as error:
        hint = "give what `holdfast keys show` prints"
        problem = Problem(code="argument", message=str(error), path="/root", hint=hint)
        raise Invalid([problem]) from None

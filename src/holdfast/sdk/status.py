"""How a client is doing, and how a follower is, in frozen structs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from holdfast.core.model import Subject
from holdfast.core.reports import Refusal, Trust
from holdfast.core.snapshot import Freshness
from holdfast.sdk.evaluation import Origin, View

State: TypeAlias = Literal["starting", "ready", "stale", "closed"]


class SubjectStatus(msgspec.Struct, frozen=True):
    """`age_s` is how long ago its freshness last advanced; none if it never did in this process.

    - `trust`, and `since_ms` when it began to answer, in unix milliseconds.
    - `refusals`: the last candidates that were not activated, newest last.
    - `crashes`: how often a crash streak sent a generation back, over all processes of the cache.
    """

    revision: int
    digest: str
    age_s: float | None
    stale: bool
    freshness: Freshness | None
    trust: Trust = "none"
    since_ms: int = 0
    refusals: tuple[Refusal, ...] = ()
    crashes: int = 0


class FollowerStatus(msgspec.Struct, frozen=True):
    """A moment of a follower. `upstream` is the name of the one in use, `counts` only grow.

    `last_error_age_s`: how long ago `last_error` was, which stays; none if nothing went wrong.
    """

    upstream: str
    streaming: bool
    subjects: Mapping[Subject, SubjectStatus]
    last_error: str
    last_error_age_s: float | None
    cache_error: str
    root_version: int
    root_development: bool
    pinned_by_sight: bool
    counts: Mapping[str, int]


class ClientStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of a client.

    - `state`: `starting` until there are settings (bundled defaults don't count), then `ready`, or
      `stale` while nobody can say that they are the newest; `closed` after `close`. A stale client
      answers as a ready one does.
    - `origin`: where the settings in use come from.
    - `revision`, `digest`: of the settings in use; 0 and empty where they have none.
    - `age_s`: since the freshness of the settings last advanced; none if it didn't in this process.
    - `endpoint`: the one in use; empty without any. `streaming`: whether it sends hints now.
    - `last_error`: the last thing that went wrong while following, empty if nothing did; it stays
      after a recovery, and `last_error_age_s` says how long ago it was (none if nothing did);
      `cache_error`: why the disk can't be used, empty while it can.
    - `root_development`: the trusted keys are made for development; `root_pinned_by_sight`: no root
      was given, so that the first one seen is trusted.
    - `trust`: how far the settings in use are trusted; `refusals` the last ones that were not put
      into use, newest last; `crashes` how often a crash streak went back.
    - `counts`: asked, answered, refused, failed, activated, cache_damaged, type_mismatch,
      not_found, errors and others; they only grow.
    """

    state: State
    origin: Origin
    revision: int = 0
    digest: str = ""
    age_s: float | None = None
    endpoint: str = ""
    streaming: bool = False
    last_error: str = ""
    last_error_age_s: float | None = None
    cache_error: str = ""
    root_version: int = 0
    root_development: bool = False
    root_pinned_by_sight: bool = False
    trust: Trust = "none"
    refusals: tuple[Refusal, ...] = ()
    crashes: int = 0
    counts: Mapping[str, int] = {}


def status_of(
    view: View,
    subject: Subject,
    state: State,
    follower: FollowerStatus | None,
    problems: Mapping[str, int],
) -> ClientStatus:
    """The status of a client that answers from `view`, and follows by `follower` if at all."""
    if follower is None:
        return ClientStatus(
            state=state,
            origin=view.origin,
            revision=view.revision,
            digest=view.digest,
            counts=dict(problems),
        )
    mine = follower.subjects.get(subject)
    return ClientStatus(
        state=state,
        origin=view.origin,
        revision=view.revision,
        digest=view.digest,
        age_s=mine.age_s if mine else None,
        endpoint=follower.upstream,
        streaming=follower.streaming,
        last_error=follower.last_error,
        last_error_age_s=follower.last_error_age_s,
        cache_error=follower.cache_error,
        root_version=follower.root_version,
        root_development=follower.root_development,
        root_pinned_by_sight=follower.pinned_by_sight,
        trust=mine.trust if mine else "none",
        refusals=mine.refusals if mine else (),
        crashes=mine.crashes if mine else 0,
        counts={**follower.counts, **problems},
    )

"""How a client is doing, in one frozen struct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from holdfast.sdk.evaluation import Origin

State: TypeAlias = Literal["starting", "ready", "stale", "closed"]


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
    counts: Mapping[str, int] = {}

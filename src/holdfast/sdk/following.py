"""What a follower is told: what to follow, from where, what to believe, whom to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from holdfast.core.conversation import Report
from holdfast.core.model import Contract, Subject
from holdfast.core.roots import RootSet
from holdfast.core.trust import EVERY_CHECK, Checks, Generation
from holdfast.core.wire import Verify
from holdfast.ports import Cache, Source
from holdfast.sdk.trials import Host


def _pass_over(*_: object) -> None:
    """The callback of who doesn't want to know."""


class Following(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow, from where, and whom to tell.

    - `sources` makes the upstreams, preferred one first: at the start, and again after a fork.
    - `subjects` are followed, and with `catalogue` all that the upstream names.
    - `root`: the roots to trust; none pins the first ones seen, in `cache`.
    - Callbacks run on the follower's thread (`on_activate`, `on_root` also in `start`); what they
      raise is counted as `callbacks_failed`. `on_activate(subject, generation)`: it answers from
      now on. `on_fresh(subject, envelope)`: a newer freshness statement came. `on_report(report)`:
      an answer was refused. `on_root(roots, seen_first)`: these are trusted from now on, by sight
      if `seen_first`. `on_step()`: something happened.
    - `poll_interval_s` overrides the interval that the snapshots ask for; `gentle` off, in game
      days alone, asks without jitter, budget and throttle.
    - `contract` is what the host reads; a candidate that doesn't have it is refused. `host` says
      when a generation is proven; `checks` are all, but in tests and game days.
    """

    sources: Callable[[], Sequence[Source]]
    cache: Cache
    verify: Verify
    subjects: tuple[Subject, ...] = ()
    catalogue: bool = False
    root: RootSet | None = None
    on_activate: Callable[[Subject, Generation], None] = _pass_over
    on_fresh: Callable[[Subject, bytes], None] = _pass_over
    on_report: Callable[[Report], None] = _pass_over
    on_root: Callable[[RootSet, bool], None] = _pass_over
    on_step: Callable[[], None] = _pass_over
    poll_interval_s: float | None = None
    streams: bool = True
    contract: Contract | None = None
    host: Host = Host()
    checks: Checks = EVERY_CHECK
    gentle: bool = True

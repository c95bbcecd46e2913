"""The follower on scripted upstreams: from disk, over failures, through hints, to a clean end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.sdk.publisher import SHOP, Publisher, Signer
from tests.sdk.waiting import until

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.adapters.memory_source import MemorySource
from holdfast.core.errors import Unauthenticated, Unavailable
from holdfast.core.follow import POLL_INTERVAL_MIN_S
from holdfast.core.model import Subject
from holdfast.core.trust import Generation
from holdfast.sdk import follower as follower_module
from holdfast.sdk.follower import Follower, Following

MAIL = Subject("production", "mail")


class Rig:
    """Publishers, upstreams, one cache, and followers that come and go."""

    def __init__(self) -> None:
        self.cache = MemoryCache()
        self.publisher = Publisher()
        self.sources = [MemorySource("first"), MemorySource("second")]
        self.activated: list[tuple[Subject, int]] = []
        self.fresh: list[bytes] = []
        self.reports: list[str] = []
        self.now_s: float | None = None
        self._followers: list[Follower] = []

    def publish(self, *upstreams: int, **settings: Any) -> None:
        bundle, sealed = self.publisher.publish(**settings), self.publisher.fresh()
        for upstream in upstreams or (0, 1):
            source = self.sources[upstream]
            source.put(self.publisher.subject, self.publisher.digest, bundle, sealed)
            source.hint(self.publisher.subject, self.publisher.digest)

    def follower(self, **changes: Any) -> Follower:
        asked: dict[str, Any] = {
            "sources": lambda: self.sources,
            "cache": self.cache,
            "verify": verify,
            "subjects": (SHOP,),
            "on_activate": self._on_activate,
            "on_fresh": lambda _, sealed: self.fresh.append(sealed),
            "on_report": lambda report: self.reports.append(report.code),
            "poll_interval_s": 0.05,
            **changes,
        }
        follower = Follower(Following(**asked))
        self._followers.append(follower)
        return follower

    def start(self, **changes: Any) -> Follower:
        follower = self.follower(**changes)
        follower.start()
        return follower

    def close(self) -> None:
        for follower in self._followers:
            follower.close()

    def _on_activate(self, subject: Subject, generation: Generation) -> None:
        self.activated.append((subject, generation.revision))


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def answer(follower: Follower, key: str = "tiles", subject: Subject = SHOP) -> Any:
    generation = follower.generation(subject)
    return generation.evaluator.evaluate(key).value if generation else None


def test_it_follows(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    assert follower.wait_for(SHOP, 20)
    assert answer(follower) == 9
    rig.publish(tiles=49)
    until(lambda: answer(follower) == 49)
    assert rig.activated == [(SHOP, 1), (SHOP, 2)]


def test_there_is_nothing_to_wait_for_before_the_host_was_told(rig: Rig) -> None:
    """Else somebody who waited would be answered from what the host had before."""
    rig.publish(tiles=9)
    telling, told = threading.Event(), threading.Event()

    def tell(*_: object) -> None:
        telling.set()
        told.wait(20)

    follower = rig.follower(on_activate=tell)
    follower.start()
    assert telling.wait(20)
    assert follower.generation(SHOP) is not None
    assert not follower.wait_for(SHOP, 0)
    told.set()
    assert follower.wait_for(SHOP, 20)


def test_hints_bring_changes_long_before_the_poll(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(poll_interval_s=3600)
    until(lambda: follower.status().streaming and answer(follower) == 9)
    for tiles in (10, 11, 12):
        rig.publish(tiles=tiles)
        until(lambda tiles=tiles: answer(follower) == tiles)


def test_without_streams_polls_do(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(streams=False)
    until(lambda: answer(follower) == 9)
    rig.publish(tiles=49)
    until(lambda: answer(follower) == 49)
    assert not follower.status().streaming


def test_a_start_with_everything_dead_answers_from_disk(rig: Rig) -> None:
    rig.publish(tiles=9)
    first = rig.start()
    until(lambda: list(rig.cache.load(SHOP)))
    first.close()
    rig.sources = [MemorySource(), MemorySource()]
    for source in rig.sources:
        source.fail(Unavailable("dead"))
    second = rig.start()
    assert answer(second) == 9, "at once: start restores before it returns"
    assert second.is_stale(SHOP)
    until(lambda: second.status().counts.get("failed"))
    assert answer(second) == 9


def test_it_catches_up_after_an_outage_and_never_goes_back(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: answer(follower) == 9)
    for source in rig.sources:
        source.fail(Unavailable("dead"))
    until(lambda: follower.status().counts.get("failed"))
    assert answer(follower) == 9
    rig.publish(tiles=49)
    for source in rig.sources:
        source.fail(None)
    until(lambda: answer(follower) == 49)
    assert rig.activated == sorted(rig.activated)


def test_a_dead_upstream_is_left_for_the_other(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: answer(follower) == 9)
    rig.sources[0].fail(Unavailable("dead"))
    rig.publish(1, tiles=49)
    until(lambda: answer(follower) == 49)
    assert follower.status().upstream == "second"


def test_a_lagging_upstream_takes_nobody_back(rig: Rig) -> None:
    rig.publish(tiles=9)
    rig.publish(0, tiles=49)
    follower = rig.start()
    until(lambda: answer(follower) == 49)
    rig.sources[0].fail(Unavailable("dead"))
    until(lambda: "rollback" in rig.reports)
    assert answer(follower) == 49


def test_a_restart_takes_nobody_back(rig: Rig) -> None:
    rig.publish(tiles=9)
    rig.publish(0, tiles=49)
    first = rig.start()
    until(lambda: answer(first) == 49)
    until(lambda: list(rig.cache.load(SHOP)))
    first.close()
    lagging = rig.sources[1]
    lagging.error = None
    rig.sources = [lagging]
    second = rig.start()
    until(lambda: "rollback" in rig.reports)
    assert answer(second) == 49


def test_a_lie_is_reported_once_and_the_honest_one_followed(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: answer(follower) == 9)
    rig.publish(1, tiles=49)
    key, rig.publisher.key = rig.publisher.key, Signer(66)
    rig.sources[0].put(SHOP, "f" * 64, rig.publisher.bundle(rig.publisher.snapshot()))
    rig.publisher.key = key
    until(lambda: answer(follower) == 49)
    until(lambda: follower.status().counts["asked"] > 20)
    assert rig.reports == ["signature"]
    assert follower.status().last_error


def test_a_refused_candidate_is_not_kept(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: list(rig.cache.load(SHOP)))
    kept = list(rig.cache.load(SHOP))
    for source in rig.sources:
        source.put(SHOP, "f" * 64, b"rubbish")
    until(lambda: rig.reports)
    assert list(rig.cache.load(SHOP)) == kept
    assert answer(follower) == 9


def test_a_delta_that_does_not_fit_is_made_up_for(rig: Rig) -> None:
    class Deltas(MemorySource):
        def snapshot(self, subject: Subject, have: str | None) -> Any:
            fetched = super().snapshot(subject, have)
            if have is None or fetched.body is None:
                return fetched
            return type(fetched)(rig.publisher.delta(), fetched.freshness)

    rig.sources = [Deltas()]
    rig.publish(0, tiles=9, **{f"setting_{n}": "text" * 20 for n in range(20)})
    follower = rig.start(poll_interval_s=3600)
    until(lambda: answer(follower) == 9 and follower.status().streaming)
    bundle = rig.publisher.publish(tiles=10)
    rig.publish(0, tiles=11)  # now the delta on offer is from a revision that nobody saw
    until(lambda: answer(follower) == 11)
    assert bundle not in list(rig.cache.load(SHOP))


def test_freshness_makes_fresh_and_silence_makes_stale(rig: Rig) -> None:
    clock = [1000.0]
    rig.publish(tiles=9)
    follower = Follower(
        Following(
            sources=lambda: rig.sources, cache=rig.cache, verify=verify, subjects=(SHOP,),
            poll_interval_s=0.05,
        ),
        lambda: clock[0],
    )  # fmt: skip
    follower.start()
    until(lambda: answer(follower) == 9)
    assert not follower.is_stale(SHOP)
    clock[0] += 91
    assert follower.is_stale(SHOP)
    follower.close()


def test_stale_as_soon_as_no_upstream_answers(rig: Rig) -> None:
    """Not only after `stale_after_s`: who kills everything sees the label within seconds."""
    rig.publish(tiles=9)
    follower = rig.start(streams=False)
    until(lambda: answer(follower) == 9)
    assert not follower.is_stale(SHOP)
    for source in rig.sources:
        source.fail(Unavailable("gone"))
    until(lambda: follower.is_stale(SHOP))
    assert answer(follower) == 9
    for source in rig.sources:
        source.fail(None)
    until(lambda: not follower.is_stale(SHOP))


def test_a_frozen_upstream_is_stale_and_left(rig: Rig) -> None:
    """It answers `nothing new` for ever, and its freshness statements stand still."""
    rig.publisher.pacing = type(rig.publisher.pacing)(stale_after_s=0)
    rig.publish(tiles=9)
    follower = rig.start(streams=False)
    until(lambda: answer(follower) == 9)
    rig.publish(1, tiles=49)
    until(lambda: answer(follower) == 49)
    assert "frozen" in rig.reports


def test_an_old_statement_makes_nothing_fresh_after_a_restart(rig: Rig) -> None:
    """Who may replay what was once said could else hide for good that there is something newer."""
    rig.publish(tiles=9)
    first = rig.start(streams=False)
    until(lambda: not first.is_stale(SHOP) and bool(rig.cache.names("freshness.")))
    first.close()
    for source in rig.sources:
        source.fail(None)
    second = rig.start(streams=False)
    until(lambda: "frozen" in rig.reports)
    assert second.is_stale(SHOP)
    rig.publish(tiles=9)
    until(lambda: not second.is_stale(SHOP))


def test_on_fresh_hands_the_statement_on(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: rig.fresh)
    newer = rig.publisher.fresh()
    rig.sources[0].put(SHOP, rig.publisher.digest, b"", newer)
    until(lambda: rig.fresh[-1] == newer)
    assert follower.freshness(SHOP) == newer


def test_rotated_keys_are_learnt_without_a_new_revision(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: answer(follower) == 9)
    rig.publisher.rotate(Signer(50))
    bundle = rig.publisher.bundle(rig.publisher.snapshot(previous=None))
    for source in rig.sources:
        source.put(SHOP, rig.publisher.digest, bundle, rig.publisher.fresh())
    until(lambda: follower.status().root_version == 2)
    assert not follower.is_stale(SHOP)


def test_rotated_keys_are_learnt_from_who_answers_nothing_but_whole(rig: Rig) -> None:
    """Some caches answer every conditional question with all that they have."""
    rig.sources = [Forgetful()]
    rig.publish(0, tiles=9)
    follower = rig.start()
    until(lambda: answer(follower) == 9)
    rig.publisher.rotate(Signer(50))
    bundle = rig.publisher.bundle(rig.publisher.snapshot(previous=None))
    rig.sources[0].put(SHOP, rig.publisher.digest, bundle, rig.publisher.fresh())
    until(lambda: follower.status().root_version == 2)
    until(lambda: not follower.is_stale(SHOP))
    assert not rig.reports


class Forgetful(MemorySource):
    """Answers as if it was never told what its asker has."""

    def snapshot(self, subject: Subject, have: str | None) -> Any:
        return super().snapshot(subject, None)


def test_the_first_root_seen_is_pinned_over_restarts(rig: Rig) -> None:
    rig.publish(tiles=9)
    first = rig.start()
    until(lambda: rig.cache.noted("root"))
    first.close()
    impostor = MemorySource()
    other = Publisher(seed=7)
    other.publish(tiles=9)
    impostor.put(SHOP, "f" * 64, other.publish(tiles=666))
    rig.sources = [impostor]
    second = rig.start()
    until(lambda: "root-forked" in rig.reports)
    assert answer(second) == 9
    assert second.status().pinned_by_sight


def test_the_catalogue_is_followed(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(subjects=(), catalogue=True)
    until(lambda: answer(follower) == 9)
    rig.publisher = Publisher(MAIL)
    rig.publish(quota=7)
    until(lambda: answer(follower, "quota", MAIL) == 7)
    assert sorted(follower.subjects()) == [SHOP, MAIL]


def test_a_catalogue_follower_restores_all_it_knew(rig: Rig) -> None:
    rig.publish(tiles=9)
    first = rig.start(subjects=(), catalogue=True)
    until(lambda: list(rig.cache.load(SHOP)))
    first.close()
    rig.sources = [MemorySource()]
    rig.sources[0].fail(Unavailable("dead"))
    assert answer(rig.start(subjects=(), catalogue=True)) == 9


def test_one_bad_service_leaves_the_others_alone(rig: Rig) -> None:
    rig.publish(tiles=9)
    rig.publisher = Publisher(MAIL)
    rig.publish(quota=7)
    for source in rig.sources:
        source.put(SHOP, "f" * 64, b"rubbish")
    follower = rig.start(subjects=(), catalogue=True)
    until(lambda: answer(follower, "quota", MAIL) == 7)
    until(lambda: "bundle" in rig.reports)
    rig.publish(quota=8)
    until(lambda: answer(follower, "quota", MAIL) == 8)


def test_an_error_of_ours_ends_no_thread(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.core import trust

    rig.publish(tiles=9)
    with monkeypatch.context() as patch:
        patch.setattr(trust, "equip", lambda *_: 1 / 0)
        follower = rig.start()
        until(lambda: "defect" in rig.reports)
    until(lambda: answer(follower) == 9)


class Defective(MemorySource):
    """An upstream on which our own code fails, as on an answer that nobody thought of."""

    defects = 0

    def catalogue(self) -> Any:
        if self.defects < 3:
            self.defects += 1
            raise RecursionError("too deep")
        return super().catalogue()

    def hints(self) -> Any:
        if self.defects < 3:
            raise RecursionError("too deep")
        return super().hints()


def test_a_defect_in_a_catalogue_or_a_stream_ends_no_thread(rig: Rig) -> None:
    rig.sources = [Defective()]
    rig.publish(0, tiles=9)
    follower = rig.start(subjects=(), catalogue=True)
    until(lambda: answer(follower) == 9 and follower.status().streaming)
    assert follower.status().counts["failed"] >= 3


class Flooding(MemorySource):
    """Tells of changes without an end, and of which ones makes no difference."""

    told = 0

    def hints(self) -> Any:
        return self

    def __iter__(self) -> Iterator[dict[Subject, str]]:
        while self.error is None:
            self.told += 1
            yield {MAIL: "f" * 64}


def test_a_flood_of_hints_is_bounded_and_stops_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "HINTS_WAITING_MAX", 100)
    rig.sources = [Flooding()]
    rig.publish(0, tiles=9)
    follower = rig.start()
    until(lambda: answer(follower) == 9 and follower.counts["hints_dropped"] > 0)
    rig.publish(0, tiles=10)
    until(lambda: answer(follower) == 10)
    rig.sources[0].fail(Unavailable("over"))


def test_hints_do_not_wait_until_nothing_else_is_due(rig: Rig) -> None:
    """With more subjects than one interval can ask for, there is always another answer."""
    busy = [Subject("production", f"busy-{n}") for n in range(400)]
    rig.sources = [Slow()]
    rig.publish(0, tiles=9)
    asked: list[int] = []
    follower = rig.follower(
        subjects=(SHOP, *busy),
        poll_interval_s=POLL_INTERVAL_MIN_S,
        on_activate=lambda *_: asked.append(follower.counts["asked"]),
    )
    follower.start()
    until(lambda: answer(follower) == 9 and follower.status().streaming)
    took: list[int] = []
    for tiles in range(10, 19):
        asked.clear()
        rig.publish(0, tiles=tiles)
        before = follower.counts["asked"]
        until(lambda: asked)
        took.append(asked[0] - before)
    # Some may wait: who reads the stream may be held up, and polls go on meanwhile.
    assert sorted(took)[5] < 100, "a round of polls is four times as much"


class Slow(MemorySource):
    """Takes its time for each answer: the polls that are due never come to an end."""

    def snapshot(self, subject: Subject, have: str | None) -> Any:
        threading.Event().wait(0.002)
        return super().snapshot(subject, have)


def test_a_callback_that_raises_ends_no_thread(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(on_activate=lambda *_: 1 / 0)
    until(lambda: answer(follower) == 9)
    rig.publish(tiles=49)
    until(lambda: answer(follower) == 49)
    assert follower.counts["callbacks_failed"] >= 2


def test_a_wrong_token_is_said(rig: Rig) -> None:
    for source in rig.sources:
        source.fail(Unauthenticated("no such token"))
    follower = rig.start()
    until(lambda: "no such token" in follower.status().last_error)


def test_how_long_ago_something_went_wrong_is_said(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: answer(follower) == 9)
    assert (follower.status().last_error, follower.status().last_error_age_s) == ("", None)
    for source in rig.sources:
        source.fail(Unavailable("away"))
    until(lambda: follower.status().last_error_age_s is not None)
    for source in rig.sources:
        source.error = None
    rig.publish(tiles=49)
    until(lambda: answer(follower) == 49)
    seen_s = follower.status().last_error_age_s
    assert seen_s is not None
    assert follower.status().last_error
    until(lambda: (follower.status().last_error_age_s or 0) > seen_s)


def test_it_sleeps_between_events(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(poll_interval_s=3600)
    until(lambda: answer(follower) == 9 and follower.status().streaming)
    steps: list[int] = []
    step = follower._machine.step
    follower._machine.step = lambda *args: (steps.append(1), step(*args))[1]  # type: ignore[method-assign]
    assert not threading.Event().wait(1.5)
    assert len(steps) <= 6


def test_close_ends_both_threads(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start()
    until(lambda: follower.status().streaming and answer(follower) == 9)
    follower.close()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("holdfast")])
    assert answer(follower) == 9

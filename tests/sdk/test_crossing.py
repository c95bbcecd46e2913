"""What comes between a candidate's proof and its activation: a push, a step back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.sdk.publisher import SHOP, Publisher
from tests.sdk.waiting import until

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.adapters.memory_source import MemorySource
from holdfast.sdk.follower import Follower, Following
from holdfast.sdk.handed import Offer
from holdfast.sdk.trials import Host


class Meanwhile(MemorySource):
    """While its next answer is on the way, something else happens."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[], None] | None = None

    def snapshot(self, subject: Any, have: str | None) -> Any:
        fetched = super().snapshot(subject, have)
        if fetched.body is not None and self.then is not None:
            then, self.then = self.then, None
            then()
        return fetched


class Rig:
    """One publisher, one upstream, one follower that has revision 2, and 1 on disk."""

    def __init__(self) -> None:
        self.publisher = Publisher()
        self.source = Meanwhile()
        self.publish(tiles=1)
        self.follower = Follower(
            Following(
                sources=lambda: (self.source,),
                cache=MemoryCache(),
                verify=verify,
                subjects=(SHOP,),
                poll_interval_s=0.05,
                host=Host(probation_s=3600),
            )
        )
        self.follower.start()
        until(lambda: self.revision == 1)
        self.publish(tiles=2)
        until(lambda: self.revision == 2)

    @property
    def revision(self) -> int:
        generation = self.follower.generation(SHOP)
        return generation.revision if generation else 0

    def publish(self, **settings: Any) -> bytes:
        bundle = self.publisher.publish(**settings)
        self.source.put(SHOP, self.publisher.digest, bundle, self.publisher.fresh())
        return bundle


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.follower.close()


def test_a_push_between_an_answer_and_its_activation_stops_nobody(rig: Rig) -> None:
    told: list[Any] = []
    pushed = rig.publisher.publish(tiles=3)
    rig.source.then = lambda: rig.follower.offer(Offer(SHOP, pushed, told.append))
    rig.publish(tiles=4)
    until(lambda: rig.revision == 4)
    assert told
    rig.publish(tiles=5)
    until(lambda: rig.revision == 5)


def test_a_step_back_between_an_answer_and_its_activation_stops_nobody(rig: Rig) -> None:
    active = rig.follower.generation(SHOP)
    assert active is not None
    digest = active.digest
    rig.source.then = lambda: rig.follower.put_away(SHOP, digest, "defect", "it can't be laid out")
    rig.publish(tiles=3)
    until(lambda: rig.revision == 3)
    rig.publish(tiles=4)
    until(lambda: rig.revision == 4)

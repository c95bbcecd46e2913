"""A follower and a control plane whose clock was ahead for a while."""

from __future__ import annotations

import time

from tests.sdk.publisher import SHOP, Publisher
from tests.sdk.waiting import until

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.adapters.memory_source import MemorySource
from holdfast.sdk.follower import Follower, Following


def test_who_followed_a_clock_that_was_ahead_believes_it_again_with_the_next_poll() -> None:
    publisher, source, cache = Publisher(), MemorySource("edge"), MemoryCache()
    heard: list[bytes] = []
    following = Following(
        sources=lambda: [source],
        cache=cache,
        verify=verify,
        subjects=(SHOP,),
        poll_interval_s=0.05,
        streams=False,
        on_fresh=lambda _, sealed: heard.append(sealed),
    )
    publisher.put(tiles=9)
    bundle, now_ms = publisher.publish(), int(time.time() * 1000)
    said = [publisher.fresh(at_ms=now_ms + off_ms) for off_ms in (0, 36_000_000, 1)]
    follower = Follower(following)
    source.put(SHOP, publisher.digest, bundle, said[0])
    follower.start()
    for count, sealed in enumerate(said, 1):
        source.put(SHOP, publisher.digest, bundle, sealed)
        until(lambda count=count: len(heard) == count)
    assert heard == said
    follower.close()

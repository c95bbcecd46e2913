"""10,000 changes and snapshots with something wrong in them: nothing crashes, nothing bad gets in.

- A change is made of a good one by spoiling a place of its JSON. The door refuses it with problems,
  or what it makes of it breaks nothing: consumers take it, and every setting answers by its type.
- The same changes are forced past the door's checks. What then comes out is not there (no snapshot
  can be built), refused by the consumer, or harmless by the same measure.
- A snapshot is spoiled and signed all the same. The consumer refuses it, or no answer moved.

`gameday.fuzzing` has the inputs and the measure; the drill `fuzzed-input` runs them by the clock.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from tests.whole.world import BREAKS_REQUESTS

from holdfast.core.model import PutSetting, Setting
from holdfast.gameday.fuzzing import Place, decoded, force, forge, good, keys_in, offer, spoiled

ROUNDS = 20
CHANGES = 300
SNAPSHOTS = 200


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_spoiled_changes_are_refused_or_do_no_harm(seed: int, tmp_path: Path) -> None:
    chance, came, keys = random.Random(seed), Counter[str](), keys_in(tmp_path)
    checked = Place(keys, checked=True, protected=True)
    forced = Place(keys, checked=False, protected=True)
    whole = msgspec.to_builtins(good())
    for _ in range(CHANGES):
        edits = decoded(spoiled([chance.choice(whole)], chance))
        if edits is None:
            came["refused at the door's mat"] += 1
            continue
        came[said := offer(checked, edits)] += 1
        if said == "refused by the door":
            came["forced: " + force(forced, edits)] += 1
            forced = Place(keys, checked=False, protected=True)
        if chance.random() < 0.2:
            checked = Place(keys, checked=True, protected=True)
    assert came["refused by the door"] > came["harmless"] / 10
    assert came["forced: refused by the consumer"], came


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_spoiled_snapshots_are_refused_though_they_are_signed(seed: int, tmp_path: Path) -> None:
    chance, came = random.Random(seed), Counter[str]()
    place = Place(keys_in(tmp_path), checked=True, protected=True)
    place.publish((PutSetting("shop", "more", Setting("integer", {"n": BREAKS_REQUESTS})),))
    body = msgspec.json.decode(place.newest()[1])
    for _ in range(SNAPSHOTS):
        came[forge(place, spoiled(body, chance), {"more"})] += 1
    assert came["harmless"] < SNAPSHOTS / 2, came
    assert came["refused by the consumer"], came

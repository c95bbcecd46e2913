"""A record of digests that is rotten stops no node, on whatever engine it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holdfast.adapters.memory import MemoryDigests
from holdfast.adapters.spared_digests import SparedDigests
from holdfast.core.errors import Damaged, Unavailable
from holdfast.core.model import Subject
from holdfast.ports import Imprint

ONE = Imprint(Subject("production", "shop"), 7, "ab" * 32, "cd" * 32, "a build")


class Rotten(MemoryDigests):
    """A record of an engine that a row of was changed."""

    def put(self, made: Sequence[Imprint]) -> Sequence[Imprint]:
        raise Damaged("the row of production/shop is not what was put there")

    def all(self) -> Sequence[Imprint]:
        raise Damaged("the row of production/shop is not what was put there")


class OnAnEngine:
    """Rotten, and no twin in memory."""

    def __init__(self) -> None:
        self.put, self.all = Rotten().put, Rotten().all


class Silent(OnAnEngine):
    def __init__(self) -> None:
        def unanswered(_: object = None) -> Sequence[Imprint]:
            raise Unavailable("no member answers")

        self.put = self.all = unanswered


def test_a_rotten_record_is_told_once_and_done_without() -> None:
    told: list[Damaged] = []
    digests = SparedDigests(OnAnEngine(), told.append)
    assert digests.put([ONE]) == [ONE]
    assert digests.all() == [ONE]
    assert len(told) == 1


def test_a_sound_record_is_used() -> None:
    kept = MemoryDigests()
    digests = SparedDigests(kept, pytest.fail)
    assert digests.put([ONE]) == [ONE]
    assert kept.all() == digests.all() == [ONE]


def test_an_engine_that_does_not_answer_is_not_rotten() -> None:
    digests = SparedDigests(Silent(), pytest.fail)
    with pytest.raises(Unavailable):
        digests.put([ONE])

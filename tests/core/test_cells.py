"""Shards: the same everywhere, stable when edges come, and as far apart as chance has them."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import isclose

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.cells import (
    Plan,
    assigned,
    moved,
    overlap_chances,
    overlaps,
    problems_of,
    serves,
)
from holdfast.core.model import Subject

SUBJECTS = [Subject("production", f"service-{number}") for number in range(300)]


def plan(count: int, per_service: int = 2, *everywhere: str) -> Plan:
    return Plan(tuple(f"edge-{number}" for number in range(count)), per_service, everywhere)


@given(st.integers(1, 12), st.integers(1, 12), st.permutations(range(12)))
def test_order_and_place_do_not_matter(count: int, per_service: int, order: list[int]) -> None:
    made = plan(count, min(per_service, count))
    shuffled = Plan(tuple(f"edge-{number}" for number in order if number < count), made.per_service)
    for subject in SUBJECTS[:20]:
        mine = assigned(made, subject)
        assert mine == assigned(shuffled, subject)
        assert len(mine) == len(set(mine)) == made.per_service
        assert all(serves(made, edge, subject) == (edge in mine) for edge in made.edges)


def test_it_is_the_same_for_ever() -> None:
    assert assigned(plan(5), Subject("production", "shop")) == ("edge-0", "edge-4")


@given(st.integers(3, 10))
def test_an_edge_that_comes_takes_over_its_share_and_moves_nothing_else(count: int) -> None:
    before, after = plan(count), plan(count + 1)
    new = after.edges[-1]
    changed = moved(before, after, SUBJECTS)
    assert all(edges == [new] for edges in changed.values())
    share = len(changed) / len(SUBJECTS)
    assert share < 2.0 * before.per_service / (count + 1)
    assert not moved(after, after, SUBJECTS)


def test_two_services_share_as_many_edges_as_the_law_says() -> None:
    made = plan(10, 3)
    pairs = list(combinations(SUBJECTS, 2))
    shared = {one.services: len(one.edges) for one in overlaps(made, SUBJECTS)}
    counts = Counter(shared.values())
    counts[0] = len(pairs) - sum(counts.values())
    for overlap, chance in enumerate(overlap_chances(10, 3)):
        assert abs(counts[overlap] / len(pairs) - chance) < 0.03, overlap


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_the_law_adds_up(sizes: tuple[int, int]) -> None:
    edges, per_service = sizes
    chances = overlap_chances(edges, per_service)
    assert isclose(sum(chances), 1.0)
    mean = sum(overlap * chance for overlap, chance in enumerate(chances))
    assert isclose(mean, per_service**2 / edges)


def test_tokens_and_what_is_everybody_s_are_everywhere() -> None:
    made = plan(4, 1, "shared")
    for service in ("_access", "shared"):
        assert sorted(assigned(made, Subject("production", service))) == list(made.edges)
    assert not problems_of(made)
    assert problems_of(plan(2, 3))
    assert problems_of(Plan(("a", "a"), 1))

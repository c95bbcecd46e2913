"""The sequential test: how often it halts what is harmless, and how soon what is not."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.gate import RATIOS, EProcess, interval, observe
from holdfast.core.power import Traffic, halts, happened, power

ALPHA = 0.0005
"""What `policies.Gates` has."""


def test_harmless_rollouts_are_hardly_ever_halted() -> None:
    """2,000 of them, looked at 40 times each: at most 0.1 % may be halted."""
    traffic = Traffic(rate=0.01, ratio=1.0, share=0.1, requests=2_000)
    assert false_halts(traffic, runs=2_000, looks=40, seed=1) <= 2


def test_an_ordinary_test_at_every_look_would_halt_many() -> None:
    """The damage with it off: a z-test at one in 2,000, asked 40 times, halts more than it may."""
    traffic = Traffic(rate=0.01, ratio=1.0, share=0.1, requests=2_000)
    assert z_halts(traffic, runs=2_000, looks=40, z=3.29, seed=1) > 2


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_one_request_in_two_failing_is_seen_within_tens_of_requests(share: float) -> None:
    traffic = Traffic(rate=0.001, ratio=500.0, share=share, requests=round(10 / share))
    found = detection(traffic, runs=200, looks=60, seed=2)
    assert len(found) == 200, "every one is seen"
    assert found[180] <= 50, "nine in ten within 50 exposed requests"


def test_errors_that_double_from_one_percent_are_seen_within_thousands() -> None:
    traffic = Traffic(rate=0.01, ratio=2.0, share=0.1, requests=2_000)
    found = detection(traffic, runs=100, looks=60, seed=3)
    assert len(found) == 100
    assert 1_500 < found[50] < 4_000


def test_fewer_errors_than_before_never_halt() -> None:
    traffic = Traffic(rate=0.05, ratio=0.5, share=0.5, requests=1_000)
    assert false_halts(traffic, runs=200, looks=40, seed=4) == 0


def test_a_larger_effect_is_seen_sooner() -> None:
    curves = [
        power(
            Traffic(rate=0.01, ratio=ratio, share=0.1, requests=1_000),
            random.Random(6).random,
            runs=100,
            looks=20,
            alpha=ALPHA,
        )
        for ratio in (1.0, 3.0, 10.0)
    ]
    for curve in curves:
        assert [one for _, one in curve] == sorted(one for _, one in curve)
    harmless, tripled, tenfold = ([share for _, share in curve] for curve in curves)
    assert harmless[-1] <= tripled[5] < tenfold[5]
    assert tenfold[-1] == 1.0


def false_halts(traffic: Traffic, *, runs: int, looks: int, seed: int) -> int:
    draw = random.Random(seed).random
    return sum(bool(one) for one in halts(traffic, draw, runs=runs, looks=looks, alpha=ALPHA))


def detection(traffic: Traffic, *, runs: int, looks: int, seed: int) -> list[int]:
    """Exposed requests until it was seen, of all runs in which it was, in order."""
    draw = random.Random(seed).random
    found = halts(traffic, draw, runs=runs, looks=looks, alpha=ALPHA)
    return sorted(one for one in found if one)


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0.01, 0.99))
def test_a_look_is_the_product_over_its_events(exposed: int, other: int, rho: float) -> None:
    one = observe(EProcess(), exposed, other, rho)
    many = EProcess()
    for _ in range(exposed):
        many = observe(many, 1, 0, rho)
    for _ in range(other):
        many = observe(many, 0, 1, rho)
    assert one.logs == pytest.approx(many.logs, abs=1e-9)


@given(st.integers(1, 40), st.floats(0.01, 0.99))
def test_on_average_it_stays_at_one(events: int, rho: float) -> None:
    """Over all ways in which so many events may fall, each as likely as without an effect."""
    mean, chance = 0.0, (1 - rho) ** events
    for exposed in range(events + 1):
        mean += chance * observe(EProcess(), exposed, events - exposed, rho).value
        if exposed < events:
            chance *= (events - exposed) / (exposed + 1) * rho / (1 - rho)
    assert mean == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_one_side_alone_says_nothing(rho: float) -> None:
    assert observe(EProcess(), 100, 100, rho) == EProcess()


def test_the_highest_value_is_kept() -> None:
    up = observe(EProcess(), 20, 0, 0.5)
    down = observe(up, 0, 200, 0.5)
    assert down.value < 1 < up.value == down.peak
    assert observe(EProcess(), 100_000, 0, 0.01).value == float("inf")
    assert len(up.logs) == len(RATIOS)


def test_an_interval_holds_at_every_look() -> None:
    """Of 300 histories at most one in 20 may leave it at any of 50 looks; hardly any does."""
    chance, left = random.Random(5), 0
    for _ in range(300):
        events = accumulate(happened(chance.random, 100, 0.03) for _ in range(50))
        bounds = [interval(one, 100 * (n + 1)) for n, one in enumerate(events)]
        left += any(not low <= 0.03 <= high for low, high in bounds)
    assert left <= 15


@given(st.integers(0, 5_000), st.integers(1, 5_000))
def test_an_interval_is_around_its_rate_and_narrows(events: int, requests: int) -> None:
    events = min(events, requests)
    low, high = interval(events, requests)
    assert 0 <= low <= events / requests <= high <= 1
    narrow = interval(events * 10, requests * 10)
    assert narrow[1] - narrow[0] <= high - low + 1e-12


def test_no_requests_say_nothing_of_a_rate() -> None:
    assert interval(0, 0) == (0.0, 1.0)


def z_halts(traffic: Traffic, *, runs: int, looks: int, z: float, seed: int) -> int:
    """What a test of two proportions does that does not know that it is asked again."""
    chance, halted = random.Random(seed), 0
    for _ in range(runs):
        n = x = m = y = 0
        for _ in range(looks):
            exposed, other = traffic.look(chance.random)
            n, x = n + exposed[0], x + exposed[1]
            m, y = m + other[0], y + other[1]
            rate = (x + y) / (n + m)
            spread = (rate * (1 - rate) * (1 / n + 1 / m)) ** 0.5 if rate else 0.0
            if spread and (x / n - y / m) / spread > z:
                halted += 1
                break
    return halted

"""What a gate is told of time: the thread's own work, and not what the machine gave to others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from holdfast.apps.asgi import Face
from holdfast.apps.front import Front
from holdfast.apps.heads import Known
from holdfast.apps.http import Headers, Request

TAKEN_S = 0.05


class Heard:
    """A gate that lets everybody in, and remembers what it was told."""

    def __init__(self, alert_s: float) -> None:
        self.alert_s = alert_s
        self.waited_s: list[float] = []
        self.lengths_s: list[float] = []

    def admit(
        self, method: bytes, target: bytes, headers: Headers, waited_s: float,
        known: Known | None = None,
    ) -> bytes | None:  # fmt: skip
        self.waited_s.append(waited_s)

    def again(self, known: Known, times: int) -> None:
        pass

    def done(self, took_s: float, requests: int = 1) -> None:
        pass

    def batch(self, length_s: float, requests: int) -> None:
        self.lengths_s.append(length_s)


def work() -> None:
    end_s = time.thread_time() + TAKEN_S
    while time.thread_time() < end_s:
        pass


def others_work() -> None:
    """As if another program had the core."""
    time.sleep(TAKEN_S)


def told_of(gate: Heard, happens: Callable[[], None], batches: int) -> None:
    """Two requests in each batch, with something between them."""
    front = Front(Face(lambda _: None, 0), 10, gate)

    async def ask() -> None:
        for _ in range(batches):
            front.admit(time.perf_counter(), b"GET", b"/", [])
            happens()
            front.admit(time.perf_counter(), b"GET", b"/", [])
            await asyncio.sleep(0)

    asyncio.run(ask())


@pytest.mark.parametrize("alert_s", [0.02, -1.0], ids=["at rest", "engaged"])
def test_what_others_took_is_no_queue(alert_s: float) -> None:
    gate = Heard(alert_s)
    told_of(gate, others_work, 20)
    assert max(gate.lengths_s) < TAKEN_S / 2
    assert gate.waited_s[-1] < TAKEN_S / 2


@pytest.mark.parametrize("alert_s", [0.02, -1.0], ids=["at rest", "engaged"])
def test_what_it_worked_itself_is_one(alert_s: float) -> None:
    gate = Heard(alert_s)
    told_of(gate, work, 3)
    assert min(gate.lengths_s) >= TAKEN_S
    assert max(gate.waited_s) > TAKEN_S / 2


class Refusing(Heard):
    """It leaves a refusal, and fails when it is told how often that was sent."""

    def admit(
        self, method: bytes, target: bytes, headers: Headers, waited_s: float,
        known: Known | None = None,
    ) -> bytes | None:  # fmt: skip
        assert known
        known.refusals = (b"no",)
        return b"no"

    def again(self, known: Known, times: int) -> None:
        raise RuntimeError("a fault of ours")


def test_what_a_gate_left_is_gone_with_the_batch_whatever_fails() -> None:
    front = Front(Face(lambda _: None, 0), 10, Refusing(-1.0))
    known = Known(b"", Request("GET", "/"), b"/")
    failed: list[object] = []

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: failed.append(told))
        assert front.admit(time.perf_counter(), b"GET", b"/", [], known) == b"no"
        known.again = 5
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert failed
    assert (known.refusals, known.again) == ((), 0)

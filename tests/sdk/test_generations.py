"""Candidate, probation, proven: going back by itself, by hand, and never confused by others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.sdk.publisher import SHOP, Publisher
from tests.sdk.waiting import until

from holdfast.adapters.disk_cache import DiskCache
from holdfast.adapters.ed25519 import verify
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.adapters.memory_source import MemorySource
from holdfast.core import generations
from holdfast.core.conversation import Report
from holdfast.core.errors import NotFound
from holdfast.core.generations import decode_record, record_name
from holdfast.core.trust import NO_CHECKS
from holdfast.sdk import follower as follower_module
from holdfast.sdk import trials
from holdfast.sdk.follower import Follower, Following
from holdfast.sdk.trials import Host

AT_ONCE = Host(probation_s=0.0)
NEVER = Host(probation_s=1e9)


class Rig:
    """One publisher, one upstream, one cache, followers that come and go."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.publisher = Publisher()
        self.source = MemorySource("up")
        self.reports: list[Report] = []
        self.followers: list[Follower] = []

    def publish(self, **settings: Any) -> None:
        bundle, sealed = self.publisher.publish(**settings), self.publisher.fresh()
        self.source.put(SHOP, self.publisher.digest, bundle, sealed)
        self.source.hint(SHOP, self.publisher.digest)

    def start(self, host: Host = NEVER, *, alive: bool = True, **changes: Any) -> Follower:
        if alive:
            self.source.fail(None)  # a follower that ended has closed it
        follower = Follower(
            Following(
                sources=lambda: [self.source] if alive else [],
                cache=self.cache,
                verify=verify,
                subjects=(SHOP,),
                on_report=self._report,
                poll_interval_s=0.05,
                host=host,
                **changes,
            )
        )
        self.followers.append(follower)
        follower.start()
        return follower

    def _report(self, report: Report) -> None:
        if report.code != "frozen":  # nobody makes new freshness statements here
            self.reports.append(report)

    def close(self) -> None:
        for follower in self.followers:
            follower.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here wants to wait for the next look."""
    monkeypatch.setattr(follower_module, "LOOK_GAP_S", 0.02)
    monkeypatch.setattr(generations, "HEALTH_GAP_S", 0.01)


@pytest.fixture(params=["memory", "disk"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(MemoryCache() if request.param == "memory" else DiskCache(tmp_path))
    yield rig
    rig.close()


def revision(follower: Follower) -> int:
    generation = follower.generation(SHOP)
    return generation.revision if generation else 0


def trust(follower: Follower) -> str:
    mine = follower.status().subjects.get(SHOP)
    return mine.trust if mine else "none"


def proven(rig: Rig) -> Follower:
    """A follower that has proven revision 1."""
    rig.publish(tiles=9)
    follower = rig.start(AT_ONCE)
    until(lambda: trust(follower) == "proven", "proof")
    return follower


def test_what_answered_long_enough_is_proven_and_stays_so(rig: Rig) -> None:
    proven(rig).close()
    again = rig.start(NEVER, alive=False)
    assert trust(again) == "proven"


def test_before_that_it_is_on_probation(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(NEVER)
    until(lambda: revision(follower) == 1)
    assert trust(follower) == "probation"
    assert follower.status().subjects[SHOP].since_ms > 0


def test_what_was_never_used_proves_nothing(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(Host(probation_s=0.0, used=lambda _: False))
    until(lambda: revision(follower) == 1)
    asked = follower.counts["asked"]
    until(lambda: follower.counts["asked"] > asked + 30)
    assert trust(follower) == "probation"


@pytest.mark.parametrize("raised", [None, ValueError("a bad value"), SystemExit(3)])
def test_a_host_that_fails_on_it_goes_back_and_says_so(
    rig: Rig, raised: BaseException | None
) -> None:
    follower = proven(rig)
    follower.close()

    def health() -> bool:
        if revision(rig.followers[-1]) < 2:
            return True
        if raised is not None:
            raise raised
        return False

    follower = rig.start(Host(probation_s=1e9, health=health))
    rig.publish(tiles=666)
    until(lambda: rig.reports, "a NACK")
    until(lambda: revision(follower) == 1, "the way back")
    assert (rig.reports[0].code, rig.reports[0].revision) == ("health", 2)
    assert rig.reports[0].digest == rig.publisher.digest
    assert "health" in [one.code for one in follower.status().subjects[SHOP].refusals]
    asked = follower.counts["asked"]
    until(lambda: follower.counts["asked"] > asked + 2)
    assert revision(follower) == 1, "what failed here is not taken again"
    rig.publish(tiles=10)
    until(lambda: revision(follower) == 3, "what mends it")


def test_what_was_refused_for_the_host_stays_refused_after_a_restart(rig: Rig) -> None:
    follower = proven(rig)
    follower.close()
    sick = Host(probation_s=1e9, health=lambda: revision(rig.followers[-1]) < 2)
    follower = rig.start(sick)
    rig.publish(tiles=666)
    until(lambda: rig.reports)
    follower.close()
    again = rig.start(NEVER, alive=False)
    assert revision(again) == 1


def test_without_a_proven_one_there_is_nothing_to_go_back_to(rig: Rig) -> None:
    rig.publish(tiles=9)
    follower = rig.start(Host(probation_s=1e9, health=lambda: False))
    until(lambda: rig.reports, "a NACK")
    assert revision(follower) == 1, "any settings are better than none"
    asked = follower.counts["asked"]
    until(lambda: follower.counts["asked"] > asked + 30)
    assert len(rig.reports) == 1


# -- pins


def test_a_pinned_revision_answers_whatever_comes(rig: Rig) -> None:
    follower = proven(rig)
    rig.publish(tiles=10)
    until(lambda: revision(follower) == 2)
    follower.pin(SHOP, 1, "an incident")
    until(lambda: revision(follower) == 1)
    assert trust(follower) == "pinned"
    rig.publish(tiles=11)
    follower.close()
    again = rig.start(alive=False)
    assert (revision(again), trust(again)) == (1, "pinned")


def test_who_unpins_follows_again(rig: Rig) -> None:
    follower = proven(rig)
    rig.publish(tiles=10)
    until(lambda: revision(follower) == 2)
    follower.pin(SHOP, 1)
    until(lambda: revision(follower) == 1)
    follower.unpin(SHOP)
    until(lambda: revision(follower) == 2)
    assert trust(follower) != "pinned"


def test_only_what_is_on_disk_can_be_pinned(rig: Rig) -> None:
    with pytest.raises(NotFound):
        proven(rig).pin(SHOP, 7)


def test_a_proven_and_a_pinned_generation_outlive_the_newest_three(rig: Rig) -> None:
    follower = proven(rig)
    follower.close()
    follower = rig.start(NEVER)
    for tiles in range(10, 16):
        rig.publish(tiles=tiles)
        until(lambda newest=rig.publisher.revision: revision(follower) == newest)
    follower.pin(SHOP, 1)
    until(lambda: revision(follower) == 1)


def test_a_pin_is_seen_by_other_processes_of_the_cache(tmp_path: Path) -> None:
    rig = Rig(DiskCache(tmp_path))
    try:
        one = proven(rig)
        rig.publish(tiles=10)
        until(lambda: len(list(tmp_path.rglob("0*-" + "?" * 16))) == 2)
        rig.cache = DiskCache(tmp_path)
        other = rig.start(alive=False)
        assert revision(other) == 2
        one.pin(SHOP, 1)
        until(lambda: revision(other) == 1)
    finally:
        rig.close()


# -- crash streaks, with real processes

CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests may have it ignored
if "handles" in sys.argv: signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
from tests.sdk.publisher import SHOP
from holdfast.adapters.disk_cache import DiskCache
from holdfast.adapters.ed25519 import verify
from holdfast.core.trust import EVERY_CHECK, NO_CHECKS
from holdfast.sdk import follower as follower_module, trials
from holdfast.sdk.follower import Follower, Following
from holdfast.sdk.trials import Host
follower = Follower(Following(
    sources=lambda: [], cache=DiskCache(sys.argv[1]), verify=verify, subjects=(SHOP,),
    host=Host(probation_s=1e9), checks=NO_CHECKS if "unprotected" in sys.argv else EVERY_CHECK,
))
follower.start()
generation = follower.generation(SHOP)
crashes = follower.status().subjects[SHOP].crashes
print(generation.revision if generation else 0, crashes, flush=True)
if "crash" in sys.argv: import os; os._exit(1)
if "raise" in sys.argv: raise ValueError("a bad value")
if "close" in sys.argv: follower.close(); sys.exit(0)
if "exit" in sys.argv: sys.exit(0)
while True: time.sleep(0.1)  # a signal just before a long sleep would wait for its end
"""


class Processes:
    """Two generations on disk: 1 is proven, 2 is on probation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rig = Rig(DiskCache(folder))
        proven(rig).close()
        follower = rig.start(NEVER)
        rig.publish(tiles=666)
        until(lambda: revision(follower) == 2)
        until(lambda: len(list(folder.rglob("0*-" + "?" * 16))) == 2, "both on disk")
        rig.close()
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *how: str) -> tuple[subprocess.Popen[str], int]:
        """A process and the revision that it answers from."""
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.folder), *how],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.running.append(process)
        assert process.stdout is not None
        found, _crashes = process.stdout.readline().split()
        return process, int(found)

    def run(self, *how: str) -> int:
        process, found = self.start(*how)
        process.wait(20)
        return found

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait(20)
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.close()


@pytest.mark.parametrize("way", ["crash", "raise", "kill"])
def test_three_deaths_in_a_row_go_back(processes: Processes, way: str) -> None:
    """CrowdStrike 2024: what takes its host down at every start."""
    for _ in range(3):
        process, found = processes.start(way)
        assert found == 2
        if way == "kill":
            os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
    assert processes.run("close") == 1
    assert processes.run("close") == 1, "and stays so"
    record = decode_record(DiskCache(processes.folder).noted(record_name(SHOP)))
    assert (record.crashes, record.refused[0].code) == (1, "crash-streak")


def test_without_the_protection_it_dies_for_ever(processes: Processes) -> None:
    assert [processes.run("crash", "unprotected") for _ in range(4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("way", ["close", "exit"])
def test_who_ends_well_is_no_crash(processes: Processes, way: str) -> None:
    assert [processes.run(way) for _ in range(4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_end_is_no_crash(processes: Processes, number: signal.Signals) -> None:
    """Three ordinary restarts within a minute say nothing against what answered meanwhile."""
    for _ in range(4):
        process, found = processes.start()
        assert found == 2
        process.send_signal(number)
        assert process.wait(20) == -number, "and ends as it would without us"


def test_a_handler_of_the_host_s_own_stays(processes: Processes) -> None:
    for _ in range(4):
        process, found = processes.start("handles")
        assert found == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 7


def test_processes_that_live_are_no_crashes(processes: Processes) -> None:
    """Several workers on one directory, all on probation at once."""
    assert [processes.start()[1] for _ in range(4)] == [2, 2, 2, 2]
    assert processes.run("crash") == 2
    assert processes.run("close") == 2


def test_a_proof_forgives_the_deaths_before_it(processes: Processes) -> None:
    processes.run("crash")
    processes.run("crash")
    rig = Rig(DiskCache(processes.folder))
    follower = rig.start(AT_ONCE, alive=False)
    until(lambda: trust(follower) == "proven")
    rig.close()
    assert [processes.run("crash") for _ in range(4)] == [2, 2, 2, 2]


def test_a_streak_with_nothing_to_go_back_to_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(DiskCache(tmp_path))
    rig.publish(tiles=9)
    follower = rig.start(NEVER)
    until(lambda: revision(follower) == 1 and list(tmp_path.rglob("0*-" + "?" * 16)))
    rig.close()
    for name in "abc":
        mark = f"production.demo-shop.{rig.publisher.digest[:16]}.{name}"
        (tmp_path / "holdfast-1" / "running" / mark).touch()
    assert revision(rig.start(NEVER, alive=False)) == 1
    rig.close()


@pytest.mark.parametrize(
    "name", ["holdfast.core.targeting.another", "holdfast.core.limits", "_cbor2", "msgspec._core"]
)
def test_builds_of_the_evaluator_are_told_apart_by_their_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are built reproducibly give every file one date."""
    module = ModuleType(name)
    module.__file__ = str(tmp_path / "another.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    marks = set()
    for source in ("weight < total", "weight > total"):
        Path(module.__file__).write_text(source)
        os.utime(module.__file__, (0, 0))
        monkeypatch.setattr(trials, "_mark", [])
        marks.add(trials.evaluator_mark())
    assert len(marks) == 2


def test_no_checks_means_none() -> None:
    assert not any(getattr(NO_CHECKS, name) for name in NO_CHECKS.__struct_fields__)

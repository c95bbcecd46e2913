"""`hostile-edge`: ten thousand lies of an edge through a real socket, and what is believed of them.

The reader is what a client has between its socket and its settings: `HttpSource`, then `Intake`.
It holds the second issue of a service; the truth has a third. Nothing but the third, byte for byte,
may come out of a lie.

The budget of memory is one answer at its bound, `BUNDLE_BYTES_MAX` (48 MiB).
"""

from __future__ import annotations

import base64
import random
import re
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.http_source import HttpSource, Timeouts
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.core.bundle import BUNDLE_BYTES_MAX
from holdfast.core.conversation import Answered, Refused
from holdfast.core.trust import EVERY_CHECK, NO_CHECKS, Checks
from holdfast.gameday import lies
from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.liar import Liar
from holdfast.gameday.lies import Lie, Told, answer
from holdfast.gameday.truth import BEGAN_MS, PACE, SHOP, Truth
from holdfast.ports import Fetched
from holdfast.sdk.intake import Intake
from holdfast.sdk.trials import Host, Trials

LIES: Final = 10_000
BUDGET_BYTES: Final = BUNDLE_BYTES_MAX
QUESTION_S: Final = 5.0
NEWEST_MS: Final = BEGAN_MS + 120_000
"""When the newest statement was made that the reader has."""
SLOW_S: Final = 0.4
"""For a question that is answered a drop at a time: a client has 8 s for it."""
TRIES_MAX: Final = 20
"""For one lie: a question that finds its connection closed, or no time left, hears none."""
TRACED: Final = 24
"""Lies of the costly kinds that are also measured allocation by allocation."""


class Reader:
    """A client's way from socket to settings, on a clock that the drill moves."""

    def __init__(self, liar: Liar, checks: Checks) -> None:
        self.now_s = 1_000.0
        self._liar = liar
        cache = MemoryCache()
        self.source = HttpSource(liar.url, "", Timeouts(connect_s=1.0, read_s=QUESTION_S))
        trials = Trials(cache, Host(), streak=False)
        self.intake = Intake(cache, None, verify, lambda: self.now_s, trials, None, checks)

    def ask(self, within_s: float = QUESTION_S) -> object:
        """What comes of one lie, asked for as a follower asks, until it was told."""
        for _ in range(TRIES_MAX):
            told = self._liar.told
            found = self.intake.ask(self.source, SHOP, 0, within_s)
            if self._liar.told > told:
                break
        return found


class Believing:
    """The `Source` of a consumer that believes whatever came: its signature is put under it."""

    name = "believing"

    def __init__(self, liar: Liar) -> None:
        self._source = HttpSource(liar.url, "", Timeouts(connect_s=1.0, read_s=QUESTION_S))

    def take(self, within_s: float) -> str:
        """What would be activated: the tiles in it; empty for nothing."""
        try:
            self._source.within(within_s)
            fetched: Fetched = self._source.snapshot(SHOP, None)
            document = msgspec.json.decode(fetched.body or b"")
            return str(document["snapshot"]["flags"]["tiles"]["variants"]["now"])
        except Exception:  # noqa: BLE001  whatever is wrong, it goes on with what it has
            return ""


def run(day: Day) -> None:
    chance = random.Random(day.seed)  # noqa: S311  chance of a drill
    truth, other = Truth.make(day.directory / "true"), Truth.make(day.directory / "other", tiles=77)
    told = Told(truth, other)
    with Liar() as liar:
        reader = Reader(liar, EVERY_CHECK if day.protected else NO_CHECKS)
        _hold_the_second(reader, liar, truth)
        _freeze(day, reader, liar, truth)
        _lie(day, reader, liar, told, chance)
    day.root_cause = "an edge that lies"
    day.stopped_by = "signatures, lineage and bounds, at every consumer"


def _hold_the_second(reader: Reader, liar: Liar, truth: Truth) -> None:
    second = truth.issues[SHOP][1]
    _tell(liar, answer(second.bundle, headers=_vouched(truth, BEGAN_MS + 60_000)))
    found = reader.ask()
    assert isinstance(found, Answered), found  # noqa: S101  the drill's own ground
    assert found.candidate, found  # noqa: S101
    reader.intake.activate(SHOP, found.candidate.digest)
    _tell(liar, answer(b"", "304 Not Modified", _vouched(truth, NEWEST_MS)))
    reader.ask()  # a statement that advances makes it fresh


def _tell(liar: Liar, parts: Callable[[], lies.Parts]) -> None:
    liar.lie = Lie("told", parts)


def _vouched(truth: Truth, at_ms: int) -> dict[str, str]:
    sealed = truth.fresh(truth.issues[SHOP][1], at_ms)
    return {"Holdfast-Freshness": base64.b64encode(sealed).decode()}


def _freeze(day: Day, reader: Reader, liar: Liar, truth: Truth) -> None:
    """The same statement for ever, with `304`: nothing is new, it says."""
    _tell(liar, answer(b"", "304 Not Modified", _vouched(truth, NEWEST_MS)))
    polls = 0
    while polls < 20:
        polls += 1
        reader.now_s += PACE.poll_interval_s
        found = reader.ask()
        if isinstance(found, Refused) and found.code == "frozen":
            break
    late = polls - PACE.stale_after_s // PACE.poll_interval_s
    day.note("blocked", f"a freeze was told of at poll {polls}, {late} after the age it may have")
    name = "polls after its age until a freeze is told of"
    day.measure(name, late, "0 or 1", holds=late in {0, 1})
    reader.now_s = 1_000.0


def _lie(day: Day, reader: Reader, liar: Liar, told: Told, chance: random.Random) -> None:
    kinds = lies.plan(day.sample or LIES, chance)
    accepted: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    lies.make("bomb", told, chance)  # what the liar itself needs is not the reader's memory
    threads, began_kb, began_s = threading.active_count(), _reset_peak_kb(), time.monotonic()
    believing = None if day.protected else Believing(liar)
    heard = 0
    for kind in kinds:
        liar.lie, before = lies.make(kind, told, chance), liar.told
        within_s = SLOW_S if liar.lie.slow else QUESTION_S
        accepted[kind] += _accepts(reader, told.truth, within_s, codes)
        heard += liar.told > before
        if believing is not None and not liar.lie.costly and not liar.lie.slow:
            accepted[f"{kind}, by status 200"] += believing.take(within_s) not in ("", "11")
    rss_bytes = (_peak_kb() - began_kb) * 1024
    took_s = time.monotonic() - began_s
    found = {kind: count for kind, count in accepted.items() if count}
    day.note("blocked", f"{heard} lies of {len(lies.KINDS)} kinds in {took_s:.0f} s")
    day.note("blocked", ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    for kind, count in found.items():
        day.note("damage", f"{kind}: {count} believed")
    day.measure("lies", heard, f"{day.sample or LIES}", holds=heard == len(kinds))
    day.measure("lies believed", sum(found.values()), "0", holds=not found)
    _measure_memory(day, reader, liar, told, chance, rss_bytes)
    taken = _takes_the_truth(reader, liar, told.truth)
    day.measure("the truth, told after all lies, is taken", str(taken), "True", holds=taken)
    left = threading.active_count() - threads
    day.measure("threads that are left", left, "0", holds=left <= 0)
    day.affected = f"{sum(found.values())} lies believed" if found else "nobody"


def _takes_the_truth(reader: Reader, liar: Liar, truth: Truth) -> bool:
    """Whether it still believes what is so: who refuses everything is told no lie either."""
    newest = truth.issues[SHOP][-1]
    fresh = base64.b64encode(truth.fresh(newest, NEWEST_MS + 60_000)).decode()
    _tell(liar, answer(newest.bundle, headers={"Holdfast-Freshness": fresh}))
    found = reader.ask()
    candidate = found.candidate if isinstance(found, Answered) else None
    return candidate is not None and candidate.digest == newest.digest


def _accepts(reader: Reader, truth: Truth, within_s: float, codes: Counter[str]) -> bool:
    """Whether something came out of it that nobody published as the newest."""
    vouched = reader.intake.held[SHOP].freshness
    found = reader.ask(within_s)
    codes[found.code if isinstance(found, Refused) else type(found).__name__.lower()] += 1
    candidate = found.candidate if isinstance(found, Answered) else None
    newest = truth.issues[SHOP][-1]
    lied = candidate is not None and candidate.digest != newest.digest
    return lied or reader.intake.held[SHOP].freshness != vouched


def _measure_memory(  # noqa: PLR0913, PLR0917  what it needs to lie some more
    day: Day, reader: Reader, liar: Liar, told: Told, chance: random.Random, rss_bytes: int
) -> None:
    costly = sorted(lies.COSTLY)
    tracemalloc.start()
    began_bytes, _ = tracemalloc.get_traced_memory()
    for number in range(max(len(costly), min(TRACED, (day.sample or LIES) // 50))):
        liar.lie = lies.make(costly[number % len(costly)], told, chance)
        reader.ask()
    traced_bytes = tracemalloc.get_traced_memory()[1] - began_bytes
    tracemalloc.stop()
    for name, used in (("allocated", traced_bytes), ("resident", rss_bytes)):
        share = used / BUDGET_BYTES
        text = f"{used / 2**20:.0f} MiB"
        bar = f"<= 2x {BUDGET_BYTES / 2**20:.0f} MiB"
        day.measure(f"memory {name} at most", text, bar, holds=share <= 2)


def _reset_peak_kb() -> int:
    """Let the kernel count the peak of resident memory from here on; kB now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_kb()


def _peak_kb() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


DRILL = Drill(
    name="hostile-edge",
    title="A hostile edge: it lies, floods, drips and breaks off",
    outage="whoever holds an edge, its machine or the line to it, answers as he likes.",
    rehearsal=(
        "10,000 lies of 24 kinds through a real socket to a client's own reader: unsigned, signed "
        "by others, mixed, older, frozen, flipped, truncated, endless, compressed, dripping."
    ),
    run=run,
)

"""`power-loss`: power is lost after each of the things that a journal asked of its disk."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from holdfast.adapters.sqlite_journal import SqliteJournal
from holdfast.core.errors import HoldfastError
from holdfast.gameday.drill import Chart, Day, Drill
from holdfast.gameday.patches import defects, own, patched_tree
from holdfast.gameday.syscalls import Call, Disk, How, Said, record

CASES: Final = 1_000
ENTRIES: Final = 60
HOW: Final[tuple[How, ...]] = ("some", "some", "some", "nothing", "everything")


class Loss(msgspec.Struct, frozen=True):
    """One power loss: after how many calls, what had been acknowledged, what was found."""

    after: int
    acknowledged: int
    found: int
    wrong: str = ""


def run(day: Day) -> None:
    calls = _recorded(day)
    truth = [text.split()[2] for text in _said(calls)]
    day.note("step", f"{len(truth)} entries acknowledged, {len(calls)} calls to the disk recorded")
    cases = day.sample or CASES
    losses = list(_losses(day, calls, truth, cases))
    _judge(day, losses)


def _said(calls: Sequence[Call]) -> list[str]:
    return [call.text for call in calls if isinstance(call, Said)]


def _recorded(day: Day) -> list[Call]:
    """What a journal of the build under test asks of its disk while it grows."""
    environment = dict(os.environ)
    if not day.protected:
        patches = [one for one in defects(own("unprotected")) if one.component == "control"]
        environment["PYTHONPATH"] = str(patched_tree(day.directory / "tree", *patches))
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    directory = day.directory / "recorded"
    directory.mkdir()
    entries = ENTRIES if not day.sample else ENTRIES // 2
    module = ("-m", "holdfast.gameday.appending")
    command = (sys.executable, *module, str(directory), str(day.seed), str(entries))
    return record(command, directory, day.directory / "strace.log", environment)


def _losses(day: Day, calls: Sequence[Call], truth: Sequence[str], cases: int) -> Iterator[Loss]:
    """Power lost `cases` times, evenly over all prefixes."""
    points = sorted(number * len(calls) // cases for number in range(cases))
    disk, played = Disk(), 0
    for number, point in enumerate(points):
        while played < point:
            disk.play(calls[played])
            played += 1
        how = HOW[number % len(HOW)]
        chance = random.Random(f"{day.seed} {number}")  # noqa: S311  a drill's chance
        loss = _found(day, disk, how, chance, point, truth)
        if loss.wrong and sum(note.kind == "damage" for note in day.notes) < 10:
            day.note("damage", f"after call {point}, {how} of what was not synced: {loss.wrong}")
        yield loss


def _found(  # noqa: PLR0913, PLR0917  one case
    day: Day, disk: Disk, how: How, chance: random.Random, point: int, truth: Sequence[str]
) -> Loss:
    place = day.directory / "after"
    shutil.rmtree(place, ignore_errors=True)
    _lay(place, disk.after_power_loss(how, chance), chance)
    acknowledged = len(disk.said)
    try:
        hashes = _hashes(place / "journal.db")
    except HoldfastError as error:
        return Loss(point, acknowledged, 0, f"it does not open: {error}")
    wrong = ""
    if hashes != list(truth[: len(hashes)]):
        wrong = "other entries than were written"
    elif len(hashes) < acknowledged:
        wrong = f"{acknowledged} acknowledged, {len(hashes)} found"
    return Loss(point, acknowledged, len(hashes), wrong)


def _lay(place: Path, files: dict[str, bytes], chance: random.Random) -> None:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(len(content)) if name.endswith("-shm") else content)
    place.mkdir(exist_ok=True)


def _hashes(path: Path) -> list[str]:
    journal = SqliteJournal(path)
    try:
        return [entry.hash for entry in journal.read()]
    finally:
        journal.close()


def _judge(day: Day, losses: Sequence[Loss]) -> None:
    lost = sum(max(0, loss.acknowledged - loss.found) for loss in losses)
    closed = sum(loss.wrong.startswith("it does not open") for loss in losses)
    other = sum(loss.wrong.startswith("other") for loss in losses)
    began = sum(loss.acknowledged > 0 for loss in losses)
    day.measure("power losses", len(losses), "1,000, or a sample", holds=len(losses) > 0)
    day.measure(
        "of them after an acknowledgement", began, "more than half", holds=began * 2 > len(losses)
    )
    day.measure("acknowledged entries lost", lost, "0", holds=not lost)
    day.measure("journals with other entries than were written", other, "0", holds=not other)
    day.measure("journals that do not open", closed, "0", holds=not closed)
    day.charts.append(
        Chart(
            name="entries",
            title="Entries after a power loss, by when it came",
            x="calls to the disk before the power loss",
            y="entries",
            lines={
                "found": tuple((loss.after, loss.found) for loss in losses),
                "acknowledged": tuple((loss.after, loss.acknowledged) for loss in losses),
            },
        )
    )
    day.affected = f"{lost} acknowledged changes" if lost else "nobody"
    day.root_cause = "a disk that forgets, in any order, what it was not told to sync"
    day.stopped_by = "a write-ahead log that is synced before a commit is acknowledged"


DRILL = Drill(
    name="power-loss",
    title="Power loss",
    promise="0 acknowledged lost",
    rehearsal=(
        "every write, sync, truncation and rename of a growing journal is recorded; power is lost "
        "after each prefix, with nothing, all, or any sectors of what was not synced, and the "
        "journal is opened on what is left."
    ),
    run=run,
)

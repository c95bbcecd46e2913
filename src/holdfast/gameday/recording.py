"""What several processes did to one journal, and when, by the clock that all of them share.

    with recorded(told.out) as log:
        done = log.begin("writer-1", Append("w1-7", expected=6))
        …
        done(Appended(7))

Each line of a file is one operation or one delivery, written when it is over. Times are of
`time.monotonic`, which on Linux all processes of a machine read alike. An append that is never
answered has to be written too (`done()`): a history may lack anything but appends.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from holdfast.gameday.linear import (
    Append,
    Appended,
    Call,
    Delivery,
    Operation,
    Outcome,
    Refused,
    Seen,
)

LINES_MAX: Final = 1_000_000
"""Of one file; what is beyond ends the recording with a `RuntimeError`."""


class Began(msgspec.Struct, frozen=True, tag=True):
    """A watcher began to watch after a revision."""

    watcher: str
    after: int


class Came(msgspec.Struct, frozen=True, tag=True):
    """A watcher was given an entry at that time."""

    delivery: Delivery
    at_s: float


class Did(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """One operation; without an outcome it has no end."""

    who: str
    call: Call
    called_s: float
    outcome: Outcome | None = None
    returned_s: float = 0.0


_decoder: Final = msgspec.json.Decoder(Began | Came | Did)


class Recorded(msgspec.Struct, frozen=True):
    """Files read back. Names are those of the file: hashes where a head was read, see `named`."""

    history: tuple[Operation, ...] = ()
    deliveries: tuple[Came, ...] = ()
    begins: Mapping[str, int] = {}

    def named(self, names: Mapping[str, str]) -> tuple[Operation, ...]:
        """The history with hashes of entries told as their names.

        An unknown hash stays: no journal explains it.
        """
        return tuple(
            msgspec.structs.replace(
                one,
                outcome=Seen(one.outcome.revision, names.get(one.outcome.name, one.outcome.name)),
            )
            if isinstance(one.outcome, Seen)
            else one
            for one in self.history
        )

    def acknowledged(self) -> dict[str, int]:
        """Name -> revision of every append that was said to be durable."""
        return {
            one.call.name: one.outcome.revision
            for one in self.history
            if isinstance(one.call, Append) and isinstance(one.outcome, Appended)
        }

    def counts(self) -> dict[str, int]:
        """Appends by what became of them."""
        appends = [one.outcome for one in self.history if isinstance(one.call, Append)]
        return {
            "acknowledged": sum(isinstance(one, Appended) for one in appends),
            "refused": sum(isinstance(one, Refused) for one in appends),
            "unknown": sum(one is None for one in appends),
        }


class Log:
    """One file that threads of one process write to."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._lines = 0

    def begin(self, who: str, call: Call) -> Callable[[Outcome | None], None]:
        """An operation is called now; call what comes back when it is over, with its outcome."""
        called_s = time.monotonic()

        def done(outcome: Outcome | None) -> None:
            returned_s = time.monotonic() if outcome is not None else 0.0
            self._write(Did(who, call, called_s, outcome, returned_s))

        return done

    def watches(self, watcher: str, after: int) -> None:
        self._write(Began(watcher, after))

    def deliver(self, delivery: Delivery) -> None:
        self._write(Came(delivery, time.monotonic()))

    def _write(self, line: Began | Came | Did) -> None:
        with self._lock:
            self._lines += 1
            if self._lines > LINES_MAX:
                raise RuntimeError(f"more than {LINES_MAX} lines in one recording")
            os.write(self._file, msgspec.json.encode(line) + b"\n")


@contextlib.contextmanager
def recorded(path: Path) -> Iterator[Log]:
    """A log that is appended to `path`."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield Log(file)
    finally:
        os.close(file)


def read(paths: Sequence[Path]) -> Recorded:
    """All whole lines of these files, those that are not there left out; in order of calls."""
    lines = [line for path in paths for line in _lines(path)]
    done = sorted((line for line in lines if isinstance(line, Did)), key=lambda one: one.called_s)
    return Recorded(
        history=tuple(
            Operation(one.who, one.call, one.called_s, one.outcome, one.returned_s)
            if one.outcome is not None
            else Operation(one.who, one.call, one.called_s)
            for one in done
        ),
        deliveries=tuple(line for line in lines if isinstance(line, Came)),
        begins={line.watcher: line.after for line in lines if isinstance(line, Began)},
    )


class Tail:
    """Follows files while they grow: when what was sent when was acknowledged."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._offsets = dict.fromkeys(paths, 0)
        self._acknowledged: list[tuple[float, float]] = []
        self.delivered: dict[str, int] = {}
        """Watcher -> the newest revision that it was given."""

    def back_s(self, since_s: float) -> float | None:
        """Seconds from that time to the first answer to an append that was sent after it."""
        self.read()
        ends = (end_s for called_s, end_s in self._acknowledged if called_s >= since_s)
        first = min(ends, default=None)
        return None if first is None else first - since_s

    def read(self) -> None:
        """Take what is new."""
        for path, offset in self._offsets.items():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(offset)
                body = file.read()
                whole = body[: body.rfind(b"\n") + 1]
                self._offsets[path] = offset + len(whole)
                for line in whole.splitlines():
                    self._take(_decoder.decode(line))

    def _take(self, line: Began | Came | Did) -> None:
        if isinstance(line, Came):
            self.delivered[line.delivery.watcher] = line.delivery.revision
        elif isinstance(line, Did) and isinstance(line.outcome, Appended):
            self._acknowledged.append((line.called_s, line.returned_s))


def _lines(path: Path) -> Iterator[Began | Came | Did]:
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return
    for line in body[: body.rfind(b"\n") + 1].splitlines():
        yield _decoder.decode(line)

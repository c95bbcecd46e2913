"""How a process of an edge succeeds another: its place, the proof of it, and who comes next."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from holdfast.apps.edge.handover import Place, take
from holdfast.apps.notify import notify, reloading
from holdfast.apps.observe import logger
from holdfast.apps.settings import EdgeSettings
from holdfast.core.errors import Unavailable

PROOF_LOOK_S: Final = 0.02
TAKE_OVER: Final = "--take-over"

_log = logger("holdfast.edge")


@contextlib.contextmanager
def place_of(settings: EdgeSettings) -> Iterator[Place]:
    """The place of an edge, let go of in the end. Raises `Unavailable` when it can't be had."""
    place = take(
        settings.cache_dir, take_over=settings.take_over, within_s=settings.take_over_within_s
    )
    with contextlib.closing(place):
        yield place


def await_proof(lacks: Callable[[], str], place: Place, within_s: float) -> None:
    """Wait until nothing is lacking, then make the place ours. Raises `Unavailable`.

    `lacks` says what is, and raises `Unavailable` for what will never come.
    """
    end_s = time.monotonic() + within_s
    while missing := lacks():
        if place.gone():
            place.survive()
            return
        if time.monotonic() > end_s:
            raise Unavailable(f"not taken over: after {within_s:g} s {missing}")
        time.sleep(PROOF_LOOK_S)
    place.settle()


class Successor:
    """The process that this one starts in its place, if it does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The command of this process once more, as it is installed now, to take over from it."""
        if self._process is not None:
            return
        command = [sys.executable, *_without_parent(sys.orig_argv[1:])]
        if TAKE_OVER not in command:
            command.append(TAKE_OVER)
        _log.warning("starting a successor")
        reloading()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  our own

    def look(self) -> None:
        """Tell if it has ended while this process is here: then this one goes on."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            _log.error("the successor has ended: this process goes on", code=code)
            notify(READY=1, STATUS=f"serving; a successor ended with {code}, see its log")


def _without_parent(arguments: list[str]) -> list[str]:
    """The successor is the child of a process that will end."""
    if "--parent" not in arguments:
        return arguments
    at = arguments.index("--parent")
    return arguments[:at] + arguments[at + 2 :]

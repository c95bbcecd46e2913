"""The place of an edge, and how it goes from one process to another (`holdfast.core.handover`).

A place is the cache directory of an edge. Who holds its lock writes there and answers its door, a
unix socket that only this user can open. Who comes to take over is handed, over that door, first
the listening sockets, and with the cache the lock and the door themselves: both are open files that
two processes share for a while, so that there is no moment at which nobody listens, and none at
which a third one could slip in.

    {cache}/holdfast-1/edge.lock     locked by who holds the place, with its process id
    {cache}/holdfast-1/edge.door     where one asks for it
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from holdfast.apps.edge.talk import ANSWER_S, VERSION, Gone, Said, Talk
from holdfast.apps.observe import logger
from holdfast.core import handover as rules
from holdfast.core.errors import Unavailable
from holdfast.core.handover import PROOF_S, Command, Event, OutOfTurn

ASKED_S: Final = 3.0
"""Who knocks at the door says at once what for, unless his machine is busy."""
ENDING_S: Final = 10.0
"""How long to wait for the lock of a process that is ending."""
_TRY_S: Final = 0.02
_OWN: Final = "holdfast-1"

_log = logger("holdfast.edge.handover")


class Stand(Protocol):
    """What serves and can leave: one edge, or a group of workers."""

    def sockets(self) -> Sequence[socket.socket]: ...

    def holds(self) -> Mapping[str, int]: ...

    def lay_down(self) -> None:
        """Write the cache no more; on return nothing is being written."""

    def take_up(self) -> None:
        """Write it again."""

    def leave(self, pid: int) -> None:
        """Accept no more, finish, end; process `pid` accepts from now on."""

    def stay(self) -> None:
        """Accept again: that process is gone."""


class Place:
    """The place of one edge. `sockets` were handed over; none where nobody was before.

    While `talk` is there and the lock is not, it is still another's: see `settle`.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.sockets: list[socket.socket] = []
        self.holds: Mapping[str, int] = {}
        self.talk: Talk | None = None
        self.door: socket.socket | None = None
        self._lock = -1
        self._sick = False

    @property
    def ours(self) -> bool:
        return self._lock >= 0 or self._sick

    def begin(self) -> bool:
        """Take it, if nobody has it. On a disk that takes no lock it is ours as well: an edge that
        serves without being able to hand over is better than none."""
        try:
            if not self._try_lock():
                return False
            self.door = _door(self.cache_dir)
        except (OSError, Unavailable) as error:
            self._sick = True
            _log.error("nobody can take over from here: the disk takes no lock", why=str(error))
        return True

    def ask(self, within_s: float) -> None:
        """Ask who has it to give it. Raises `Unavailable` when it can't be had."""
        talk = self._reach()
        if talk is None:
            return
        try:
            talk.send(Said("asked", pid=os.getpid(), within_s=within_s))
            said, files = talk.receive(ANSWER_S)
        except (Gone, TimeoutError) as error:
            talk.close()
            raise Unavailable(f"{self.holder()} does not hand over: {error}") from None
        if said.say != "offer":
            talk.close()
            raise Unavailable(f"{self.holder()} does not hand over: {said.why or said.say}")
        self.talk, self.holds = talk, said.holds
        self.sockets = [socket.socket(fileno=file) for file in files]
        _log.info("taking over", of=said.pid, sockets=len(files), subjects=len(said.holds))

    def settle(self) -> None:
        """Proven: make the place ours, its cache with it. Raises `Unavailable`."""
        assert self.talk is not None  # noqa: S101  else it is ours already
        try:
            self.talk.send(Said("proven"))
            said, files = self.talk.receive(ANSWER_S)
        except TimeoutError:
            raise Unavailable(f"{self.holder()} does not hand over what it promised") from None
        except Gone:
            self.survive()
            return
        if said.say != "yours" or len(files) != 2:
            raise Unavailable(f"{self.holder()} does not hand over: {said.why or said.say}")
        self._lock = files[0]
        self.door = socket.socket(fileno=files[1])
        self._sign()

    def survive(self) -> None:
        """The other one is gone in the middle: go on in its place. Raises `Unavailable`."""
        self._hang_up()
        end_s = time.monotonic() + ENDING_S
        while not self.begin():
            if time.monotonic() > end_s:
                raise Unavailable(f"{self.holder()} ended the takeover and goes on")
            time.sleep(_TRY_S)
        _log.warning("the process before is gone: going on in its place")

    def gone(self) -> bool:
        """Whether the one that is to hand over has ended the talk; asked while proving."""
        if self.talk is None:
            return False
        self.talk.socket.settimeout(0)
        try:
            return not self.talk.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def serving(self) -> None:
        """Tell the one before that it can leave."""
        if self.talk is not None:
            with contextlib.suppress(Gone):
                self.talk.send(Said("serving"))

    def close(self) -> None:
        """Let go of it, in an orderly way: the one before, if it is there yet, ends too."""
        if self.talk is not None:
            with contextlib.suppress(Gone):
                self.talk.send(Said("ended"))
        self._hang_up()
        if self.door is not None:
            self.door.close()
            self.door = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def let_go(self) -> None:
        """In a child: the talk and the door are its parent's; the lock is held by both."""
        self._hang_up()
        if self.door is not None:
            self.door.close()
            self.door = None

    def files(self) -> tuple[int, int]:
        """What goes over with the cache: the lock and the door."""
        assert self.door is not None  # noqa: S101  whoever has the lock has the door
        return self._lock, self.door.fileno()

    def sign(self) -> None:
        """Write into the lock whose it is again."""
        self._sign()

    def _reach(self) -> Talk | None:
        """Who has the place; none if it is ours by now. Raises `Unavailable`."""
        end_s = time.monotonic() + ENDING_S
        while True:
            if self.begin():
                return None
            with contextlib.suppress(OSError):
                return Talk(_connected(self.cache_dir))
            if time.monotonic() > end_s:
                raise Unavailable(
                    f"{self.holder()} has the lock and answers nobody: it is ending, or hangs"
                )
            time.sleep(_TRY_S)

    def _try_lock(self) -> bool:
        lock = os.open(self._path("edge.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        self._sign()
        return True

    def _sign(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def holder(self) -> str:
        """Who has it, in words."""
        with contextlib.suppress(OSError):
            return f"the edge of {self.cache_dir} (process {self._path('edge.lock').read_text()})"
        return f"the edge of {self.cache_dir}"

    def _path(self, name: str) -> Path:
        return self.cache_dir / _OWN / name

    def _hang_up(self) -> None:
        if self.talk is not None:
            self.talk.close()
            self.talk = None


def take(cache_dir: Path, *, take_over: bool, within_s: float = PROOF_S) -> Place:
    """The place of an edge: taken, or asked for with `take_over` when another process has it.

    Raises `Unavailable` when it can't be had. The cache directory is there.
    """
    place = Place(cache_dir)
    if place.begin():
        return place
    if not take_over:
        raise Unavailable(
            f"{place.holder()} is running: add --take-over to take its place without a failed "
            "request, or give --cache another directory"
        )
    place.ask(within_s)
    return place


class Giver:
    """Performs what `holdfast.core.handover` commands; for one thread, which selects on `watched`.

    `told` hears of each step, in words.
    """

    def __init__(
        self, place: Place, stand: Stand, told: Callable[[str], None] = lambda _: None
    ) -> None:
        self._place = place
        self._stand = stand
        self._told = told
        self._state: rules.State = "serving"
        self._talk: Talk | None = None
        self._pid = 0
        self._late_s = float("inf")
        self.taken_back = 0
        self._door = place.door
        if self._door is not None:
            self._door.setblocking(False)

    @property
    def state(self) -> rules.State:
        return self._state

    def watched(self) -> list[socket.socket]:
        """Sockets on which something may come now."""
        talk = [self._talk.socket] if self._talk is not None else []
        if self._door is None or self._state not in {"serving", "offered"}:
            return talk
        return [*talk, self._door]

    def turn(self, ready: Iterable[object]) -> None:
        """Take in what came on those sockets, and that time passes."""
        for each in ready:
            if self._door is not None and each is self._door:
                self._answer(self._door)
            elif self._talk is not None and each is self._talk.socket:
                self._listen()
        if time.monotonic() > self._late_s:
            self._step("late")

    def close(self) -> None:
        if self._talk is not None:
            self._talk.close()
            self._talk = None

    def _answer(self, door: socket.socket) -> None:
        try:
            connection, _ = door.accept()
        except OSError:
            return
        talk = Talk(connection)
        try:
            said, _ = talk.receive(ASKED_S)
            why = self._refusal(talk, said)
            if not why:
                self._begin(talk, said)
                return
            talk.send(Said("no", why=why))
        except (Gone, TimeoutError):
            pass
        talk.close()

    def _refusal(self, talk: Talk, said: Said) -> str:
        if talk.peer()[1] != os.geteuid():
            return "it belongs to another user"
        if self._talk is not None:
            return "another process is taking over now"
        if said.version != VERSION or said.say != "asked":
            return f"it speaks version {VERSION} of this"
        return ""

    def _begin(self, talk: Talk, said: Said) -> None:
        self._talk, self._pid = talk, talk.peer()[0]
        self._late_s = time.monotonic() + min(said.within_s, 10 * PROOF_S) + ANSWER_S
        self._step("asked")

    def _listen(self) -> None:
        assert self._talk is not None  # noqa: S101  its socket is what was ready
        try:
            for said in self._talk.heard():
                self._step(said.say)  # type: ignore[arg-type]  # what is no event is out of turn
        except Gone:
            self._step("gone")
        except (TimeoutError, OutOfTurn) as error:
            _log.error("the process that takes over is not understood", why=str(error))
            self._step("gone")

    def _step(self, event: Event) -> None:
        self._state, commands = rules.step(self._state, event)
        if event == "late":
            self._late_s = float("inf")
        for command in commands:
            self._told(command)
            try:
                self._perform(command)
            except Gone:
                self._step("gone")
                return

    def _perform(self, command: Command) -> None:
        talk = self._talk
        match command:
            case "offer" if talk is not None:
                _log.warning("a new process takes over: it proves itself first", by=self._pid)
                sockets = [each.fileno() for each in self._stand.sockets()]
                said = Said("offer", pid=os.getpid(), holds=self._stand.holds())
                talk.send(said, sockets)
            case "lay down":
                self._late_s = float("inf")
                self._stand.lay_down()
            case "give" if talk is not None:
                talk.send(Said("yours"), self._place.files())
            case "leave":
                self._stand.leave(self._pid)
                _log.warning("the new process serves: this one finishes and ends", by=self._pid)
            case "take up":
                self.taken_back += 1
                self._place.sign()
                self._stand.take_up()
            case "stay":
                self._stand.stay()
            case "hang up":
                _log.warning("the takeover is over", by=self._pid, state=self._state)
                self._late_s = float("inf")
                self.close()


@contextlib.contextmanager
def _short(cache_dir: Path) -> Iterator[str]:
    """The door's path; by way of an open directory, since the kernel takes 107 bytes of it."""
    if sys.platform != "linux":
        yield str(cache_dir / _OWN / "edge.door")
        return
    folder = os.open(cache_dir / _OWN, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/edge.door"
    finally:
        os.close(folder)


def _door(cache_dir: Path) -> socket.socket:
    """The door, made anew: whoever had it is gone. Raises `Unavailable`."""
    path = cache_dir / _OWN / "edge.door"
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with _short(cache_dir) as short:
            door.bind(short)
        path.chmod(0o600)
        door.listen(4)
    except OSError as error:
        door.close()
        raise Unavailable(f"{path} can't be made: {error}") from error
    return door


def _connected(cache_dir: Path) -> socket.socket:
    connection: Any = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_S)
        with _short(cache_dir) as short:
            connection.connect(short)
    except OSError:
        connection.close()
        raise
    return connection  # type: ignore[no-any-return]

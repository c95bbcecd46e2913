"""What a process asked of its disk, recorded by `strace`, and what a power loss leaves of it.

A `Recording` is the list of all changes in the order in which they were asked for. `Disk` plays a
prefix of it as a disk with a cache does: what was synced is there; of what was not, any part may
be, each sector of 512 bytes by itself, and names come as far as they got in their own order, as in
any journaling file system. Files by `mmap` are not seen: SQLite's shared memory, which it makes
anew.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from holdfast.core.errors import Unavailable

SECTOR: Final = 512
TIMEOUT_S: Final = 120.0
_TRACED: Final = (
    "openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename,link,mkdir,close,lseek"
)
_LINE: Final = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)")
_FD: Final = re.compile(r"^(\d+)<")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Create(msgspec.Struct, frozen=True):
    """A name for a new file, or an old one (`inode`)."""

    name: str
    inode: int


class Remove(msgspec.Struct, frozen=True):
    name: str


class Rename(msgspec.Struct, frozen=True):
    name: str
    to: str


class Write(msgspec.Struct, frozen=True):
    inode: int
    offset: int
    data: bytes


class Truncate(msgspec.Struct, frozen=True):
    inode: int
    size: int


class Sync(msgspec.Struct, frozen=True):
    """Of a file; of the directories' names where `inode` is 0."""

    inode: int


class Said(msgspec.Struct, frozen=True):
    """What the process wrote to its standard output."""

    text: str


Name: TypeAlias = Create | Remove | Rename
Call: TypeAlias = Name | Write | Truncate | Sync | Said


def record(
    command: Sequence[str], directory: Path, log: Path, environment: Mapping[str, str]
) -> list[Call]:
    """Run a program of one thread to its end, and what it asked of files below `directory`.

    Raises `Unavailable` when it, or `strace`, fails.
    """
    strace = ("strace", "-y", "-xx", "-s", "4000000", "-o", str(log), "-e", f"trace={_TRACED}")
    done = subprocess.run(  # noqa: S603  our own command
        (*strace, *command),
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        raise Unavailable(f"strace: {done.stderr.decode(errors='replace')[-500:]}")
    with log.open(encoding="ascii") as lines:
        return list(_Reader(directory).read(lines))


class _Reader:
    """Turns lines of strace into calls: it knows which descriptor is which file, and where."""

    def __init__(self, directory: Path) -> None:
        self._below = f"{directory}/"
        self._root = str(directory)
        self._names: dict[str, int] = {}
        self._files: dict[int, int] = {}
        self._at: dict[int, int] = {}
        self._count = 0

    def read(self, lines: Iterator[str]) -> Iterator[Call]:
        for line in lines:
            match = _LINE.match(line)
            if match is None or match[3].startswith("-"):
                continue
            call, arguments, result = match[1], match[2], int(match[3])
            strings = [_bytes(text) for text in _STRING.findall(arguments)]
            fd = _FD.match(arguments)
            if fd is not None:
                yield from self._on_file(call, int(fd[1]), arguments, strings, result)
            else:
                yield from self._on_name(call, arguments, strings, result)

    def _on_name(
        self, call: str, arguments: str, strings: Sequence[bytes], result: int
    ) -> Iterator[Call]:
        names = [string.decode() for string in strings]
        if not names or not any(n.startswith(self._below) or n == self._root for n in names):
            return
        short = [name.removeprefix(self._below) for name in names]
        match call:
            case "openat":
                self._at[result] = 0
                if names[0] == self._root or "O_DIRECTORY" in arguments:
                    self._files[result] = 0
                    return
                if short[0] not in self._names:
                    yield self._new(short[0])
                self._files[result] = self._names[short[0]]
                if "O_TRUNC" in arguments:
                    yield Truncate(self._files[result], 0)
            case "unlink":
                self._names.pop(short[0], None)
                yield Remove(short[0])
            case "rename":
                self._names[short[1]] = self._names.pop(short[0])
                yield Rename(short[0], short[1])
            case "link":
                self._names[short[1]] = self._names[short[0]]
                yield Create(short[1], self._names[short[0]])

    def _new(self, name: str) -> Create:
        self._count += 1
        self._names[name] = self._count
        return Create(name, self._count)

    def _on_file(
        self, call: str, fd: int, arguments: str, strings: Sequence[bytes], result: int
    ) -> Iterator[Call]:
        if call == "write" and fd == 1:
            yield Said(strings[0].decode())
        inode = self._files.get(fd)
        if inode is None:
            return
        match call:
            case "pwrite64":
                yield Write(inode, int(arguments.rpartition(", ")[2]), strings[-1][:result])
            case "write":
                yield Write(inode, self._at[fd], strings[-1][:result])
                self._at[fd] += result
            case "lseek":
                self._at[fd] = result
            case "ftruncate":
                yield Truncate(inode, int(arguments.rpartition(", ")[2]))
            case "fsync" | "fdatasync":
                yield Sync(inode)
            case "close":
                self._files.pop(fd)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


How: TypeAlias = Literal["nothing", "everything", "some"]
"""How much of what was not synced is there after all."""


class Disk:
    """Plays calls; `after_power_loss` gives files by name. Owned by one thread."""

    def __init__(self) -> None:
        self._synced: dict[int, bytearray] = {}
        self._waiting: dict[int, list[Write | Truncate]] = {}
        self._names: dict[str, int] = {}
        self._renamed: list[Name] = []
        self.said: list[str] = []

    def play(self, call: Call) -> None:
        """One more call was asked for."""
        match call:
            case Said(text=text):
                self.said.append(text)
            case Write(inode=inode) | Truncate(inode=inode):
                self._waiting.setdefault(inode, []).append(call)
            case Sync(inode=0):
                for name in self._renamed:
                    _rename(self._names, name)
                self._renamed.clear()
            case Sync(inode=inode):
                file = self._synced.setdefault(inode, bytearray())
                for each in self._waiting.pop(inode, ()):
                    _change(file, each)
            case Create() | Remove() | Rename():
                self._renamed.append(call)

    def after_power_loss(self, how: How, chance: random.Random) -> dict[str, bytes]:
        """What lies there when the machine is back."""
        names = dict(self._names)
        got = {"nothing": 0, "everything": len(self._renamed)}.get(
            how, chance.randint(0, len(self._renamed))
        )
        for name in self._renamed[:got]:
            _rename(names, name)
        return {name: bytes(self._left(inode, how, chance)) for name, inode in names.items()}

    def _left(self, inode: int, how: How, chance: random.Random) -> bytearray:
        file = bytearray(self._synced.get(inode, b""))
        if how == "nothing":
            return file
        for each in self._waiting.get(inode, ()):
            if how == "everything":
                _change(file, each)
            elif isinstance(each, Write):
                for sector in _sectors(each):
                    if chance.random() < 0.5:
                        _change(file, sector)
            elif chance.random() < 0.5:
                _change(file, each)
        return file


def _sectors(write: Write) -> Iterator[Write]:
    """The parts that a disk writes each at once."""
    at = 0
    while at < len(write.data):
        size = SECTOR - (write.offset + at) % SECTOR
        yield Write(write.inode, write.offset + at, write.data[at : at + size])
        at += size


def _change(file: bytearray, change: Write | Truncate) -> None:
    end = change.size if isinstance(change, Truncate) else change.offset + len(change.data)
    if len(file) < end:
        file.extend(bytes(end - len(file)))
    if isinstance(change, Truncate):
        del file[end:]
    else:
        file[change.offset : end] = change.data


def _rename(names: dict[str, int], change: Name) -> None:
    match change:
        case Create(name=name, inode=inode):
            names[name] = inode
        case Remove(name=name):
            names.pop(name, None)
        case Rename(name=name, to=to) if name in names:
            names[to] = names.pop(name)

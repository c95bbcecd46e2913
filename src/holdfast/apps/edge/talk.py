"""Messages and open files between two processes of this machine, over a connected unix socket."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

ANSWER_S: Final = 10.0
"""What needs no proof is answered within this, or the other process hangs."""
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
FILES_MAX: Final = 250
"""Files in one message; the kernel takes 253."""
VERSION: Final = 1


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `holds` is what the one that serves answers from: subject -> revision."""

    say: str
    version: int = VERSION
    pid: int = 0
    within_s: float = 0.0
    holds: Mapping[str, int] = {}
    why: str = ""
    subject: str = ""
    digest: str = ""


_SAID: Final = msgspec.json.Decoder(Said)


class Gone(Exception):
    """The other process ended the talk."""


class Talk:
    """Messages and open files between two processes, over a connected unix socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""
        self._files: list[int] = []

    def send(self, said: Said, files: Sequence[int] = ()) -> None:
        """Raises `Gone`."""
        body = memoryview(msgspec.json.encode(said) + b"\n")
        try:
            self.socket.settimeout(ANSWER_S)
            sent = socket.send_fds(self.socket, [body[:1024]], list(files))
            if sent < len(body):
                self.socket.sendall(body[sent:])
        except OSError as error:
            raise Gone(str(error)) from None

    def receive(self, within_s: float) -> tuple[Said, list[int]]:
        """One message and its files. Raises `Gone`, and `TimeoutError`."""
        end_s = time.monotonic() + within_s
        while b"\n" not in self._buffer:
            self.socket.settimeout(max(0.001, end_s - time.monotonic()))
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        files, self._files = self._files, []
        try:
            return _SAID.decode(line), files
        except msgspec.MsgspecError as error:
            raise Gone(f"it says what can't be read: {error}") from None

    def heard(self) -> list[Said]:
        """What is there now, files dropped; for who was told that something is. Raises `Gone`."""
        self.socket.settimeout(ANSWER_S)
        self._read()
        said = []
        while b"\n" in self._buffer:
            message, files = self.receive(ANSWER_S)
            for file in files:
                os.close(file)
            said.append(message)
        return said

    def _read(self) -> None:
        try:
            data, files, _, _ = socket.recv_fds(self.socket, 65536, FILES_MAX)
        except TimeoutError:
            raise
        except OSError as error:
            raise Gone(str(error)) from None
        for file in files:
            os.set_inheritable(file, False)
        self._files += files
        self._buffer += data
        if not data or len(self._buffer) > MESSAGE_BYTES_MAX:
            raise Gone("it ended the talk")

    def peer(self) -> tuple[int, int]:
        """The process and the user at the other end, as the kernel knows them."""
        facts = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, user, _ = struct.unpack("3i", facts)
        return pid, user

    def close(self) -> None:
        self.socket.close()
        for file in self._files:
            os.close(file)
        self._files = []

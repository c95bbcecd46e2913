"""Hears that a journal grew, on a connection of its own: PostgreSQL's LISTEN, as a wake-up only.

What is told may get lost, with its connection for one. So nobody relies on it: who waits here looks
at the head again each time, and after a while in any case.
"""

from __future__ import annotations

import threading
import time

from holdfast.adapters.postgres_line import Line, PostgresLine


class PostgresEar:
    """Of those who wait, one listens, in its own thread, and wakes the others of its process."""

    def __init__(self, line: PostgresLine, channel: str) -> None:
        self._line = line
        self._channel = channel
        self._heard = threading.Condition()
        self._turn = threading.Lock()
        self._listening: Line | None = None
        self._closed = False

    def wait(self, wait_s: float) -> None:
        """Return when something may have come, at the latest after `wait_s`.

        Returns at once when it has only just begun to listen: what came before was not heard.
        """
        if self._turn.acquire(blocking=False):
            try:
                self._listen(wait_s)
            finally:
                self._turn.release()
                self.wake()
                if self._closed:  # perhaps since we last looked: then nobody else hangs up
                    self.close()
        else:
            with self._heard:
                self._heard.wait(wait_s)

    def wake(self) -> None:
        """Something came, by way of this process."""
        with self._heard:
            self._heard.notify_all()

    def close(self) -> None:
        """Who listens finds out within its wait, and ends."""
        self._closed = True
        self.wake()
        if self._turn.acquire(blocking=False):
            self._hang_up()
            self._turn.release()

    def _listen(self, wait_s: float) -> None:
        try:
            if self._listening is None:
                self._begin()
                return
            self._listening.until_s = time.monotonic() + wait_s + self._line.timeout_s
            with self._line.translated():
                for _ in self._listening.notifies(timeout=wait_s, stop_after=1):
                    pass
        except BaseException:
            self._hang_up()
            raise

    def _begin(self) -> None:
        self._listening = self._line.opened(self._line.timeout_s)
        with self._line.translated():
            self._listening.execute(f'LISTEN "{self._channel}"'.encode())

    def _hang_up(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None

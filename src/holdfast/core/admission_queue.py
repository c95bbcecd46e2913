"""How long requests stand in front of a server that answers one after the other: CoDel.

The server looks for requests (a poll), answers all that it found (a batch), and looks again. What
came meanwhile waited in the kernel. The first one of a batch came soon after the look before, so
it has waited about as long as the batch before it took; that is the least delay of its batch, and
no other figure of the kernel is needed.

A burst is answered and gone. Only a queue that *stands* is overload: the least delay over an
interval exceeds the target (Nichols and Jacobson, "Controlling Queue Delay", 2012; as in folly's
`Codel`, 100 ms and 5 ms).
"""

from __future__ import annotations

from typing import Final

INTERVAL_S: Final = 0.1
SLACK_S: Final = 0.001
"""Between two batches without a rest: what was answered is written then."""


class Queue:
    """What the batches tell. `before_s`: how long the first one of the running batch has waited.

    `standing_s` is the least delay over the last whole interval, `last_s` that of the last batch.
    """

    __slots__ = ("_end_s", "_least_s", "_length_s", "_since_s", "before_s", "last_s", "standing_s")

    def __init__(self, now_s: float) -> None:
        self._since_s = self._end_s = now_s
        self._length_s = 0.0
        self._least_s = float("inf")
        self.before_s = self.last_s = 0.0
        self.standing_s = 0.0

    def begin(self, start_s: float) -> bool:
        """A batch begins: its first one has waited through the batch before, or came just now.

        A server that rests between two batches had nothing to do: nobody has waited. Returns
        whether it did so for long, so that an interval begins anew.
        """
        gap_s = start_s - self._end_s
        rested = gap_s > self._length_s + SLACK_S
        self.before_s = 0.0 if rested else self._length_s + max(0.0, gap_s)
        if start_s - self._since_s < 2 * INTERVAL_S or not rested:
            return False
        self._since_s, self._least_s = start_s, float("inf")
        return True

    def rest(self) -> None:
        """A batch was so short that nobody behind it waits: in this interval no queue stands."""
        self._least_s = self._length_s = 0.0

    def end(self, now_s: float, length_s: float) -> bool:
        """A batch is over; whether an interval is."""
        self._end_s, self._length_s, self.last_s = now_s, length_s, self.before_s
        self._least_s = min(self._least_s, self.before_s)
        if now_s - self._since_s < INTERVAL_S:
            return False
        self.standing_s = self._least_s
        self._since_s, self._least_s = now_s, float("inf")
        return True

"""The one stream of hints: on the upstream in use, opened again gently when it ends.

- A stream that was open is opened again soon, spread over some seconds: its upstream may only have
  been replaced by its next process.
- One that was cut, or could not be opened, waits, with full jitter, and for an answer of that
  upstream to a poll: while an upstream is down its streams cost it nothing, and when it is back
  they come as the polls do, one by one. An answer while it was being opened counts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.conversation import CloseStream, Command, OpenStream, StreamClosed
from holdfast.core.pacing import full_jitter

REOPEN_SPREAD_S: Final = 4.0
PROVEN_S: Final = 30.0
"""A stream that lived this long reopens without the backoff of the failures before it."""
CLOSINGS_NOTED: Final = 3
"""Short-lived streams in a row after which one more is no reason to ask."""
NAIVE_WAIT_S: Final = 0.5


class _State(msgspec.Struct, frozen=True):
    """`upstream` is where a stream is, or is being, opened; none while there is none.

    `shut` is an upstream that cut the last one, or where none could be opened, and that answered
    nothing since.
    """

    upstream: int | None = None
    opened_s: float | None = None
    heard: bool = False
    failures: int = 0
    reopen_s: float = 0.0
    shut: int | None = None


class Listening:
    """`gentle` off opens again at once and always, as clients do that know no better."""

    def __init__(self, *, wanted: bool, gentle: bool = True) -> None:
        self.wanted = wanted
        self._gentle = gentle
        self._state = _State()

    def not_before(self, at_s: float) -> None:
        """While none is open: open the next one then."""
        if self._state.upstream is None:
            self._state = msgspec.structs.replace(self._state, reopen_s=at_s)

    def opened(self, upstream: int, now_s: float) -> bool:
        """Whether that is the stream which is wanted."""
        if upstream != self._state.upstream:
            return False
        self._state = msgspec.structs.replace(self._state, opened_s=now_s, shut=None)
        return True

    def closed(self, event: StreamClosed, now_s: float, cap_s: float, chance: float) -> bool:
        """Whether a stream ended that had been open, so that its upstream may be gone."""
        state = self._state
        if event.upstream != state.upstream:
            return False
        opened_s = state.opened_s
        proven = opened_s is not None and now_s - opened_s >= PROVEN_S
        failures = 1 if proven else state.failures + 1
        # What failed to open may have been tried before that upstream was up.
        lost = not state.heard if opened_s is None else event.cut
        shut = event.upstream if lost and self._gentle else None
        wait_s = full_jitter(failures, REOPEN_SPREAD_S, max(cap_s, REOPEN_SPREAD_S), chance)
        if shut is not None and opened_s is None and failures == 1:
            wait_s = 0.0  # the answer that it waits for comes with jitter
        wait_s = max(wait_s, event.retry_after_s) if self._gentle else NAIVE_WAIT_S
        self._state = _State(failures=failures, reopen_s=now_s + wait_s, shut=shut)
        return opened_s is not None and failures <= CLOSINGS_NOTED

    def answered(self, upstream: int) -> None:
        """That upstream answered a question."""
        if self._state.upstream == upstream and not self._state.heard:
            self._state = msgspec.structs.replace(self._state, heard=True)
        if self._state.shut == upstream:
            self._state = msgspec.structs.replace(self._state, shut=None)

    def step(self, current: int, now_s: float) -> list[Command]:
        """Keep the stream on the upstream in use, if streams are wanted."""
        state = self._state
        if state.upstream is not None and (not self.wanted or state.upstream != current):
            self._state = state = _State(failures=state.failures, reopen_s=now_s)
            return [CloseStream(), *self.step(current, now_s)]
        if state.upstream is not None or not self._may_open(current) or now_s < state.reopen_s:
            return []
        self._state = _State(upstream=current, failures=state.failures)
        return [OpenStream(current)]

    def wake_s(self, current: int) -> float | None:
        """When a stream is to be opened; none while that is not a matter of time."""
        waits = self._state.upstream is None and self._may_open(current)
        return self._state.reopen_s if waits else None

    def _may_open(self, current: int) -> bool:
        return self.wanted and self._state.shut != current

"""What a client says of itself in the log: each thing once, when it begins and when it is over."""

from __future__ import annotations

from holdfast.core.model import Subject
from holdfast.sdk.setup import loud, quiet
from holdfast.sdk.status import State


class Said:
    """The last that was said. Owned by the follower's thread, once that runs."""

    def __init__(self, subject: Subject, state: State) -> None:
        self._subject = subject
        self._state = state
        self._silent = False

    def now(self, state: State, silence: str) -> None:
        """The client is in this state; `silence` is why no endpoint answers, empty while one does.

        Without settings nothing becomes stale, so that a wrong token or URL is to be heard of here.
        """
        if state != self._state:
            self._state = state
            (loud if state == "stale" else quiet)(f"settings of {self._subject} are {state}")
        if bool(silence) != self._silent:
            self._silent = bool(silence)
            if silence:
                loud(f"no endpoint answers for {self._subject}: {silence}")
            else:
                quiet(f"an endpoint answers again for {self._subject}")

"""Tickets: what opens an OFREP stream, whose request carries no header of its own.

A ticket names one subject and a time, signed with a secret of the edge. It travels in a URL, where
logs and histories may keep it; so it is good for hints about that one subject, for two hours at
most, and for nothing else.
"""

from __future__ import annotations

import hashlib
import hmac

from holdfast.ports import Clock

PERIOD_S = 3600
"""Tickets of one period are the same text, so that an answer holding one keeps its ETag."""
MAC_CHARS = 32


class Tickets:
    """Issues and checks. Edges behind one address share the `secret`; alone, chance will do."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self._expires_s = 0
        self._issued: dict[str, str] = {}

    def issue(self, name: str) -> str:
        """A ticket for the streams of "environment/service", good for one to two periods.

        The very same object for one period: who derived something from it need not do so again.
        """
        expires_s = (int(self._clock()) // PERIOD_S + 2) * PERIOD_S
        if expires_s != self._expires_s:
            self._expires_s, self._issued = expires_s, {}
        issued = self._issued.get(name)
        if issued is None:
            issued = self._issued[name] = f"{expires_s}.{self._mac(name, str(expires_s))}"
        return issued

    def lifetime_s(self, name: str, ticket: str) -> float | None:
        """How long the ticket is still good, or none when it is not."""
        expires, _, mac = ticket.partition(".")
        if not (expires.isascii() and expires.isdigit() and mac.isascii() and len(expires) < 16):
            return None
        if not hmac.compare_digest(mac, self._mac(name, expires)):
            return None
        left_s = int(expires) - self._clock()
        return left_s if left_s > 0 else None

    def _mac(self, name: str, expires: str) -> str:
        message = f"ofrep-stream\n{name}\n{expires}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:MAC_CHARS]

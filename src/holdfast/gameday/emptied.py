"""A consumer that is offered an empty record: all of it signed as it should be, and nothing in it.

What an installation signs that has lost its settings and has not noticed. The consumer is what a
client has between its socket and its settings: a source, then `Intake`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.http_source import HttpSource
from holdfast.adapters.memory_cache import MemoryCache
from holdfast.adapters.memory_source import MemorySource
from holdfast.adapters.signing import Keys
from holdfast.core.bundle import Bundle, decode_bundle, encode_bundle
from holdfast.core.conversation import Answered
from holdfast.core.errors import Unavailable
from holdfast.core.model import Subject
from holdfast.core.snapshot import STATEMENT_TYPE, Previous, Snapshot, decode, encode, statement
from holdfast.core.trust import EVERY_CHECK, NO_CHECKS
from holdfast.core.wire import decode_envelope, digest
from holdfast.sdk.intake import Intake
from holdfast.sdk.trials import Host, Trials

ASK_S: Final = 10.0


class Consumer:
    """Follows one subject at `url`; `keys` are those that sign there."""

    def __init__(self, url: str, subject: Subject, keys: Keys, *, checks: bool) -> None:
        self._source = HttpSource(url)
        self._subject = subject
        self._keys = keys
        cache = MemoryCache()
        trials = Trials(cache, Host(), streak=False)
        believed = EVERY_CHECK if checks else NO_CHECKS
        self._intake = Intake(cache, None, verify, lambda: 0.0, trials, None, believed)

    def close(self) -> None:
        self._source.close()

    def follow(self) -> None:
        """Activate what is the newest there. Raises `Unavailable` when it can't."""
        found = self._intake.ask(self._source, self._subject, 0, ASK_S)
        if not isinstance(found, Answered):
            raise Unavailable(f"the true snapshot was not taken: {found}")
        if found.candidate is not None:
            self._intake.activate(self._subject, found.candidate.digest)

    def believes_empty(self, *, told: bool) -> bool:
        """Whether it would activate an empty successor of what is the newest.

        `told`: the record says of each setting that it was removed; else they are just not there.
        """
        body = decode_bundle(self._source.snapshot(self._subject, None).body or b"").snapshot
        empty = encode(emptied(decode(body or b""), told=told))
        sign = self._keys.signer(self._subject.environment)
        signed = decode_envelope(sign(STATEMENT_TYPE, statement(decode(empty), empty)))
        lying = MemorySource("emptied")
        bundle = encode_bundle(Bundle(self._keys.chain, signed, snapshot=empty))
        lying.put(self._subject, digest(empty), bundle)
        found = self._intake.ask(lying, self._subject, 0, ASK_S)
        return isinstance(found, Answered) and found.candidate is not None


def emptied(last: Snapshot, *, told: bool) -> Snapshot:
    """The snapshot after `last`, without a single setting."""
    facts = last.holdfast
    revision = facts.revision + 1
    removed = dict.fromkeys(sorted(facts.settings), revision) if told else {}
    after = msgspec.structs.replace(
        facts,
        revision=revision,
        journal_head=digest(b"nobody's entry"),
        previous=Previous(facts.revision, digest(encode(last))),
        settings={},
        schemas={},
        removed={**facts.removed, **removed},
        segments={},
        probes={},
        contracts=(),
    )
    return msgspec.structs.replace(last, evaluators={}, flags={}, holdfast=after)

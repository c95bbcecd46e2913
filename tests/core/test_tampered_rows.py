"""An audit reads what others may have written: whatever stands there, it ends in findings."""

from __future__ import annotations

import contextlib
import hashlib

import msgspec
import pytest

from holdfast.core.audit import chain
from holdfast.core.errors import Damaged
from holdfast.core.history import decode_entry, decode_link, decode_state
from holdfast.core.lineage import decode_standing
from holdfast.core.replay import published_in

TAMPERED = (
    b'{"revision":1,"previous":"\xff","published":{"\xff":"1:aa"}}',
    b"[" * 100_000,
    b'{"revision":' + b"9" * 5_000 + b"}",
    b'{"revision":1,"previous":"","published":{"a/b":"' + b"9" * 5_000 + b':aa"}}',
    b"\xff",
    b"",
)


class Row(msgspec.Struct):
    revision: int
    hash: str
    body: bytes


@pytest.mark.parametrize("body", TAMPERED)
def test_rows_of_any_bytes_are_findings(body: bytes) -> None:
    assert chain([Row(1, hashlib.sha256(body).hexdigest(), body)], None, None).findings
    assert not any(published_in([body]).values())


@pytest.mark.parametrize("body", TAMPERED)
def test_rows_of_any_bytes_are_no_surprise(body: bytes) -> None:
    """Well hashed by whoever wrote them: they are read, or they are damage."""
    hashed = hashlib.sha256(body).hexdigest()
    for decode in (decode_link, decode_entry):
        with contextlib.suppress(Damaged):
            decode(body, hashed)
    for decode_kept in (decode_state, decode_standing):
        with pytest.raises(Damaged):
            decode_kept(body)

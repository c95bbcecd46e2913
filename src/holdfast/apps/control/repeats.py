"""A commit that is asked for again, since its answer was lost: known for its own by its key.

A caller that sends `Idempotency-Key` with a base revision may send the same request again, to any
node and at any time. The entry keeps the digest of the token, the route, the key and the body
(`Entry.attempt`). At most one entry stands on a revision, so that one look at it tells: this
request's, then it is answered as the first time; or somebody else's, then it is a conflict.
"""

from __future__ import annotations

import hashlib

from holdfast.apps.control import schemas
from holdfast.core.errors import NotFound
from holdfast.core.model import BreakGlass
from holdfast.core.subjects import revisions
from holdfast.engine.records import Records


def attempt_digest(token: str, method: str, path: str, key: str, body: bytes) -> str:
    """What a repeat of such a request is known by.

    Whoever sends the same key with another token or another body has made no repeat.
    """
    told = f"{token}\n{method} {path}\n{key}\n"
    return hashlib.sha256(told.encode() + body).hexdigest()


def first_answer(records: Records, base_revision: int, attempt: str) -> schemas.Committed | None:
    """What was answered to the request that committed on that revision, if it was this one.

    Without the warnings, which no entry keeps. The view must have read that far.
    """
    try:
        entry = records.entry(base_revision + 1)
    except NotFound:
        return None
    if not attempt or entry.attempt != attempt:
        return None
    made = revisions(records.state_at(entry.revision))
    return schemas.Committed(
        revision=entry.revision,
        hash=entry.hash,
        differences=records.changes(entry.revision),
        subjects=tuple(
            schemas.SubjectBody(each.environment, each.service, revision)
            for each, revision in sorted(made.items())
            if revision == entry.revision
        ),
        broken=tuple(edit for edit in entry.edits if isinstance(edit, BreakGlass)),
        repeated=True,
    )

"""Is this a set of contexts that probes can be made of? For the write door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from holdfast.core.errors import NotFound, Problem
from holdfast.core.json_check import check_json
from holdfast.core.model import Edit, PutContexts, Subject
from holdfast.core.pointer import pointer
from holdfast.core.sampling import CONTEXT_BYTES_MAX
from holdfast.core.state import State
from holdfast.core.subjects import subject_revision

CONTEXTS_MAX: Final = 64
"""Contexts kept of one subject."""
DEPTH_MAX: Final = 8


def check_contexts(old: State, edits: Iterable[Edit]) -> Iterator[Problem]:
    """All problems of the contexts that a change puts: they are of what stands before it."""
    for edit in edits:
        if not isinstance(edit, PutContexts):
            continue
        path = pointer(("contexts", edit.environment, edit.service))
        try:
            subject_revision(old, Subject(edit.environment, edit.service))
        except NotFound as error:
            hint = "put contexts of what there is"
            yield Problem(code="unknown-service", message=str(error), path=path, hint=hint)
        if len(edit.contexts) > CONTEXTS_MAX:
            message = f"{len(edit.contexts)} contexts; {CONTEXTS_MAX} are the most"
            yield Problem(code="too-many", message=message, path=path, hint="choose fewer")
            continue
        for number, context in enumerate(edit.contexts):
            yield from _context(context, f"{path}/{number}")


def _context(context: object, path: str) -> Iterator[Problem]:
    found = list(check_json(context, path, DEPTH_MAX))
    yield from found
    if not found and len(msgspec.json.encode(context)) > CONTEXT_BYTES_MAX:
        message = f"a context of more than {CONTEXT_BYTES_MAX} bytes"
        yield Problem(code="too-large", message=message, path=path, hint="choose another one")

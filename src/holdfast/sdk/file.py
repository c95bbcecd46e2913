"""Settings from a file or a mapping instead of an upstream: tests, offline work, bundled defaults.

A file is JSON: a flagd flag definition file, a Holdfast snapshot, or a Holdfast bundle. Whoever
gives the file is believed: no signature is asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.core.errors import (
    CallerError,
    Damaged,
    Invalid,
    NotFound,
    OperatorError,
    Problem,
    Untrusted,
)
from holdfast.core.evaluate import Evaluator
from holdfast.core.limits import SNAPSHOT_BYTES_MAX
from holdfast.core.model import Bucketing
from holdfast.core.snapshot import Snapshot, decode
from holdfast.core.targeting import flags as definitions
from holdfast.core.wire import canonical, digest
from holdfast.sdk.evaluation import Origin, View

FILE_BYTES_MAX = 2 * SNAPSHOT_BYTES_MAX
_VARIANT: Final = "default"


class _Document(msgspec.Struct):
    """What a file may be, by what it has: a flagd file, a snapshot, or a bundle."""

    flags: dict[str, msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    evaluators: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict, name="$evaluators")
    metadata: dict[str, Any] = {}
    holdfast: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    snapshot: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_DOCUMENT: Final = msgspec.json.Decoder(_Document)


def empty_view() -> View:
    return View(Evaluator({}, now_s=time.time))


def view_of_snapshot(evaluator: Evaluator, snapshot: Snapshot, found: str, origin: Origin) -> View:
    sources = _Sources(snapshot.flags, snapshot.holdfast.settings)
    return View(evaluator, sources, snapshot.holdfast.revision, found, origin)


def read_file(
    path: str | os.PathLike[str], origin: Origin = "file", bucketing: Bucketing = "v3"
) -> View:
    """Raises `NotFound`, `Damaged` for what is no such file, and `Invalid` with every bad flag."""
    try:
        with Path(path).open("rb") as file:
            body = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # a name that none can have is a ValueError
        raise NotFound(f"{path}: {error}") from error
    if len(body) > FILE_BYTES_MAX:
        raise Damaged(f"{path} has more than {FILE_BYTES_MAX} bytes")
    return _view(body, str(path), origin, bucketing)


def read_mapping(settings: Mapping[str, Any], origin: Origin = "defaults") -> View:
    """Keys with their values, or flag definitions under `flags` as in a flagd file."""
    if isinstance(settings.get("flags"), Mapping):
        document = dict(settings)
    else:
        document = {"flags": {key: _fixed(value) for key, value in settings.items()}}
    return _view(canonical(document), "the mapping", origin, "v3")


def _fixed(value: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": {_VARIANT: value}, "defaultVariant": _VARIANT}


def _view(body: bytes, name: str, origin: Origin, bucketing: Bucketing) -> View:
    document = _document(body, name)
    if document.snapshot is not msgspec.UNSET:
        body = bytes(document.snapshot)
        document = _document(body, name)
    if document.holdfast is not msgspec.UNSET:
        return _snapshot_view(body, name, origin)
    if document.flags is msgspec.UNSET:
        raise Damaged(
            f"{name} has no `flags`: give a flagd file, a snapshot or a bundle; "
            "`holdfast export flagd --from` makes one of settings files"
        )
    _check_flags(document.flags, name)
    evaluator = Evaluator(
        document.flags,
        evaluators=document.evaluators,
        metadata=document.metadata,
        bucketing=bucketing,
        now_s=time.time,
    )
    sources = _Sources(document.flags, dict.fromkeys(document.flags, msgspec.Raw()))
    return View(evaluator, sources, 0, digest(body), origin)


def _document(body: bytes, name: str) -> _Document:
    try:
        return _DOCUMENT.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Damaged(
            f"{name} is no flagd file and no snapshot, which are JSON ({error}); what "
            "`holdfast export flagd` and `holdfast export snapshot` write can be read, "
            "and `holdfast export flagd --from` makes such a file of settings files"
        ) from None


def _snapshot_view(body: bytes, name: str, origin: Origin) -> View:
    try:
        snapshot = decode(body)
    except Untrusted as error:
        raise Damaged(f"{name} is no snapshot that can be read: {error}") from None
    if snapshot.holdfast.segments:
        raise Damaged(f"{name} refers to segment tables, which travel apart from it")
    facts = snapshot.holdfast
    evaluator = Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        metadata=snapshot.metadata,
        bucketing=facts.semantics.bucketing,
        types={key: snapshot.setting(key).type for key in snapshot.flags},
        now_s=time.time,
    )
    return view_of_snapshot(evaluator, snapshot, digest(body), origin)


def _check_flags(flags: Mapping[str, msgspec.Raw], name: str) -> None:
    problems = []
    for key, body in flags.items():
        try:
            definitions.decode(body)
        except definitions.BadFlag as error:
            pointer = "/flags/" + key.replace("~", "~0").replace("/", "~1")
            problems.append(Problem(code="bad-flag", message=str(error), path=pointer, file=name))
    if problems:
        raise Invalid(problems)


class _Sources(Mapping[str, tuple[object, object]]):
    """Definition and source facts of each key, put together only when views are compared."""

    def __init__(self, flags: Mapping[str, msgspec.Raw], facts: Mapping[str, msgspec.Raw]) -> None:
        self._flags = flags
        self._facts = facts

    def __getitem__(self, key: str) -> tuple[object, object]:
        return self._flags[key], self._facts[key]

    def __iter__(self) -> Any:
        return iter(self._flags)

    def __len__(self) -> int:
        return len(self._flags)


def defaults_view(defaults: Mapping[str, Any] | str | None) -> View:
    """The bundled defaults: keys with values, or a flagd file; an empty view without any.

    Raises `Invalid`.
    """
    if defaults is None:
        return empty_view()
    try:
        if isinstance(defaults, str):
            return read_file(defaults, "defaults")
        return read_mapping(defaults)
    except (CallerError, OperatorError, TypeError) as error:
        hint = "give keys with their values, as JSON has them, or the path of a flagd file"
        problem = Problem(code="argument", message=str(error), path="/defaults", hint=hint)
        raise Invalid([problem]) from None

"""The consumer that everybody else ships: it believes whatever comes with status 200.

Reads bundles without a look at signatures, digests, revisions or probes. With it a defect is shown
to change answers; it is what Holdfast's own consumers are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from holdfast.core.evaluate import Evaluator
from holdfast.core.model import JSON
from holdfast.core.snapshot import Snapshot
from holdfast.core.targeting.outcome import Outcome
from holdfast.core.targeting.segments import SegmentTable

NOW_S = 1_790_000_000.0
"""Any fixed time: no rule of the drills' settings reads the clock."""
OF_DOCUMENT = ("flags", "$evaluators")
"""Maps that a delta patches beside those of the `holdfast` block."""


class Ask(msgspec.Struct, frozen=True):
    """One question to a service."""

    service: str
    key: str
    context: dict[str, JSON]


def document_of(bundle: bytes, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The snapshot's document in a bundle, a delta applied to the document `before`."""
    parts = msgspec.json.decode(bundle)
    if "snapshot" in parts:
        whole: dict[str, Any] = parts["snapshot"]
        return whole
    delta = parts["delta"]
    document = {**(before or {}), "metadata": delta["metadata"]}
    block = {**document["holdfast"], **delta["rest"]}
    for name, patch in delta["patches"].items():
        place = document if name in OF_DOCUMENT else block
        left = {k: v for k, v in place.get(name, {}).items() if k not in patch.get("drop", ())}
        place[name] = {**left, **patch.get("put", {})}
    document["holdfast"] = block
    return document


def evaluator_of(document: Mapping[str, Any], tables: Mapping[str, bytes]) -> Evaluator:
    """An evaluator over a document; `tables` holds segment tables by digest."""
    snapshot = msgspec.json.decode(msgspec.json.encode(document), type=Snapshot)
    facts = snapshot.holdfast
    types = {key: msgspec.json.decode(raw)["type"] for key, raw in facts.settings.items()}
    return Evaluator(
        snapshot.flags,
        evaluators=snapshot.evaluators,
        metadata=snapshot.metadata,
        bucketing=facts.semantics.bucketing,
        types=types,
        segments={
            name: SegmentTable(tables[each.digest])
            for name, each in facts.segments.items()
            if each.digest in tables
        },
        now_s=lambda: NOW_S,
    )


def told(outcome: Outcome) -> JSON:
    """An answer as the drills compare it: `[value, variant, error code]`."""
    return [outcome.value, outcome.variant, outcome.error_code]


def answers(evaluators: Mapping[str, Evaluator], asks: Sequence[Ask]) -> list[JSON]:
    """What comes out for each question."""
    return [
        told(evaluators[ask.service].evaluate(ask.key, ask.context))
        if ask.service in evaluators
        else [None, None, "NO_SNAPSHOT"]
        for ask in asks
    ]

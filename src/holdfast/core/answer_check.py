"""What consumers would refuse for an answer that becomes an error, told before it is published.

A consumer holds each snapshot to the contexts that the one before it carried (`core.proof`). A rule
that has an answer for one of them today, and fails for it tomorrow, keeps the whole snapshot from
all consumers, and all that follows it. With a rollout that begins when somebody is exposed.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from holdfast.core.contracts import NO_TABLE
from holdfast.core.errors import Invalid, Problem
from holdfast.core.model import JSON, Subject
from holdfast.core.pointer import pointer, short
from holdfast.core.preview import Side, side_of
from holdfast.core.probes import read
from holdfast.core.state import ServiceState, State
from holdfast.core.subjects import environment_of


def check_answers(old: State, new: State, now_s: float) -> Iterator[Problem]:
    """One problem for each setting and environment, with a context that it would fail for.

    Settings are looked at that are otherwise than they were, in the service that they stand in. One
    that goes over to another bucketing meanwhile is passed over, as consumers pass over some of it.
    Answers that hang on the tables of large segments are carried by no snapshot.
    """
    for name, service in new.services.items():
        before = old.services.get(name)
        if before is None or before is service:
            continue
        keys = _differing(before, service)
        for environment in service.touched if keys else ():
            subject = Subject(environment, name)
            if _bucketing(old, subject) == _bucketing(new, subject):
                yield from _failing(old, new, subject, keys, now_s)


def _differing(before: ServiceState, service: ServiceState) -> set[str]:
    """Keys that both have; settings are compared by identity, which folding keeps."""
    return {
        key
        for key, one in service.settings.items()
        if key in before.settings and before.settings[key].setting is not one.setting
    }


def _bucketing(state: State, subject: Subject) -> str:
    return environment_of(state, subject.environment).environment.bucketing_of(subject.service)


def _failing(
    old: State, new: State, subject: Subject, keys: set[str], now_s: float
) -> Iterator[Problem]:
    try:
        was, now = (side_of(one, subject, keys, lambda _: None, now_s) for one in (old, new))
    except Invalid:
        return  # what can't be built is not published: building says why
    for key in sorted({*was.evaluator.keys()}.intersection(now.evaluator.keys())):
        for context in (*_probed(was, key), *old.contexts.get(str(subject), ())):
            why = now.evaluator.evaluate(key, context)
            fails = why.error_code is not None and NO_TABLE not in (why.error_message or "")
            if fails and was.evaluator.evaluate(key, context).error_code is None:
                yield _problem(subject, key, context, why.error_message or "")
                break


def _probed(side: Side, key: str) -> Iterator[dict[str, JSON]]:
    """The contexts by which the setting is probed, when nothing else takes their room."""
    probes = side.snapshot.holdfast.probes if side.snapshot else {}
    if key in probes:
        yield from (one.context for one in read(key, probes[key]))


def _problem(subject: Subject, key: str, context: dict[str, JSON], why: str) -> Problem:
    shown = short(msgspec.json.encode(context).decode(), 200)
    where = ("services", subject.service, "settings", key, "environments", subject.environment)
    return Problem(
        code="failing",
        message=f"`{key}` would fail in {subject.environment} for {shown}, which it has an answer "
        f"for: consumers will refuse it ({why})",
        path=pointer(where),
        hint="let it give a variant for this context, or null for its default",
    )

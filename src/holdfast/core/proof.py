"""What a candidate has to show before it answers: the checks that look at what it would answer.

    schema -> own contract -> shape -> its probes come out -> nothing moved unexplained

They come after those of `core.trust`, which ask whether it may be believed at all, and use this
consumer's own evaluator: a publisher or a build of ours that gets an answer wrong is found here,
whatever was signed. Pure: nothing here replaces anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, get_args

import msgspec

from holdfast.core.conform import faults, fits_type
from holdfast.core.errors import Untrusted
from holdfast.core.model import JSON, Contract, SettingType
from holdfast.core.probes import PROBES_MAX, Answering, Carried, count, read
from holdfast.core.snapshot import Snapshot, pushed_keys
from holdfast.core.trust import Checks, Generation
from holdfast.core.wire import UNREADABLE, canonical


def _go_on() -> None:
    """The pause of who need not give way to others."""


class Demands(msgspec.Struct, frozen=True):
    """What one consumer asks for. `contract`: what it reads; none for anything.

    `pause` is called between pieces of work, so that other threads get their turn.
    """

    contract: Contract | None = None
    checks: Checks = Checks()
    pause: Callable[[], None] = _go_on


ANYTHING: Final = Demands()


def prove(candidate: Generation, active: Generation | None, demands: Demands = ANYTHING) -> None:
    """Hold the candidate to all of the module's checks, against `active` where there is one.

    Raises `Untrusted` with code `schema`, `contract`, `shape`, `probe` or `unexplained`, and the
    setting's key where it is about one.
    """
    checks = demands.checks
    try:
        if checks.schema:
            _check_schemas(candidate.snapshot, active.snapshot if active else None, demands.pause)
            if active is not None:
                _check_types(active.snapshot, candidate.snapshot, demands.pause)
        if checks.contract and demands.contract is not None:
            _check_contract(candidate, demands.contract)
        if checks.shape and active is not None:
            _check_shape(active, candidate)
        _check_answers(candidate, active, demands)
    except Untrusted as error:
        error.revision, error.digest = candidate.revision, candidate.digest
        raise


def replayed(generation: Generation, pause: Callable[[], None] = _go_on) -> None:
    """Hold a generation to its own probes. Raises `Untrusted` code `probe`."""
    _check_answers(generation, None, Demands(pause=pause))


def _check_schemas(new: Snapshot, old: Snapshot | None, pause: Callable[[], None]) -> None:
    """Every variant of every setting with a schema; what is the same as before was checked then."""
    schemas: dict[bytes, JSON] = {}
    for key, raw in new.holdfast.schemas.items():
        flag = new.flags[key]
        if old and old.holdfast.schemas.get(key) == raw and old.flags.get(key) == flag:
            continue
        body = memoryview(raw).tobytes()
        if body not in schemas:
            schemas[body] = msgspec.json.decode(body)
            pause()
        for name, value in _variants(key, flag).items():
            for fault in faults(schemas[body], value):
                raise Untrusted("schema", f"variant {name!r} of {key!r} at {fault}", key)


def _check_types(old: Snapshot, new: Snapshot, pause: Callable[[], None]) -> None:
    """Every variant of what is not as it was has its setting's type.

    A first snapshot is not looked through: to whoever asks for another type a value is none.
    """
    for key, flag in new.flags.items():
        if old.flags.get(key) == flag:
            continue
        pause()
        kind = _kind(new, key)
        for name, value in _variants(key, flag).items():
            if not fits_type(value, kind):
                raise Untrusted("schema", f"variant {name!r} of {key!r} is no {kind}", key)


class _Valued(msgspec.Struct):
    """What of a flag has values; the rest of it is passed over, which costs half as much."""

    variants: dict[str, JSON]


_VALUED: Final = msgspec.json.Decoder(_Valued)
_KINDS: Final[Mapping[bytes, SettingType]] = {
    b'"%b"}' % kind.encode(): kind for kind in get_args(SettingType)
}


def _variants(key: str, flag: msgspec.Raw) -> dict[str, JSON]:
    try:
        return _VALUED.decode(flag).variants
    except UNREADABLE as error:
        raise Untrusted("schema", f"{key!r}: {error}", key) from None


def _kind(snapshot: Snapshot, key: str) -> SettingType:
    """The declared type: the last member of canonical facts, so that most need no decoding."""
    body = memoryview(snapshot.holdfast.settings[key]).tobytes()
    return _KINDS.get(body.rpartition(b'"type":')[2]) or snapshot.setting(key).type


_OFF: Final = b"null"
"""No value: switched off, or not there. The caller's code default applies, which breaks nothing."""


def _check_contract(candidate: Generation, contract: Contract) -> None:
    snapshot = candidate.snapshot
    if contract.environments and candidate.subject.environment not in contract.environments:
        return
    for key, need in contract.needs.items():
        if key not in snapshot.flags:
            if need.required:
                raise Untrusted("contract", f"the contract needs {key!r}, and it isn't there", key)
            continue
        kind = snapshot.setting(key).type
        if kind != need.type and not (kind == "integer" and need.type == "number"):
            raise Untrusted(
                "contract", f"the contract needs {key!r} as {need.type}, it is {kind}", key
            )
        for name, value in _variants(key, snapshot.flags[key]).items():
            for fault in faults(need.schema, value):
                message = f"the contract can't read variant {name!r} of {key!r} at {fault}"
                raise Untrusted("contract", message, key)
    answering = Answering(candidate.evaluator, contract.needs)
    for number, example in enumerate(contract.examples):
        for key, expected in example.expected.items():
            answer = answering.answer(key, example.context) if key in snapshot.flags else _OFF
            if answer not in (_OFF, canonical(expected)):
                raise Untrusted(
                    "contract",
                    f"example {number} of the contract: {key!r} gives another value",
                    key,
                )
    for key in {key for example in contract.examples for key in example.expected}:
        answering.done(key)


def _check_shape(active: Generation, candidate: Generation) -> None:
    """By the budgets of the active one. What one entry did counts, not what many did together.

    So a consumer that was away for long is held to no less, and to no more, than one that was not.
    """
    old, new = active.snapshot.holdfast, candidate.snapshot.holdfast
    budgets, there = old.shape, len(old.settings)
    small = there < budgets.settings_min
    lost = Counter(
        new.removed.get(key, new.removed_since) for key in old.settings.keys() - new.settings.keys()
    )
    _within("are gone", lost, there, budgets.lost_percent, budgets.settings_min if small else 0)
    retyped = Counter(_retyped(active.snapshot, candidate.snapshot))
    _within(
        "have another type",
        retyped,
        there,
        budgets.retyped_percent,
        budgets.settings_min if small else 0,
    )
    before, after = _weight(active), _weight(candidate)
    if not small and after > before * budgets.growth_percent / 100:
        raise Untrusted("shape", f"it grew from {before} to {after} bytes{_WAY_OUT}")


def _weight(generation: Generation) -> int:
    """Bytes without the tombstones: what takes an oversized change back leaves many of them."""
    removed = generation.snapshot.holdfast.removed
    return len(generation.body) - len(canonical(removed))


_WAY_OUT: Final = ", more than policy.shape of the environment allows for one change"


def _within(what: str, found: Counter[int], there: int, percent: float, least: int) -> None:
    most = max(least, int(there * percent / 100))
    for revision, number in found.items():
        if number > most:
            raise Untrusted(
                "shape", f"{number} of {there} settings {what} since revision {revision}{_WAY_OUT}"
            )


def _retyped(old: Snapshot, new: Snapshot) -> Iterator[int]:
    """The newest revision of each setting that has another type than before."""
    for key, raw in new.holdfast.settings.items():
        before = old.holdfast.settings.get(key)
        if before is None or before == raw:
            continue
        if _kind(new, key) != _kind(old, key):
            yield new.setting(key).revision


def _check_answers(candidate: Generation, active: Generation | None, demands: Demands) -> None:
    """Its own probes, and those of the active one, setting by setting."""
    snapshot, checks = candidate.snapshot, demands.checks
    own = snapshot.holdfast.probes if checks.probes else {}
    carried = count(own)
    if carried > PROBES_MAX and carried > PROBES_MAX + len(pushed_keys(snapshot)):
        raise Untrusted("limits", f"more than {PROBES_MAX} probes")
    theirs = active.snapshot.holdfast.probes if active and checks.unexplained else {}
    in_use = {*candidate.evaluator.table, *(active.evaluator.table if active else ())}
    answering = Answering(candidate.evaluator, in_use)
    for key in {**own, **theirs}:
        if key in own:
            _check_own(key, read(key, own[key]), answering)
        if active and key in theirs and key in snapshot.flags:
            _check_moved(key, read(key, theirs[key]), answering, active, candidate)
        answering.done(key)
        demands.pause()


def _check_own(key: str, probes: Iterable[Carried], answering: Answering) -> None:
    for probe in probes:
        if not probe.holds(answering.answer(key, probe.context)):
            message = f"{key!r} does not give what its publisher says for {_shown(probe.context)}"
            raise Untrusted("probe", message, key)


def _check_moved(
    key: str,
    probes: Iterable[Carried],
    answering: Answering,
    active: Generation,
    candidate: Generation,
) -> None:
    """The active one's probes: an answer moves with an entry that says so, or not at all.

    What they carry is what came out of the active one when it was proven, with this evaluator (ADR
    017). It counts whatever the candidate carries: a publisher can't teach another answer by other
    probes from today on. An answer that becomes an error is refused whatever says so: nobody means
    that. But bucketing v2 splits by texts alone, and who goes back to it means that.
    """
    old, new = active.snapshot.holdfast, candidate.snapshot.holdfast
    is_explained = candidate.snapshot.setting(key).revision > active.revision
    for probe in probes:
        after = answering.answer(key, probe.context)
        if after is None and not (old.semantics != new.semantics and _is_odd(probe.context)):
            message = f"{key!r} fails for {_shown(probe.context)}, which it had an answer for"
            raise Untrusted("probe", message, key)
        if not is_explained and not probe.holds(after):
            message = (
                f"{key!r} answers otherwise for {_shown(probe.context)}, "
                f"and no entry since {active.revision} touched it"
            )
            raise Untrusted("unexplained", message, key)


def _is_odd(context: dict[str, JSON]) -> bool:
    return not all(isinstance(value, str) for value in context.values())


def _shown(context: dict[str, JSON]) -> str:
    text = msgspec.json.encode(context).decode()
    return text if len(text) <= 200 else text[:200] + "…"

"""What is allowed and probably not meant: findings, each a `Problem` of severity "warning".

    dead-rule             no context gets to it, or its condition can't hold
    shadowed-rule         rules before it take every context that it would
    unreachable-variant   no rule and no default serves it
    split-sum             weights that look like percent and do not sum to 100
    split-zero            a share that nobody is in
    split-one             a split in which one variant gets everybody
    undeclared-attribute  a rule reads what the service does not declare
    unseen-attribute      a rule reads what no sampled request carried
    expired               a temporary setting past its date
    secret                a value that looks like a secret
    no-owner              a service that nobody answers for

A setting silences codes by its metadata: `lint.ignore: "dead-rule, expired"`. Findings are proven
or close to it: what can't be known is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from holdfast.core.errors import Problem
from holdfast.core.implication import (
    TRUE,
    Formula,
    OneOf,
    Work,
    all_of,
    any_of,
    formula,
    implies,
    is_contradiction,
)
from holdfast.core.logic_check import references
from holdfast.core.model import (
    JSON,
    TARGETING_KEY,
    Audience,
    Edit,
    PutService,
    PutSetting,
    Rule,
    Setting,
    Subject,
    Targeting,
)
from holdfast.core.pointer import near, pointer, short
from holdfast.core.secret_shapes import suspects
from holdfast.core.state import ServiceState, closure, segment_owners

IGNORE: Final = "lint.ignore"
"""The metadata key whose value names the codes that a setting does not want to hear of."""
FINDINGS_MAX: Final = 1_000
STEPS_MAX: Final = 1_000_000
"""Comparisons of conditions, of all settings together: about a second."""
SEEN_REQUESTS_MIN: Final = 1_000
"""Sampled requests below which nothing is said of what nobody sends."""
BUILT_IN: Final = frozenset({TARGETING_KEY, "$flagd"})
CODES: Final = (
    "dead-rule", "shadowed-rule", "unreachable-variant", "split-sum", "split-zero", "split-one",
    "undeclared-attribute", "unseen-attribute", "expired", "secret", "no-owner",
)  # fmt: skip
_PERCENT: Final = range(90, 111)
_SPARE: Final = frozenset({"off", "none", "disabled"})
"""Variants that are kept for the day on which something has to be switched off."""


class Seen(msgspec.Struct, frozen=True):
    """What sampled requests of one subject carried: their number, and names of attributes."""

    requests: int
    attributes: frozenset[str]


Place = tuple[str, str]
"""(service, key); the key is empty for the service itself."""


def lint(
    services: Mapping[str, ServiceState],
    *,
    today: str,
    only: Collection[Place] | None = None,
    environment: str = "",
    seen: Mapping[Subject, Seen] | None = None,
) -> list[Problem]:
    """Findings of these services, by service and key, at most `FINDINGS_MAX`.

    `today` is a date as in `expires`. With `only`, no others are looked at; with `environment`,
    only targeting in it. Paths point into the state: `/services/<name>/settings/<key>/…`.
    """
    found: list[Problem] = []
    work = Work(STEPS_MAX)
    for finding in _findings(services, today, only, environment, seen or {}, work):
        found.append(finding)
        if len(found) >= FINDINGS_MAX:
            message = f"{FINDINGS_MAX} findings; there may be more"
            found.append(_finding("more", message, "", "mend these first"))
            break
    if work.left <= 0:
        message = "not all rules were compared with those before them: that is too much work"
        found.append(_finding("more", message, "", "look at one service at a time (--service)"))
    return found


def day(now_s: float) -> str:
    """A moment in unix seconds as a date of `expires`."""
    return datetime.fromtimestamp(now_s, UTC).date().isoformat()


def touched(edits: Iterable[Edit]) -> set[Place]:
    """The services and settings that a change puts, as `lint` takes them."""
    found: set[Place] = set()
    for edit in edits:
        if isinstance(edit, PutSetting):
            found.add((edit.service, edit.key))
        elif isinstance(edit, PutService):
            found.add((edit.service, ""))
    return found


def _findings(  # noqa: PLR0913, PLR0917 - what findings depend on
    services: Mapping[str, ServiceState],
    today: str,
    only: Collection[Place] | None,
    environment: str,
    seen: Mapping[Subject, Seen],
    work: Work,
) -> Iterator[Problem]:
    for name in sorted(services):
        service = services[name]
        if (only is None or (name, "") in only) and not service.info.owners:
            hint = "name a team or a mailbox under `owners:`"
            message = "nobody answers for this service"
            yield _finding("no-owner", message, pointer(("services", name)), hint)
        scope: _Scope | None = None
        for key, state in sorted(service.settings.items()):
            if only is None or (name, key) in only:
                scope = scope or _Scope(services, name, seen, work)
                path = pointer(("services", name, "settings", key))
                yield from _kept(_setting(key, state.setting, path, scope, today, environment))


def _kept(findings: Iterable[tuple[Setting, Problem]]) -> Iterator[Problem]:
    for setting, finding in findings:
        ignored = str(setting.metadata.get(IGNORE, "")).replace(",", " ").split()
        if finding.code not in ignored:
            yield finding


class _Scope:
    """What the rules of one service can speak of."""

    def __init__(
        self,
        services: Mapping[str, ServiceState],
        service: str,
        seen: Mapping[Subject, Seen],
        work: Work,
    ) -> None:
        self.work = work
        members = closure(services, service)
        self.attributes = {name for one in members for name in services[one].info.attributes}
        self.complete = all(
            included in services for one in members for included in services[one].info.includes
        )
        self._services = services
        self._owners = segment_owners(services, service)
        self._service = service
        self._seen = seen

    def audience(self, name: str, environment: str) -> Audience | None:
        owner = self._owners.get(name)
        if owner is None:
            return None
        segment = self._services[owner].segments[name].segment
        return segment.environments.get(environment, segment.audience)

    def seen(self, environment: str) -> Seen | None:
        found = self._seen.get(Subject(environment, self._service))
        return found if found and found.requests >= SEEN_REQUESTS_MIN else None


def _setting(  # noqa: PLR0913, PLR0917 - what a finding depends on
    key: str, setting: Setting, path: str, scope: _Scope, today: str, environment: str
) -> Iterator[tuple[Setting, Problem]]:
    there = {
        name: targeting
        for name, targeting in setting.environments.items()
        if environment in ("", name)
    }
    parts = (
        _expired(setting, path, today),
        _secrets(key, setting, path),
        _unreachable(setting, path) if not environment else (),
        *(
            _targeting(targeting, path + pointer(("environments", name)), name, scope)
            for name, targeting in there.items()
        ),
    )
    return ((setting, problem) for part in parts for problem in part)


def _expired(setting: Setting, path: str, today: str) -> Iterator[Problem]:
    if setting.expires and setting.expires < today:
        message = f"this temporary setting should have gone by {setting.expires}"
        hint = "remove it from the code and here, or give it another date"
        yield _finding("expired", message, f"{path}/expires", hint)


def _secrets(key: str, setting: Setting, path: str) -> Iterator[Problem]:
    for name, value in setting.variants.items():
        for suspect in suspects(value, (key, name)):
            message = f"this looks like {suspect.what}: {suspect.shown}"
            hint = "keep it in a vault and name it here: everybody who may read the setting sees it"
            place = path + pointer(("variants", name, *suspect.path))
            yield _finding("secret", message, place, hint)


# Variants ----------------------------------------------------------------------------------------


def _unreachable(setting: Setting, path: str) -> Iterator[Problem]:
    """Variants that nothing serves, of settings whose rules choose among more than two.

    A setting without rules is a dial that people turn, and a boolean one has two sides anyway.
    """
    ruled = any(one.rules or one.logic is not None for one in setting.environments.values())
    if setting.type == "boolean" or not ruled:
        return
    served: set[str] = {extension.base for extension in setting.extends.values()}
    for targeting in setting.environments.values():
        names = _served(targeting)
        if names is None:
            return
        served |= names
    for name in setting.variants:
        if name not in served and name.lower() not in _SPARE:
            message = f"no rule and no default serves the variant `{short(name)}`"
            hint = "serve it somewhere, or take it out"
            yield _finding("unreachable-variant", message, path + pointer(("variants", name)), hint)


def _served(targeting: Targeting) -> set[str] | None:
    """Variants that the targeting may give; none when it computes their names."""
    named = {targeting.default} if targeting.default else set()
    for rule in targeting.rules:
        named |= set(rule.split.weights) if rule.split else {rule.serve}
    if targeting.logic is None:
        return named
    given = _given(targeting.logic)
    return None if given is None else named | given


def _given(logic: JSON) -> set[str] | None:
    """Texts that raw targeting may end in; none where they are not written out."""
    if not isinstance(logic, dict):
        return {("true" if logic else "false") if isinstance(logic, bool) else str(logic)}
    if len(logic) != 1:
        return None
    ((operator, arguments),) = logic.items()
    if not isinstance(arguments, list) or operator not in {"if", "fractional"}:
        return None
    if operator == "fractional":
        ends = [arm[0] for arm in arguments if isinstance(arm, list) and arm]
    else:
        ends = [*arguments[1::2], *(arguments[-1:] if len(arguments) % 2 else ())]
    found: set[str] = set()
    for end in ends:
        given = _given(end)
        if given is None:
            return None
        found |= given
    return found


# Targeting ---------------------------------------------------------------------------------------


def _targeting(
    targeting: Targeting, path: str, environment: str, scope: _Scope
) -> Iterator[Problem]:
    def audience(name: str) -> Audience | None:
        return scope.audience(name, environment)

    yield from _dead(targeting.rules, path, audience, scope.work)
    read: dict[str, str] = {}
    for number, rule in enumerate(targeting.rules):
        place = f"{path}/rules/{number}"
        if rule.split is not None:
            yield from _split(rule.split.weights, f"{place}/split/weights")
            read.setdefault(_root(rule.split.by), f"{place}/split/by")
        logic = f"{place}/when" if rule.when else f"{place}/logic"
        for name in _attributes(rule.logic, audience):
            read.setdefault(name, logic)
    if targeting.logic is not None:
        yield from _fractionals(targeting.logic, f"{path}/targeting")
        for name in _attributes(targeting.logic, audience):
            read.setdefault(name, f"{path}/targeting")
    yield from _unsent(read, environment, scope)


def _dead(
    rules: tuple[Rule, ...], path: str, audience: Callable[[str], Audience | None], work: Work
) -> Iterator[Problem]:
    """Rules that no context gets to. Each is compared with all before it together."""
    before: list[Formula] = []
    always: int | None = None
    for number, rule in enumerate(rules):
        place = f"{path}/rules/{number}"
        if always is not None:
            message = f"rule {always + 1} always decides before this one"
            yield _finding("dead-rule", message, place, "move it up, or take it out")
            continue
        condition = _condition(rule, audience)
        if is_contradiction(condition, work):
            message = "its condition can't hold, whatever comes"
            yield _finding("dead-rule", message, place, "mend the condition, or take the rule out")
            continue
        work.left -= len(before)
        if before and work.left > 0 and implies(condition, any_of(before), work):
            which = next((n for n, one in enumerate(before) if implies(condition, one, work)), None)
            by = "the rules before it take" if which is None else f"rule {which + 1} takes"
            message = f"{by} everybody that this one is for"
            yield _finding("shadowed-rule", message, place, "move it up, or take it out")
        before.append(condition)
        if condition == TRUE:
            always = number


def _condition(rule: Rule, audience: Callable[[str], Audience | None]) -> Formula:
    """When the rule decides: a split only for who has the attribute that it is sticky by."""
    condition = TRUE if rule.logic is None else formula(rule.logic, audience)
    if rule.split is None:
        return condition
    return all_of((condition, OneOf(rule.split.by, frozenset((None,)), holds=False)))


def _split(weights: Mapping[str, int], path: str) -> Iterator[Problem]:
    total = sum(weights.values())
    for name, weight in weights.items():
        if weight == 0:
            message = f"nobody is in the share of `{short(name)}`"
            hint = "give it a weight, or take it out"
            yield _finding("split-zero", message, path + pointer((name,)), hint)
    shares = [weight for weight in weights.values() if weight]
    if len(shares) == 1 and len(weights) == 1:
        message = f"everybody in this split gets `{short(next(iter(weights)))}`"
        yield _finding("split-one", message, path, "write `serve` instead of `split`")
    elif total != 100 and total in _PERCENT and len(set(shares)) > 1:
        message = f"the weights look like percent and sum to {total}"
        hint = "make them sum to 100, or divide them: 1 and 2 are a third and two"
        yield _finding("split-sum", message, path, hint)


def _fractionals(logic: JSON, path: str) -> Iterator[Problem]:
    """The splits of raw targeting, as far as their weights are written out."""
    waiting = [logic]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            arms = item.get("fractional")
            if isinstance(arms, list):
                weights = _weights(arms)
                if weights:
                    yield from _split(weights, path)
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _weights(arms: list[JSON]) -> dict[str, int]:
    found: dict[str, int] = {}
    for arm in arms:
        if isinstance(arm, list) and 1 <= len(arm) <= 2:
            weight = arm[1] if len(arm) == 2 else 1
            if not isinstance(arm[0], str) or type(weight) is not int:
                return {}
            found[arm[0]] = found.get(arm[0], 0) + max(weight, 0)
    return found


# Attributes --------------------------------------------------------------------------------------


def _unsent(read: Mapping[str, str], environment: str, scope: _Scope) -> Iterator[Problem]:
    """Attributes that rules read and nobody sends: undeclared ones, and declared ones unseen.

    A service that declares none at all is left alone, and so is one whose includes are not known.
    """
    seen = scope.seen(environment)
    for name, path in read.items():
        if name in BUILT_IN:
            continue
        if name not in scope.attributes and scope.attributes and scope.complete:
            close = near(name, scope.attributes)
            hint = f"{close} Else declare it" if close else "declare it"
            message = f"no attribute `{short(name)}` is declared, so nobody is asked to send it"
            hint = f"{hint} under `attributes:`"
            yield _finding("undeclared-attribute", message, path, hint)
        elif name in scope.attributes and seen is not None and name not in seen.attributes:
            message = f"none of {seen.requests} sampled requests carried `{short(name)}`"
            hint = "send it in the context, or take the rule out"
            yield _finding("unseen-attribute", message, path, hint)


def _attributes(logic: JSON, audience: Callable[[str], Audience | None]) -> Iterator[str]:
    """Attributes of the context that logic reads, segments looked into; the first part of dotted
    names. What stands inside of iterating operators is about their items, and left out."""
    waiting = [logic]
    for name in sorted(references(logic)):
        found = audience(name)
        if found is not None:
            waiting.append({"var": found.by} if found.by else found.logic)
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        if not isinstance(item, dict):
            continue
        for operator, given in item.items():
            arguments = given if isinstance(given, list) else [given]
            if operator == "var" and arguments and isinstance(arguments[0], str):
                if arguments[0]:
                    yield _root(arguments[0])
            elif operator in _ITERATING:
                waiting += arguments[:1]
            else:
                waiting += arguments


_ITERATING: Final = frozenset({"map", "filter", "reduce", "all", "none", "some"})


def _root(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def _finding(code: str, message: str, path: str, hint: str) -> Problem:
    return Problem(code=code, message=message, path=path, hint=hint, severity="warning")

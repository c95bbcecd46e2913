"""What policies ask of one change, and whether it is met: pure decisions.

A change is judged by the policies that stand before it, so that one which weakens a policy needs
what the policy asks. It is judged in every environment in which an item that it edits stands and
differs, more demanding ones first; what changes no answer, like a description or a probe, counts
everywhere that the item stands in.

Contracts, tokens and root documents are judged by rights alone: they move no answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

from holdfast.core import limits
from holdfast.core.difference import Difference
from holdfast.core.errors import Problem
from holdfast.core.model import JSON
from holdfast.core.policies import Approval, Freeze, Policy
from holdfast.core.state import State, closure, visible

ALONE_MAX: Final = 1
"""Settings that one person may delete at once, however few their service has."""

TrafficShare: TypeAlias = Callable[[State, State, str], float | None]
"""(before, after, environment) -> percent of seen requests whose answers move; none: not known."""


class Demand(msgspec.Struct, frozen=True):
    """What one environment asks of a change, beyond rights and soundness.

    - `approvals`: by others than the author; `why` says what asks for them.
    - `freeze`: the window that the moment falls into.
    - `waits`: the environment rolls changes out in stages.
    """

    environment: str
    approvals: int = 0
    why: str = ""
    freeze: Freeze | None = None
    waits: bool = False
    break_glass_s: int = 0


def demands(
    old: State,
    new: State,
    differences: Sequence[Difference],
    now_s: float,
    recent: Callable[[], Collection[int]] = tuple,
) -> tuple[Demand, ...]:
    """What each environment that the change touches asks of it, by the environments' names.

    `recent` gives the revisions of late that nobody approved: what they deleted counts with what
    this change deletes. It is asked only when something is deleted.
    """
    losses = _losses(old, new, differences, recent)
    beside = touched(old, new, [one for one in differences if not _is_policy_alone(one)])
    return tuple(
        _demand(name, policy_of(old, name), losses.get(name, {}), now_s, alone=name not in beside)
        for name in sorted(touched(old, new, differences))
    )


def touched(old: State, new: State, differences: Iterable[Difference]) -> set[str]:
    """The environments whose policies judge the change."""
    found: set[str] = set()
    for difference in differences:
        found |= _reach(difference, old, new)
    return found


def policy_of(state: State, environment: str) -> Policy:
    """An environment's policy; that of one which isn't there yet is the default."""
    found = state.environments.get(environment)
    return found.environment.policy if found else Policy()


def approvals_needed(asked: Iterable[Demand]) -> int:
    """Those of the most demanding environment."""
    return max((demand.approvals for demand in asked), default=0)


def counted(
    given: Iterable[Approval],
    digest: str,
    author: tuple[str, str],
    stands: Callable[[Approval], bool],
) -> tuple[Approval, ...]:
    """The approvals that count: of this digest, each person once, never the author.

    A person is known by a token's id and by its name: two tokens of one name are one person.
    `author` is (token, name). `stands` tells whether the token may still approve.
    """
    tokens, names = {author[0]}, {author[1]}
    found = []
    for one in given:
        known = one.token in tokens or one.name in names
        if one.digest == digest and not known and stands(one):
            found.append(one)
            tokens.add(one.token)
            names.add(one.name)
    return tuple(found)


def refusals(asked: Sequence[Demand], approvals: int, *, break_glass: bool) -> list[Problem]:
    """Why the change can't be committed now, with so many approvals; empty when it can."""
    found: list[Problem] = []
    for demand in asked:
        if break_glass and demand.break_glass_s:
            continue
        lacking = [*_approval(demand, approvals), *_frozen(demand)]
        if lacking and break_glass:
            lacking = [_unbreakable(demand)]
        found += lacking
    return found


def skipped(asked: Sequence[Demand], approvals: int) -> tuple[Demand, ...]:
    """What a break-glass lets the change skip: where there is nothing to skip, none is broken."""
    return tuple(
        demand
        for demand in asked
        if demand.break_glass_s
        and (demand.approvals > approvals or demand.freeze is not None or demand.waits)
    )


def cap_problems(
    old: State,
    new: State,
    differences: Sequence[Difference],
    traffic_share: TrafficShare | None = None,
) -> list[Problem]:
    """Where the change does more at once than a policy lets any change do."""
    counts = _settings_touched(old, new, differences)
    moved = {name for difference in differences for name in difference.environments}
    found: list[Problem] = []
    for name in sorted(touched(old, new, differences)):
        policy = policy_of(old, name)
        if 0 < policy.settings_max < counts[name]:
            found.append(_too_many(name, counts[name], policy.settings_max))
        if policy.traffic_percent_max < 100 and (counts[name] or name in moved):
            share = traffic_share(old, new, name) if traffic_share else None
            found += _traffic(name, share, policy.traffic_percent_max)
    return found


def break_glass_problems(
    reason: str, differences: Iterable[Difference], opened: Sequence[Demand]
) -> list[Problem]:
    """What a break-glass can't do: it ends within the hour, a policy that it put would not."""
    found: list[Problem] = []
    if not reason.strip() or len(reason) > limits.TEXT_CHARS_MAX:
        message = f"a break-glass takes a reason of 1 to {limits.TEXT_CHARS_MAX} characters"
        hint = "say what is broken, for those who look at it afterwards"
        found.append(Problem(code="break-glass-reason", message=message, hint=hint))
    for difference in differences:
        if _puts_policy(difference):
            message = f"a break-glass can't change the policy of {difference.name}"
            hint = "leave that out: let the change through first, and the policy be approved"
            path = f"/environments/{difference.name}"
            found.append(Problem(code="break-glass-policy", message=message, path=path, hint=hint))
    if not opened:
        message = "there was nothing to skip: no glass was broken"
        found.append(Problem(code="glass-whole", message=message, severity="warning"))
    return found


def _puts_policy(difference: Difference) -> bool:
    return (
        difference.kind == "environment"
        and difference.before is not None
        and _field(difference.before, "policy") != _field(difference.after, "policy")
    )


def _is_policy_alone(difference: Difference) -> bool:
    """Whether it is an environment that goes on as it is but for its policy: no answer moves."""
    return difference.kind == "environment" and not difference.environments


def frozen(policy: Policy, now_s: float) -> Freeze | None:
    """The freeze window that a moment falls into; of several the one that ends last."""
    windows = [each for each in policy.freezes if each.begin_s <= now_s < each.end_s]
    return max(windows, key=lambda each: each.end_s, default=None)


# Where a change reaches ---------------------------------------------------------------------------


def _reach(difference: Difference, old: State, new: State) -> set[str]:
    match difference.kind:
        case "environment":
            return {difference.name} & old.environments.keys()
        case "setting" if _beside_targeting(difference.before) == _beside_targeting(
            difference.after
        ):
            return set(difference.environments)
        case "setting":
            return _standing(difference.before) | _standing(difference.after)
        case "segment" | "service":
            return set(difference.environments) or {
                environment
                for state in (old, new)
                if difference.service in state.services
                for environment in state.services[difference.service].touched
            }
        case _:
            return set()


def _beside_targeting(setting: JSON) -> JSON:
    if not isinstance(setting, dict):
        return None
    return {name: value for name, value in setting.items() if name != "environments"}


def _standing(setting: JSON) -> set[str]:
    return set(_field(setting, "environments") or ())


def _field(noun: JSON, name: str) -> JSON:
    return noun.get(name) if isinstance(noun, dict) else None


def _settings_touched(old: State, new: State, differences: Sequence[Difference]) -> Counter[str]:
    """Environment -> settings that the change edits, or brings and takes by includes."""
    counts: Counter[str] = Counter()
    for difference in differences:
        if difference.kind == "setting":
            counts.update(_reach(difference, old, new))
        elif _includes_moved(difference):
            service = difference.service
            was, now = visible(old.services, service), visible(new.services, service)
            counts.update(
                environment
                for environment, key in was.keys() | now.keys()
                if was.get((environment, key)) != now.get((environment, key))
                and service not in (was.get((environment, key)), now.get((environment, key)))
            )
    return counts


# What a change takes away -------------------------------------------------------------------------


class _Loss(msgspec.Struct, frozen=True):
    """Of a service's settings in one environment: how many go, of how many.

    `together`: how many the change takes away there, of all services.
    """

    lost: int
    had: int
    whole: bool = False
    together: int = 0

    @property
    def percent(self) -> float:
        return 100 * self.lost / self.had if self.had else 0.0


def _losses(
    old: State,
    new: State,
    differences: Sequence[Difference],
    recent: Callable[[], Collection[int]],
) -> Mapping[str, Mapping[str, _Loss]]:
    """Environment -> service -> what it loses, of its own or of what it includes."""
    found: defaultdict[str, dict[str, _Loss]] = defaultdict(dict)
    lost = _own_losses(differences)
    together = sum(lost.values(), Counter[str]())
    if lost:
        kept = _Kept(old, new, lost, frozenset(recent()))
        for service, counts in lost.items():
            for environment in counts:
                loss = kept.loss((service,), environment)
                found[environment][service] = msgspec.structs.replace(
                    loss, whole=service not in new.services, together=together[environment]
                )
        _add_consumers(found, kept, old)
    for difference in differences:
        if _includes_moved(difference) and difference.before is not None:
            _add_included(found, old, new, difference.service)
    return found


class _Kept:
    """What services had and lose, of late and by the change, by environment; each counted once."""

    def __init__(
        self,
        old: State,
        new: State,
        lost: Mapping[str, Counter[str]],
        late: Collection[int],
    ) -> None:
        self._old = old
        self._new = new
        self._late = late
        self._had: dict[str, Counter[str]] = {}
        self._gone: dict[tuple[str, str], int] = {}
        self.lost = lost

    def loss(self, services: Iterable[str], environment: str) -> _Loss:
        lost = had = 0
        for service in services:
            gone = self._gone_lately(service, environment)
            by_now = self.lost[service][environment] if service in self.lost else 0
            lost += by_now + gone
            had += self._count(service)[environment] + gone
        return _Loss(lost, had)

    def _count(self, service: str) -> Counter[str]:
        known = self._had.get(service)
        if known is None:
            before = self._old.services.get(service)
            settings = before.settings.values() if before else ()
            known = Counter(name for each in settings for name in each.setting.environments)
            self._had[service] = known
        return known

    def _gone_lately(self, service: str, environment: str) -> int:
        place = (service, environment)
        if place not in self._gone:
            self._gone[place] = _gone_lately(self._old, self._new, *place, self._late)
        return self._gone[place]


def _add_consumers(found: defaultdict[str, dict[str, _Loss]], kept: _Kept, old: State) -> None:
    """Who includes services that lose something loses it, too: little of each may be all of it."""
    for service in old.services:
        members = closure(old.services, service)
        losing = [name for name in members[1:] if name in kept.lost]
        for environment in {name for one in losing for name in kept.lost[one]}:
            loss, own = kept.loss(members, environment), found[environment].get(service)
            if own is None or (not own.whole and own.percent < loss.percent):
                found[environment][service] = loss


def _gone_lately(
    old: State, new: State, service: str, environment: str, late: Collection[int]
) -> int:
    """Settings of a service that went away there in one of those revisions, and are not back."""
    before, after = old.services.get(service), new.services.get(service)
    removed = before.removed.get(environment, {}) if before else {}
    settings = after.settings if after else {}
    return sum(
        revision in late
        and (key not in settings or environment not in settings[key].setting.environments)
        for key, revision in removed.items()
    )


def _own_losses(differences: Sequence[Difference]) -> Mapping[str, Counter[str]]:
    lost: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for difference in differences:
        if difference.kind == "setting" and difference.before is not None:
            gone = _standing(difference.before) - _standing(difference.after)
            if gone:
                lost[difference.service].update(gone)
    return lost


def _add_included(
    found: defaultdict[str, dict[str, _Loss]], old: State, new: State, service: str
) -> None:
    """Settings that consumers of a service lose because it includes another no more."""
    was, now = visible(old.services, service), visible(new.services, service)
    had = Counter(environment for environment, _ in was)
    lost = Counter(
        place[0] for place, owner in was.items() if place not in now and owner != service
    )
    for environment, count in lost.items():
        own = found[environment].get(service, _Loss(0, 0))
        found[environment][service] = _Loss(own.lost + count, had[environment], own.whole)


def _includes_moved(difference: Difference) -> bool:
    return difference.kind == "service" and _field(difference.before, "includes") != _field(
        difference.after, "includes"
    )


# What is asked ------------------------------------------------------------------------------------


def _demand(
    environment: str, policy: Policy, losses: Mapping[str, _Loss], now_s: float, *, alone: bool
) -> Demand:
    """A policy `alone` may change in a freeze, else nobody could mend a wrong one; not by one."""
    approvals, why = policy.approvals, f"the policy of {environment} asks for"
    loss, freeze = _largest(policy, losses), frozen(policy, now_s)
    if freeze is not None and alone:
        loss, freeze = f"to change the policy of {environment} in a freeze takes", None
    if loss is not None and approvals < 1:
        approvals, why = 1, loss
    return Demand(
        environment=environment,
        approvals=approvals,
        why=why,
        freeze=freeze,
        waits=policy.rollout is not None,
        break_glass_s=policy.break_glass_s,
    )


def _largest(policy: Policy, losses: Mapping[str, _Loss]) -> str | None:
    """What makes the deletion one that takes a second person, none when it does not."""
    if policy.deletion_percent >= 100:
        return None
    for service, loss in sorted(losses.items()):
        if loss.whole:
            return f"to delete the service {service} takes"
        several = max(loss.lost, loss.together) > ALONE_MAX
        if several and 100 * loss.lost > policy.deletion_percent * loss.had:
            return (
                f"to delete {loss.lost} of {loss.had} settings of {service}, more than "
                f"{policy.deletion_percent:g} %, takes"
            )
    return None


def _approval(demand: Demand, approvals: int) -> Iterator[Problem]:
    if demand.approvals > approvals:
        plural = "s" * (demand.approvals != 1)
        yield Problem(
            code="approval-needed",
            message=f"{demand.why} {demand.approvals} approval{plural} by others than the author; "
            f"it has {approvals}",
            path=f"/environments/{demand.environment}",
            hint="propose it (holdfast apply --propose), let others approve it (holdfast change "
            "approve ID), then commit it (holdfast change commit ID); in an emergency "
            "--break-glass REASON",
        )


def _frozen(demand: Demand) -> Iterator[Problem]:
    if demand.freeze is not None:
        until = datetime.fromtimestamp(demand.freeze.end_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        reason = f" ({demand.freeze.reason})" if demand.freeze.reason else ""
        yield Problem(
            code="frozen",
            message=f"{demand.environment} is frozen until {until} UTC{reason}",
            path=f"/environments/{demand.environment}",
            hint="commit it afterwards (holdfast change schedule ID TIME); in an emergency "
            "--break-glass REASON; if the freeze is wrong, propose a policy without it",
        )


def _unbreakable(demand: Demand) -> Problem:
    return Problem(
        code="no-break-glass",
        message=f"the policy of {demand.environment} lets nobody break the glass",
        path=f"/environments/{demand.environment}",
        hint="propose the change and let others approve it",
    )


def _too_many(environment: str, count: int, most: int) -> Problem:
    return Problem(
        code="too-many-settings",
        message=f"{count} settings at once in {environment}; its policy lets a change touch {most}",
        path=f"/environments/{environment}",
        hint="split the change, or let the policy's settings_max be raised first",
    )


def _traffic(environment: str, share: float | None, most: float) -> Collection[Problem]:
    path = f"/environments/{environment}"
    if share is None:
        message = f"nobody knows what share of the traffic of {environment} this moves"
        hint = "let edges and clients sample contexts; until then the cap can't be held"
        return [
            Problem(
                code="traffic-unknown", message=message, path=path, hint=hint, severity="warning"
            )
        ]
    if share <= most:
        return []
    message = f"this moves the answers of {share:g} % of the requests seen in {environment}"
    hint = f"its policy lets a change move {most:g} %: split it, or narrow its rules"
    return [Problem(code="too-much-traffic", message=message, path=path, hint=hint)]

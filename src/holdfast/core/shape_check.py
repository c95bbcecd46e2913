"""What consumers would refuse for its shape, told before it is published.

A consumer holds each snapshot to the budgets of the one that it has (`core.proof`). A change that
takes away more is refused by all of them, for as long as it stands, however many approved it and
whichever rings it passed: with a rollout it goes when the last stage is over.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.core.errors import Problem
from holdfast.core.pointer import pointer
from holdfast.core.state import ServiceState, State
from holdfast.core.subjects import reach


def check_shape(old: State, new: State) -> Iterator[Problem]:
    """Warnings, one for each service and environment that would lose too much."""
    shrunk = {name for name, service in old.services.items() if _shrinks(service, name, new)}
    for name in old.services if shrunk else ():
        there = {one for one, _ in reach(old.services, name)}
        if name in new.services and not shrunk.isdisjoint(there):
            for environment, known in old.environments.items():
                before, after = (_keys(state, name, environment) for state in (old, new))
                budgets, lost = known.environment.policy.shape, len(before - after)
                least = budgets.settings_min if len(before) < budgets.settings_min else 0
                if lost > max(least, int(len(before) * budgets.lost_percent / 100)):
                    yield _problem(name, environment, lost, len(before))


def _shrinks(service: ServiceState, name: str, new: State) -> bool:
    now = new.services.get(name)
    if now is service:
        return False
    if now is None or now.info.includes != service.info.includes:
        return True
    return any(
        key not in now.settings
        or not one.setting.environments.keys() <= now.settings[key].setting.environments.keys()
        for key, one in service.settings.items()
    )


def _keys(state: State, service: str, environment: str) -> set[str]:
    """The settings that the service's snapshot has in the environment, included ones too."""
    return {
        key
        for name, _ in reach(state.services, service)
        for key, one in state.services[name].settings.items()
        if environment in one.setting.environments
    }


def _problem(service: str, environment: str, lost: int, there: int) -> Problem:
    return Problem(
        code="shape",
        message=f"{environment}/{service} would lose {lost} of {there} settings at once: consumers "
        "will refuse it",
        path=pointer(("services", service)),
        hint=f"delete fewer at a time, or raise policy.shape.lost_percent of {environment} in a "
        "change of its own and let that arrive first",
        severity="warning",
    )

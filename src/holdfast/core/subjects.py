"""Which snapshots there are, and which revision touched each of them last.

A subject is a service in an environment in which it, or a service that it includes, was ever
touched; `_access` is one in every environment. Its revision is the newest one that touched any of
that, so that a service that nobody touched gets no new snapshot. A service whose deletion is being
rolled out stays a subject there until everybody has it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping

from holdfast.core.access import ACCESS
from holdfast.core.covered import leaving
from holdfast.core.errors import NotFound
from holdfast.core.model import Environment, Subject
from holdfast.core.state import EnvironmentState, ServiceState, State


def revisions(state: State) -> dict[Subject, int]:
    """Every subject, with the newest revision that touched it."""
    found = {
        Subject(environment, ACCESS): _access_revision(state, environment)
        for environment in state.environments
    }
    services = known_services(state)
    for service in state.services:
        for environment, revision in _touched(services, service).items():
            found[Subject(environment, service)] = max(
                revision, _environment_revision(state, environment, service)
            )
    for service, environments in leaving(state.rollouts, state.services).items():
        for environment in environments:
            found[Subject(environment, service)] = max(
                _touched(services, service).get(environment, 0),
                _environment_revision(state, environment, service),
            )
    if state.overrides:
        for subject, revision in found.items():
            over = state.overrides.get(str(subject))
            found[subject] = max(revision, over.revision) if over else revision
    return found


def subjects(state: State) -> set[Subject]:
    """Everything that there is a snapshot of."""
    return set(revisions(state))


def subject_revision(state: State, subject: Subject) -> int:
    """The newest revision that touched the subject. Raises `NotFound` when it is none."""
    written = written_revision(state, subject)
    over = state.overrides.get(str(subject))
    return max(written, over.revision) if over else written


def written_revision(state: State, subject: Subject) -> int:
    """As `subject_revision`, by what its authors wrote: overrides are not counted in."""
    if subject.service == ACCESS and subject.environment in state.environments:
        return _access_revision(state, subject.environment)
    there = subject.service in state.services or (
        subject.environment in leaving(state.rollouts, state.services).get(subject.service, ())
    )
    touched = _touched(known_services(state), subject.service) if there else {}
    if subject.environment not in touched:
        raise NotFound(f"there is no {subject}")
    dealt = _environment_revision(state, subject.environment, subject.service)
    return max(touched[subject.environment], dealt)


def affected(old: State, new: State) -> set[Subject]:
    """The subjects of `new` that a build has to make anew: touched since `old`, or not in it."""
    before = revisions(old)
    return {subject for subject, at in revisions(new).items() if before.get(subject) != at}


def known_services(state: State) -> Mapping[str, ServiceState]:
    """By name, deleted ones too: their removals still count for who includes them."""
    return ChainMap(state.services, state.gone)


def environment_of(state: State, environment: str) -> EnvironmentState:
    """The environment, or what one that was never put counts as."""
    return state.environments.get(environment) or EnvironmentState(Environment(), revision=0)


def reach(services: Mapping[str, ServiceState], service: str) -> Iterator[tuple[str, int]]:
    """`service` and all that it includes, each once, in the order of `core.state.closure`.

    With each comes the newest revision that added an include on the way to it.
    """
    seen: set[str] = set()
    waiting = [(service, 0)]
    while waiting:
        name, included_at = waiting.pop()
        if name in seen or name not in services:
            continue
        seen.add(name)
        yield name, included_at
        found = services[name]
        waiting.extend(
            (include, max(included_at, found.included_at.get(include, 0)))
            for include in reversed(found.info.includes)
        )


def _touched(services: Mapping[str, ServiceState], service: str) -> dict[str, int]:
    newest: dict[str, int] = {}
    for name, _ in reach(services, service):
        for environment, revision in services[name].touched.items():
            newest[environment] = max(revision, newest.get(environment, 0))
    return newest


def _environment_revision(state: State, environment: str, service: str) -> int:
    known = environment_of(state, environment)
    return max(known.dealt(service), known.shaped)


def _access_revision(state: State, environment: str) -> int:
    return max(
        _environment_revision(state, environment, ACCESS),
        state.access.get(environment, 0),
        state.access.get("*", 0),
    )

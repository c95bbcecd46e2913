"""What a follower looks at about once a second: its disk, what is pinned, how its host is doing.

The last two may make another generation answer than the newest; `core.follow` hears of it as
`Returned`.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from holdfast.core.conversation import Event, Released, Returned, Standing
from holdfast.core.generations import HEALTH, refusal
from holdfast.core.model import Subject
from holdfast.sdk.intake import Intake, standing_of
from holdfast.sdk.trials import Trials, now_ms


def looks(trials: Trials, intake: Intake, now_s: float) -> Iterator[Event]:
    """Events for the machine. What was refused on the way stands in `intake.gone_back`."""
    trials.probe()
    if intake.keeping.again(now_s):
        trials.renew()  # what the disk would not mark while it refused
    yield from _repinned(trials, intake)
    yield from _put_away(trials, intake)
    yield from _sent_back(trials, intake, now_s)


def _repinned(trials: Trials, intake: Intake) -> Iterator[Event]:
    for name in trials.read_pins():
        environment, _, service = name.partition("/")
        subject = Subject(environment, service)
        pin = trials.pin(subject)
        if pin is None:
            trials.pardon(subject)
            yield Released(subject)
            continue
        standing = _held_at(intake, subject, pin.revision)
        if standing is None:
            intake.note_error(f"{subject} is pinned to revision {pin.revision}: not on disk")
        else:
            yield Returned(subject, standing, pinned=True)


def _held_at(intake: Intake, subject: Subject, revision: int) -> Standing | None:
    held = intake.held.get(subject)
    generation = held.generation if held else None
    if generation is not None and generation.revision == revision:
        return standing_of(generation)
    return intake.back(subject, revision)


def _put_away(trials: Trials, intake: Intake) -> Iterator[Event]:
    """Generations that the host says are not to answer: the newest other one comes back."""
    while trials.condemned:
        subject, refused = trials.condemned.popleft()
        held = intake.held.get(subject)
        generation = held.generation if held else None
        if generation is None or generation.digest != refused.digest:
            continue
        refused = structs.replace(refused, revision=generation.revision)
        trials.refuse(subject, refused)
        intake.gone_back.append((subject, refused))
        for standing in intake.restore(subject):
            yield Returned(subject, standing)


def _sent_back(trials: Trials, intake: Intake, now_s: float) -> Iterator[Event]:
    """Generations whose host fails on them go back to the last one that was proven."""
    for subject, trial in list(trials.verdicts(now_s)):
        message = "the host's health failed while it was on probation"
        refused = refusal(trial.revision, trial.digest, HEALTH, message, now_ms())
        standing = intake.back(subject)
        if standing is not None and standing.digest != trial.digest:
            trials.refuse(subject, refused)
            yield Returned(subject, standing)
        if trials.tell_once(trial):
            intake.gone_back.append((subject, refused))

"""What consumers run counts, as long as they run it."""

from __future__ import annotations

from holdfast.core.compatibility import Version, check_compatibility
from holdfast.core.fold import after
from holdfast.core.model import (
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
    Service,
    Setting,
    Targeting,
)
from holdfast.core.policies import Policy
from holdfast.core.reports import ConsumerReport
from holdfast.core.state import EMPTY, State
from holdfast.engine.fleet import Fleet
from holdfast.engine.held_versions import HeldVersions


def tiles(most: int) -> PutSetting:
    setting = Setting(
        type="integer",
        variants={"one": 9},
        environments={"production": Targeting(default="one")},
        schema={"maximum": most},
    )
    return PutSetting("calling", "tiles", setting)


def states() -> list[State]:
    """A schema that was narrowed twice, under a policy that asks for nothing."""
    found = [EMPTY]
    found.append(
        after(
            EMPTY,
            [
                PutEnvironment("production", Environment(policy=Policy(compatibility="NONE"))),
                PutService("calling", Service()),
                PutService("suite", Service(includes=("calling",))),
                tiles(100),
            ],
        )
    )
    found.append(after(found[-1], [tiles(60)]))
    found.append(after(found[-1], [tiles(49)]))
    policy = Policy(compatibility="BACKWARD_TRANSITIVE")
    found.append(after(found[-1], [PutEnvironment("production", Environment(policy=policy))]))
    return found


def reporting(consumer: str, revision: int, service: str) -> ConsumerReport:
    return ConsumerReport(
        consumer=consumer,
        service=service,
        environment="production",
        kind="sdk",
        build="holdfast/1",
        sequence=1,
        at_ms=0,
        application=f"{consumer} 7",
        revision=revision,
    )


def test_who_runs_an_older_revision_is_counted_and_named() -> None:
    past = states()
    now = [1_000.0]
    fleet = Fleet(lambda: now[0], lambda: ())
    held = HeldVersions(lambda: past[-1], past.__getitem__, fleet.consumers)
    assert list(held("calling", "tiles")) == []
    wider = after(past[-1], [tiles(50)])
    assert check_compatibility(past[-1], wider, held) == []

    fleet.take([reporting("web", 1, "suite"), reporting("bot", 4, "calling"),
                reporting("mail", 2, "other")])  # fmt: skip
    (version,) = held("calling", "tiles")
    assert version == Version("integer", {"maximum": 100}, version.origin)
    assert "revision 1, which `web 7` runs" in version.origin
    (problem,) = check_compatibility(past[-1], wider, held)
    assert "`web 7`" in problem.message

    now[0] += 365 * 86_400
    assert check_compatibility(past[-1], wider, held) == []


def test_what_runs_elsewhere_is_counted_too_and_told_to_other_nodes() -> None:
    """A node that follows has heard of nobody; the one that leads tells it of `web`."""
    past = states()
    led, followed = Fleet(lambda: 0.0, lambda: ()), Fleet(lambda: 0.0, lambda: ())
    leader = HeldVersions(lambda: past[-1], past.__getitem__, led.consumers)
    led.take([reporting("web", 1, "suite"), reporting("bot", 4, "calling"),
              reporting("mail", 2, "other")])  # fmt: skip
    assert leader.running({"calling", "suite"}) == {
        "calling": {1: "web 7", 4: "bot 7"},
        "suite": {1: "web 7"},
    }
    wider = after(past[-1], [tiles(50)])
    alone = HeldVersions(lambda: past[-1], past.__getitem__, followed.consumers)
    assert check_compatibility(past[-1], wider, alone) == []
    told = leader.running({"calling"})
    held = HeldVersions(lambda: past[-1], past.__getitem__, followed.consumers, told.__getitem__)
    (problem,) = check_compatibility(past[-1], wider, held)
    assert "`web 7`" in problem.message

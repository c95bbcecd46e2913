"""What is done next with a rollout, by what was seen."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.core.gate import EProcess
from holdfast.core.model import MoveRollout
from holdfast.core.policies import Gates, Plan, Stage
from holdfast.core.rollout import move
from holdfast.core.state import Before, RolloutState
from holdfast.core.verdict import Counts, Evidence, Verdict, Watch, decide, observed

PLAN = Plan(
    stages=(Stage("first", ("r0",), 0, 60), Stage("half", (), 50, 60), Stage("all", (), 100)),
    gates=Gates(objective_ms=200, silence_s=300),
)
BEGUN = RolloutState("production", PLAN, Before(), started=7, moved=7, moved_ms=1_000_000)
HEARD = Evidence(heard_s=1_060)


def at(stage: int, status: str = "running") -> RolloutState:
    return msgspec.structs.replace(BEGUN, stage=stage, status=status)


def seen(looks: int, exposed: Counts, other: Counts) -> Watch:
    watch = Watch()
    for _ in range(looks):
        watch = observed(watch, exposed, other)
    return watch


FINE = seen(10, Counts(100, 1, 1), Counts(900, 9, 9))
BAD = seen(1, Counts(20, 10), Counts(180, 1))
SLOW = seen(10, Counts(100, 1, 50), Counts(900, 9, 9))


def with_gates(gates: Gates) -> RolloutState:
    return msgspec.structs.replace(BEGUN, plan=msgspec.structs.replace(PLAN, gates=gates))


@pytest.mark.parametrize(
    ("rollout", "watch", "evidence", "now_s", "wanted"),
    [
        (at(0), FINE, HEARD, 1_059, ("wait", 0, "running")),
        (at(0), FINE, HEARD, 1_060, ("advance", 1, "running")),
        (at(1), FINE, HEARD, 1_060, ("advance", 2, "running")),
        (at(2), FINE, HEARD, 1_060, ("advance", 2, "completed")),
        (at(1), BAD, HEARD, 1_001, ("roll-back", 1, "rolled-back")),
        (at(1), SLOW, HEARD, 1_001, ("roll-back", 1, "rolled-back")),
        (at(0), FINE, Evidence(refusals=("schema: n",)), 1_001, ("roll-back", 0, "rolled-back")),
        (at(0), FINE, Evidence(crashes=1), 1_001, ("roll-back", 0, "rolled-back")),
        (at(0), FINE, Evidence(), 1_299, ("advance", 1, "running")),
        (at(0), FINE, Evidence(), 1_300, ("hold", 0, "held")),
        (at(0), FINE, Evidence(heard_s=1_100), 1_399, ("advance", 1, "running")),
        (at(0), FINE, Evidence(heard_s=1_100), 1_400, ("hold", 0, "held")),
        (at(0, "held"), FINE, HEARD, 9_999, ("wait", 0, "held")),
        (at(0, "held"), BAD, HEARD, 9_999, ("roll-back", 0, "rolled-back")),
    ],
)
def test_verdicts(
    rollout: RolloutState,
    watch: Watch,
    evidence: Evidence,
    now_s: float,
    wanted: tuple[str, int, str],
) -> None:
    verdict = decide(rollout, watch, evidence, now_s)
    assert (verdict.action, verdict.stage, verdict.status) == wanted
    assert verdict.reason
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


@pytest.mark.parametrize(
    ("answer", "action"), [(None, "wait"), (0.4, "advance"), (0.6, "roll-back")]
)
def test_a_query_must_have_an_answer_within_its_bound(answer: float | None, action: str) -> None:
    rollout = with_gates(Gates(query="rate", query_max=0.5, query_url="http://prometheus"))
    verdict = decide(rollout, FINE, Evidence(query=answer), 2_000)
    assert verdict.action == action


def test_gates_that_are_off_halt_nothing() -> None:
    """The damage with them off: slow answers and silence go on to everybody."""
    rollout = with_gates(Gates())
    assert decide(rollout, SLOW, Evidence(), 99_999).action == "advance"


def test_when_to_look_again() -> None:
    assert decide(at(0), FINE, HEARD, 1_010).until_s == 1_060


def test_what_crossed_the_line_once_is_not_forgotten() -> None:
    """A verdict may come later than the look that it is due to."""
    watch = observed(BAD, Counts(10_000, 0), Counts(10_000, 500))
    assert watch.errors.value < 1
    assert decide(at(1), watch, HEARD, 1_001).action == "roll-back"


def test_grounds_are_in_the_journal() -> None:
    verdict = decide(at(1), BAD, HEARD, 1_001)
    edit = move("production.7", verdict)
    assert isinstance(edit, MoveRollout)
    assert edit.evidence["exposed"]["requests"] == 20
    low, rate, high = edit.evidence["exposed"]["error_rate"]
    assert low < rate == 0.5 < high
    assert edit.evidence["errors_e"] > edit.evidence["halt_e"] == 2_000


def test_a_watch_survives_as_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(BAD), type=Watch) == BAD
    assert observed(Watch(), Counts(), Counts()) == Watch()
    assert Watch().errors == EProcess()

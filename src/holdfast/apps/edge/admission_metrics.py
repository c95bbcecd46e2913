"""What admission has decided, for Prometheus; labels are ranks, reasons and states."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from holdfast.apps.edge.gate import EdgeGate
from holdfast.core.admission import Admission, Rank, Why
from holdfast.core.admission_trial import Arms


def admission_metrics(gate: EdgeGate | None) -> Iterator[Metric]:
    """The metrics of an edge's gate; of one that has none, that it is not armed."""
    armed = gate is not None and gate.admission.trial.arms is not Arms.OFF
    yield GaugeMetricFamily(
        "holdfast_admission_armed", "Whether the edge would refuse what is too much.", value=armed
    )
    if gate is None:
        return
    admission = gate.admission
    yield _decisions(admission)
    changes = CounterMetricFamily(
        "holdfast_admission_changes", "Changes of state.", labels=["state"]
    )
    for state in ("engaged", "released", "aside", "disarmed", "armed"):
        changes.add_metric([state], admission.changes[state])
    yield changes
    trials = CounterMetricFamily(
        "holdfast_admission_trials", "Trials without the defence, by what came out.", labels=["it"]
    )
    trials.add_metric(["was_needed"], admission.trial.needed)
    trials.add_metric(["was_not_needed"], admission.trial.over)
    yield trials
    yield from _gauges(admission)
    beyond = CounterMetricFamily(
        "holdfast_admission_beyond",
        "Requests of more than are told apart; targets: times that all were forgotten.",
        labels=["of"],
    )
    beyond.add_metric(["tokens"], admission.tokens.beyond)
    beyond.add_metric(["services"], admission.services.beyond)
    beyond.add_metric(["targets"], gate.forgotten)
    yield beyond


def _decisions(admission: Admission) -> Metric:
    """Each decision that was made while it was engaged."""
    decisions = CounterMetricFamily(
        "holdfast_admission_decisions",
        "Requests decided on while refusing, by importance and what was decided.",
        labels=["rank", "decision"],
    )
    for rank in Rank:
        name = rank.name.lower()
        decisions.add_metric([name, "admitted"], admission.admitted[rank])
        for why in Why:
            decisions.add_metric([name, why.name.lower()], admission.refused[rank][why])
    return decisions


def _gauges(admission: Admission) -> Iterator[Metric]:
    for name, what, value in (
        ("engaged", "Whether requests are refused now.", admission.engaged),
        ("standing_seconds", "Least wait over the last interval.", admission.standing_s),
        ("wait_budget_seconds", "What that may be.", admission.wait_budget_s),
        ("pressure", "Work asked for, in times of what can be done.", admission.pressure),
        ("costly_max", "Costly requests let in at a time.", admission.limit.most),
        ("callers", "Callers that are told apart.", len(admission.tokens)),
    ):
        yield GaugeMetricFamily(f"holdfast_admission_{name}", what, value=value)
    price = GaugeMetricFamily(
        "holdfast_admission_price_seconds", "Measured cost of an answer.", labels=["rank"]
    )
    for rank in Rank:
        price.add_metric([rank.name.lower()], admission.prices_s[rank])
    yield price

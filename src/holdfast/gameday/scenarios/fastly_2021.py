"""`fastly-2021`: one service's valid settings wake a bug in the evaluator that all run on."""

from __future__ import annotations

import threading
import time
from typing import Any, Final, Self

from holdfast.gameday.drill import Day, Drill
from holdfast.gameday.fleet import ENVIRONMENT, Fleet
from holdfast.gameday.naive import Ask
from holdfast.gameday.patches import Defect, defects, own, patched_tree
from holdfast.gameday.processes import Build, ask, until, until_or_not

SETTINGS: Final = """
service: fragile
description: One customer of many
owners: [gameday@example.com]
attributes: {version: string, ring: string}
settings:
  layout:
    type: string
    variants: {plain: plain, rich: rich}
    environments:
      production:
        default: plain
        rules:
          - {name: some, when: 'CONDITION', serve: rich}
"""
BEFORE: Final = 'ring == "beta"'
AFTER: Final = 'semver(version) >= semver("1.5.0")'
POISON: Final = {"context": {"targetingKey": "u1", "version": "2.0.0-" + "x" * 60}}
"""A context that nobody had before; with the rule that is new it wakes the bug."""
POISON_S: Final = 0.4
QUARANTINED_S: Final = 60.0
DEATHS_MAX: Final = 3
QUIET_S: Final = 4.0
"""Without a death for so long, and the service answers: it is over."""
WATCHED_S: Final = 60.0
WATCHED_UNPROTECTED_S: Final = 15.0
WORKERS: Final = 2
ASKED: Final = (("shop", "counter"), ("shop", "limits"), ("shared", "banner"))


class Customer:
    """Somebody who asks for the setting, again and again, in a context that wakes the bug."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/{ENVIRONMENT}/fragile/ofrep/v1/evaluate/flags/layout"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.statuses: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def answered(self) -> bool:
        """Whether the last answers were all there."""
        return len(self.statuses) > 3 and all(status == 200 for _, status in self.statuses[-3:])

    def _run(self) -> None:
        while not self._stop.wait(POISON_S):
            self.statuses.append((time.time(), ask("POST", self._url, POISON).status))


def run(day: Day) -> None:
    seeded = defects(own("dormant"))
    if day.sample:
        seeded = seeded[: day.sample]
    with Fleet(day) as fleet:
        fleet.begin(edges=())
        for number, defect in enumerate(seeded):
            _one(day, fleet, defect, number)
        answered, wrong, failed = fleet.totals()
        day.measure("answers for other services", answered, "at least 100", holds=answered >= 100)
        day.measure("of them wrong", wrong, "0", holds=not wrong)
        day.measure("of them failed", failed, "0", holds=not failed)
        for example in fleet.examples()[:3]:
            day.note("damage", example)
        day.affected = f"{failed + wrong} of {answered} answers for other services"
    day.root_cause = "a bug in the evaluator that no settings had met before"
    day.stopped_by = "a generation on which workers die, or which fails, is put away"


def _one(day: Day, fleet: Fleet, defect: Defect, number: int) -> None:
    """One edge of a build with a dormant bug, from healthy to healthy."""
    kind, name = defect.name.removeprefix("dormant-"), f"edge-{number}"
    tree = patched_tree(fleet.directory / defect.name, defect)
    fleet.commit({"fragile.yaml": SETTINGS.replace("CONDITION", BEFORE)}, f"calm before {kind}")
    fleet.add_edge(name, (fleet.control_url,), Build(defect.title, tree), "--workers", str(WORKERS))
    fleet.wait_ready(name)
    url = fleet.edge_urls[name]
    until(lambda: fleet.revision_at(name, "fragile"), f"fragile at {name}", 60.0)
    _watch(fleet, kind, url)
    with Customer(url) as customer:
        until(customer.answered, "the customer's first answers", 60.0)
        day.note("step", f"two workers of a build with a dormant bug: {defect.title}")
        revision = fleet.commit(
            {"fragile.yaml": SETTINGS.replace("CONDITION", AFTER)}, "a rule of another kind"
        )
        began_s = time.time()
        day.note("fault", f"revision {revision} of one service wakes it")
        took_s = _until_over(day, fleet, name, customer, began_s)
        _judge(day, fleet, name, kind, took_s)
    for client in (f"sdk-{kind}", f"balancer-{kind}"):
        fleet.clients[client].kill()
    fleet.edges[name].kill()


def _watch(fleet: Fleet, kind: str, url: str) -> None:
    """Clients of other services: one in its own process, one over HTTP that asks again where a
    connection ends, as balancers do."""
    asks = [Ask(service, key, {}) for service, key in ASKED]
    fleet.expect(asks, [_value(url, each) for each in asks])
    fleet.watch(f"sdk-{kind}", "sdk", (url,))
    fleet.watch(f"balancer-{kind}", "ofrep", (url, url))
    for client in (f"sdk-{kind}", f"balancer-{kind}"):
        fleet.wait_answering(client)


def _value(url: str, one: Ask) -> Any:
    path = f"/{ENVIRONMENT}/{one.service}/ofrep/v1/evaluate/flags/{one.key}"
    found = until(
        lambda: (got := ask("POST", url + path, {"context": {}})).status == 200 and got,
        f"{one.key} at {url}",
        30.0,
    )
    return found.body["value"]


def _until_over(
    day: Day, fleet: Fleet, name: str, customer: Customer, began_s: float
) -> float | None:
    """Seconds until the service answered again and went on doing so; none if it never did."""
    until_or_not(lambda: _woken(fleet, name, customer, began_s), 20.0)
    end_s = time.time() + (WATCHED_S if day.protected else WATCHED_UNPROTECTED_S)
    while time.time() < end_s:
        bad = [at_s for at_s, status in customer.statuses if status != 200 and at_s > began_s]
        over = customer.answered() and bad and time.time() - bad[-1] > QUIET_S
        if over:
            took_s = round(bad[-1] - began_s, 1)
            day.note("recovered", f"the service is answered again, {took_s} s after the change")
            return took_s
        time.sleep(0.1)
    day.note("damage", f"after {time.time() - began_s:.0f} s it still goes on")
    return None


def _woken(fleet: Fleet, name: str, customer: Customer, began_s: float) -> bool:
    bad = any(status != 200 for at_s, status in customer.statuses if at_s > began_s)
    return bad or _deaths(fleet, name) > 0


def _deaths(fleet: Fleet, name: str) -> int:
    return fleet.edges[name].whole_log().count('"a worker died"')


def _judge(day: Day, fleet: Fleet, name: str, kind: str, took_s: float | None) -> None:
    deaths = _deaths(fleet, name)
    day.measure(
        f"{kind}: until the service is answered again, s",
        "never" if took_s is None else took_s,
        f"at most {QUARANTINED_S:.0f}",
        holds=took_s is not None and took_s <= QUARANTINED_S,
    )
    day.measure(f"{kind}: workers that died of it", deaths, f"at most {DEATHS_MAX}",
                holds=deaths <= DEATHS_MAX)  # fmt: skip


DRILL = Drill(
    name="fastly-2021",
    title="Fastly, 8 June 2021: one customer's valid configuration woke a bug everywhere",
    outage=(
        "a bug had been shipped weeks before; when one customer changed a setting in a way that "
        "was valid and new, most of the network returned errors."
    ),
    rehearsal=(
        "edges of builds with a dormant bug in the evaluator (it ends the process, does not end, "
        "fails) serve three services; one of them publishes a rule that wakes it."
    ),
    run=run,
)

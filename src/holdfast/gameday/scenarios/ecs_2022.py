"""`ecs-2022`: defective builds of control plane, edge and SDK in a running fleet."""

from __future__ import annotations

import queue
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from holdfast.core.errors import HoldfastError
from holdfast.gameday.drill import Day, Drill, Row
from holdfast.gameday.fleet import Fleet
from holdfast.gameday.patches import Defect, defects, own, patched_tree
from holdfast.gameday.processes import Answered, Build, ask, until_or_not
from holdfast.gameday.proving import Proof, Prover

START_S: Final = 30.0
"""Until a defective process is ready, says why not, or is gone."""
TAKEN_S: Final = 3.0
"""For consumers to take or to refuse what a defective build published."""
WAITING_MAX: Final = 6
"""Patched trees made ahead."""
DEFECTS_MIN: Final = 60


class Patched(msgspec.Struct, frozen=True):
    """A defect with its build, and what that build answers otherwise."""

    defect: Defect
    tree: Path
    proof: Proof


def run(day: Day) -> None:
    chosen = _chosen(day)
    proof_directory = day.directory / "proof"
    proof_directory.mkdir()
    with Fleet(day) as fleet:
        fleet.begin(("edge-a", "edge-b"))
        fleet.control.kill()
        fleet.copy_data(proof_directory / "data")
        fleet.start_control()
        prover = Prover(proof_directory)
        fleet.expect(prover.asks, prover.right)
        if day.protected:
            fleet.publish_contracts()
        _watch(fleet)
        day.note("step", f"{len(fleet.clients)} clients answer; {len(chosen)} defects are to come")
        lanes = _Lanes(day, fleet)
        by_component = {
            c: [d for d in chosen if d.component == c] for c in ("control", "edge", "sdk")
        }
        with _Workshop(day, prover, chosen) as workshop:
            for defect in by_component["control"]:
                lanes.deploy_control(workshop.take(defect))
            fleet.control.kill()
            fleet.start_control()
            for defect in by_component["edge"]:
                lanes.deploy_edge(workshop.take(defect))
            for defect in by_component["sdk"]:
                lanes.deploy_sdk(workshop.take(defect))
        _recover(day, fleet)
        _judge(day, fleet, chosen, workshop.proofs)


def _chosen(day: Day) -> list[Defect]:
    found = defects(own("defects"))
    if not day.sample:
        return found
    picked: list[Defect] = []
    for component in ("control", "edge", "sdk"):  # a few of each, the most of the first
        those = [defect for defect in found if defect.component == component]
        share = max(1, round(day.sample * len(those) / len(found)))
        picked += day.chance.sample(those, min(share, len(those)))
    return picked[: max(day.sample, 3)]


def _watch(fleet: Fleet) -> None:
    a, b = fleet.edge_urls["edge-a"], fleet.edge_urls["edge-b"]
    fleet.watch("sdk-1", "sdk", (a,), interval_s=0.25)
    fleet.watch("sdk-2", "sdk", (b, a), interval_s=0.25)
    fleet.watch("sdk-3", "sdk", (fleet.control_url, a), interval_s=0.25)
    fleet.watch("ofrep-1", "ofrep", (b, a), interval_s=0.4)
    for name in list(fleet.clients):
        fleet.wait_answering(name)


class _Workshop:
    """Patches trees and proves them, some ahead of those who deploy them, in a thread."""

    def __init__(self, day: Day, prover: Prover, chosen: Sequence[Defect]) -> None:
        self._day = day
        self._prover = prover
        self._chosen = chosen
        self._unguarded = [] if day.protected else defects(own("unprotected"))
        self._made: queue.Queue[Patched | HoldfastError] = queue.Queue(WAITING_MAX)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)
        self.proofs: dict[str, Proof] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._made.get(timeout=0.05)
            except queue.Empty:
                continue

    def take(self, defect: Defect) -> Patched:
        """The next one, which is this. Raises `Invalid` when its patch does not apply."""
        made = self._made.get(timeout=120.0)
        if isinstance(made, HoldfastError):
            raise made
        assert made.defect.name == defect.name  # noqa: S101  one order for both sides
        return made

    def _run(self) -> None:
        for defect in sorted(
            self._chosen, key=lambda d: ("control", "edge", "sdk").index(d.component)
        ):
            if self._stop.is_set():
                return
            try:
                self._made.put(self._prepare(defect))
            except HoldfastError as error:
                self._made.put(error)

    def _prepare(self, defect: Defect) -> Patched:
        tree = patched_tree(self._day.directory / "trees" / defect.name, defect, *self._unguarded)
        proof = self.proofs[defect.name] = self._prover.prove(defect.component, tree)
        return Patched(defect, tree, proof)


class _Lanes:
    """Deploys builds, one after the other, and finds out what became of each."""

    def __init__(self, day: Day, fleet: Fleet) -> None:
        self._day = day
        self._fleet = fleet

    def deploy_control(self, patched: Patched) -> None:
        """A new node with this build on the same journal, in the place of the one before."""
        fleet = self._fleet

        def deploy() -> str:
            fleet.control.kill()
            _forget_checkpoints(fleet.data_dir)
            fleet.start_control(_build(patched), wait=False)
            state = _settled(lambda: fleet.control.alive, fleet.control_ready)
            if not fleet.control.alive:
                return f"the node ended by itself: {_last_line(fleet.control.tail())}"
            if state.status != 200:
                return f"the node is not ready: {_why(state)}"
            before = fleet.revision_at("edge-a")
            published = fleet.try_commit(edits=[fleet.next_count()], reason=patched.defect.title)
            if published.status >= 300:
                return f"the node publishes nothing: {_why(published)}"
            return self._taken(before, int(published.body["revision"]))

        self._deploy(patched, deploy)

    def _taken(self, before: int, revision: int) -> str:
        fleet, marks = self._fleet, self._refusals()
        end = time.monotonic() + TAKEN_S
        while time.monotonic() < end:
            refused = [
                code for code, count in self._refusals().items() if count > marks.get(code, 0)
            ]
            if refused:
                return f"consumers refuse it: {', '.join(sorted(refused))}"
            if fleet.revision_at("edge-a") >= revision:
                time.sleep(0.4)  # a look of every client
                return "consumers take what is right of it only: the digest of what comes out"
            time.sleep(0.05)
        now = fleet.revision_at("edge-a")
        return "nobody was given anything new" if now == before else f"consumers are at {now}"

    def _refusals(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for reader in self._fleet.readers.values():
            if reader.last is not None:
                for code, count in reader.last.refused.items():
                    counts[code.removeprefix("refused_")] = (
                        counts.get(code.removeprefix("refused_"), 0) + count
                    )
        for code, count in _refused_at_edges(self._fleet).items():
            counts[code] = counts.get(code, 0) + count
        return counts

    def deploy_edge(self, patched: Patched) -> None:
        """An edge with this build in the place of the one before, on its cache."""
        fleet = self._fleet

        def deploy() -> str:
            edge = fleet.edges["edge-b"]
            edge.kill(signal.SIGTERM)  # a deployment stops what it replaces in order
            edge.start(_build(patched))
            state = _settled(lambda: edge.alive, lambda: fleet.edge_ready("edge-b"))
            if not edge.alive:
                return f"the edge ended by itself: {_last_line(edge.tail())}"
            if state.status != 200:
                return f"the edge is not ready: {_why(state)}"
            _asked(fleet)
            if refused := (state.body or {}).get("refused"):
                return f"the edge serves nothing that it can't prove: {', '.join(refused)}"
            fleet.count_up()
            until_or_not(lambda: fleet.edge_ready("edge-b").status != 200, 4.0)
            _asked(fleet)
            state = fleet.edge_ready("edge-b")
            if state.status != 200:
                return f"the edge took itself out: {_why(state)}"
            return "nobody"

        self._deploy(patched, deploy)

    def deploy_sdk(self, patched: Patched) -> None:
        """A client with this build beside the others; it serves once it is ready."""
        fleet, name = self._fleet, f"new-{patched.defect.name}"

        def deploy() -> str:
            a = fleet.edge_urls["edge-a"]
            reader = fleet.watch(name, "sdk", (a,), _build(patched))
            until_or_not(
                lambda: (line := reader.last) is not None and (line.ready or line.refused),
                START_S,
            )
            time.sleep(0.3)
            line = reader.last
            if line is None:
                return "the client ended by itself"
            if line.ready:
                return "nobody"
            return f"the client is not ready: {line.last_error}"

        self._deploy(patched, deploy)
        line = fleet.readers[name].last
        if line is None or not line.ready:
            fleet.dismiss(name)
        else:
            fleet.clients.pop(name).kill()

    def _deploy(self, patched: Patched, deploy: Callable[[], str]) -> None:
        defect, proof = patched.defect, patched.proof
        _, wrong, failed = self._fleet.totals()
        try:
            by = deploy()
        except HoldfastError as error:
            by = f"the drill gave up: {error}"
        _, wrong_then, failed_then = self._fleet.totals()
        damage = (wrong_then - wrong, failed_then - failed)
        blocked = damage == (0, 0) and by != "nobody"
        if damage != (0, 0):
            by = f"{damage[0]} wrong and {damage[1]} failed answers ({by})"
        self._day.put(
            Row(
                defect.name, defect.component, blocked, by[:300], f"{defect.title}: {proof.example}"
            )
        )
        self._day.note("blocked" if blocked else "damage", f"{defect.name}: {by[:160]}")
        shutil.rmtree(patched.tree, ignore_errors=True)


def _build(patched: Patched) -> Build:
    return Build(patched.defect.name, patched.tree)


def _forget_checkpoints(data_dir: Path) -> None:
    """A new node has the journal and no checkpoint of its own."""
    for path in data_dir.rglob("*checkpoint*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _settled(alive: Callable[[], bool], ready: Callable[[], Answered]) -> Answered:
    """The readiness that it comes to: ready, refused for a reason that stays, or gone."""
    end = time.monotonic() + START_S
    while alive() and time.monotonic() < end:
        state = ready()
        if state.status == 200 or (state.status == 503 and _is_final(state)):
            return state
        time.sleep(0.03)
    return ready() if alive() else Answered(0)


def _is_final(state: Answered) -> bool:
    text = msgspec.json.encode(state.body).decode()
    return any(word in text for word in ("not-reproducible", "was published", "fault", "refuses"))


def _why(state: Answered) -> str:
    body = state.body
    if isinstance(body, dict):
        error = body.get("error")
        told = error.get("message") if isinstance(error, dict) else None
        return str(told or body.get("fault") or body.get("refused") or body)[:240]
    return str(body or f"status {state.status}")[:240]


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no word"


def _refused_at_edges(fleet: Fleet) -> dict[str, int]:
    """Codes of refusals in the edges' logs."""
    counts: dict[str, int] = {}
    for name in fleet.edges:
        for line in fleet.edges[name].tail().splitlines():
            if '"code"' in line:
                try:
                    code = str(msgspec.json.decode(line)["code"])
                except (msgspec.MsgspecError, KeyError, TypeError):
                    continue
                counts[code] = counts.get(code, 0) + 1
    return counts


def _asked(fleet: Fleet) -> None:
    """Until the OFREP client has looked once from now on, the edge in question first."""
    reader = fleet.readers["ofrep-1"]
    seen = len(reader.read())
    until_or_not(lambda: len(reader.read()) >= seen + 2, 5.0)


def _recover(day: Day, fleet: Fleet) -> None:
    """The build under test on everything that the defective ones left."""
    fleet.edges["edge-b"].kill(signal.SIGTERM)
    fleet.edges["edge-b"].start(fleet.good)
    fleet.control.kill()
    _forget_checkpoints(fleet.data_dir)
    began = time.monotonic()
    fleet.start_control(wait=False)
    back = until_or_not(lambda: fleet.control_ready().status == 200, START_S)
    back = back and until_or_not(lambda: fleet.edge_ready("edge-b").status == 200, START_S)
    why = "" if back else f": {_why(ask('GET', f'{fleet.control_url}/readyz'))}"
    if back:
        fleet.count_up()
    text = (
        "the build under test runs on what they left" if back else "what they left can't be run on"
    )
    day.note("recovered" if back else "damage", text + why)
    day.measure(
        "the build under test takes over again, s",
        round(time.monotonic() - began, 1) if back else "never",
        "ready on the same journal",
        holds=back,
    )


def _judge(day: Day, fleet: Fleet, chosen: Sequence[Defect], proofs: dict[str, Proof]) -> None:
    answered, wrong, failed = fleet.totals()
    changing = [name for name, proof in proofs.items() if proof.changed and not proof.broken]
    blocked = [row for row in day.rows if row.blocked]
    least = len(chosen) if day.sample else max(DEFECTS_MIN, len(chosen))
    day.measure(
        "defects that change an answer", len(changing), f"all {least}", holds=len(changing) >= least
    )
    day.measure("defects blocked", len(blocked), "all of them", holds=len(blocked) == len(chosen))
    day.measure("answers at clients", answered, "more than 0", holds=answered > 0)
    day.measure("wrong answers", wrong, "0", holds=wrong == 0)
    day.measure("failed answers", failed, "0", holds=failed == 0)
    for example in fleet.examples()[:5]:
        day.note("damage", example)
    harmless = [name for name in proofs if name not in changing]
    if harmless:
        day.note("damage", f"these change no answer: {', '.join(harmless)}")
    through = [row for row in day.rows if not row.blocked]
    day.affected = (
        f"{wrong} wrong and {failed} failed of {answered} answers" if wrong + failed else "nobody"
    )
    day.root_cause = (
        f"{len(chosen)} builds with one defect each were deployed; not blocked: "
        + ", ".join(f"{row.name} ({row.component})" for row in through)
        if through
        else f"{len(chosen)} builds with one defect each were deployed, all listed below"
    )
    ways: dict[str, int] = {}
    for row in blocked:
        way = row.by.split(":")[0]
        ways[way] = ways.get(way, 0) + 1
    day.stopped_by = "; ".join(f"{way} ({count})" for way, count in sorted(ways.items()))


DRILL = Drill(
    name="ecs-2022",
    title="Microsoft ECS, 20-21 July 2022: a release that answered wrongly",
    outage=(
        "a deployment of the configuration service held a defect in backward compatibility. It "
        "returned wrong configurations, with status 200, to all partner services, and its clients "
        "overwrote their caches with them; Teams, Exchange Online, Windows 365 and Office Online "
        "failed for about 5 hours (TM402718, MO402741)."
    ),
    rehearsal=(
        "builds with seeded, value-changing defects are deployed into a running fleet, one after "
        "the other: as the control plane on the same journal, as an edge on the same cache, as the "
        "SDK of a new client. Each is first shown to change answers, offline."
    ),
    run=run,
)

"""What moves rollouts, put together: reports in, the fleet, the verdicts, the thread, the desk."""

from __future__ import annotations

from holdfast.apps.control.advancing import Advancing, Ask, Queries
from holdfast.apps.control.leader import Leader
from holdfast.apps.control.rollout_metrics import RolloutMetrics
from holdfast.apps.control.rollouts import RolloutDesk
from holdfast.apps.control.telemetry import Telemetry
from holdfast.apps.control.traffic import Metrics
from holdfast.core.authority import Rights
from holdfast.core.state import State
from holdfast.engine.advance import Advance
from holdfast.engine.fleet import Fleet
from holdfast.engine.publish import Publisher
from holdfast.engine.rollout_log import RolloutLog
from holdfast.engine.views import View
from holdfast.ports import Clock, Journal


class Automation:
    """`start` begins to follow rollouts, `close` ends that; `rights` are what it may do.

    They are moved while `leader` leads.
    """

    def __init__(  # noqa: PLR0913  # every part by name
        self,
        *,
        view: View,
        publisher: Publisher,
        journal: Journal,
        fleet: Fleet,
        clock: Clock,
        rights: Rights,
        metrics: Metrics,
        leader: Leader,
    ) -> None:
        def state() -> State:
            return view.state

        self.telemetry = Telemetry(fleet, view, clock)
        self._queries = Queries(_prometheus, clock)
        advance = Advance(
            view=view,
            publisher=publisher,
            fleet=fleet,
            clock=clock,
            rights=rights,
            ask=self._queries,
            fence=leader.fence,
        )
        self._advance = advance
        self.advancing = Advancing(advance, clock, metrics.moved, lambda: leader.leads)
        self.rollouts = RolloutDesk(RolloutLog(journal), advance, state)
        fleet.on_alarm = self.advancing.wake
        metrics.registry.register(
            RolloutMetrics(
                fleet=fleet,
                telemetry=self.telemetry,
                advance=advance,
                advancing=self.advancing,
                queries=self._queries,
                state=state,
            )
        )

    def start(self) -> None:
        self.advancing.start()

    def lead(self) -> None:
        """This node leads from now on."""
        self._advance.lead()
        self.advancing.wake()

    @property
    def settled(self) -> bool:
        """Whether consumers had time to report since this node started, or began to lead."""
        return self._advance.settled

    def close(self) -> None:
        self.advancing.close()
        self._queries.close()


def _prometheus() -> Ask:
    from holdfast.adapters.prometheus import Prometheus  # few plans have a query

    return Prometheus()

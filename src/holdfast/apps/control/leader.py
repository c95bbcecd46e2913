"""This node's part in leading: told in the log and in metrics, and asked by all that only one does.

Every node reads, writes, signs and serves. What happens by itself (rollouts, schedules, contexts,
collection) happens on the node that leads, under the fence of its lease.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.apps.observe import logger
from holdfast.apps.settings import ControlSettings
from holdfast.core.errors import Fenced, HoldfastError
from holdfast.core.leadership import TERMS, Terms
from holdfast.engine.leading import Leading, Turn
from holdfast.ports import Leases

ALONE: Final = Terms(ttl_s=60.0, renew_s=20.0, retry_s=5.0, margin_s=10.0)
"""Where no other node can come: the store in its own, locked data directory is written rarely."""
SOLE: Final = "sole"
"""Who holds the lease there."""

_log = logger("holdfast.leader")


class Leader(Collector):
    """Thread-safe. `on_lead` is called when this node begins to lead; it must be quick.

    `shared`: other nodes may be on the same store; `url` is where they reach this one.
    """

    def __init__(self, leases: Leases, settings: ControlSettings) -> None:
        self.node = settings.node or f"{socket.gethostname()}:{settings.port}"
        self.url = settings.advertise or _reached(settings.host, settings.port)
        self.on_lead: Callable[[], None] = _pass_over
        self._resigned = False
        self.shared = shared = bool(settings.store)
        self._leading = Leading(
            leases=leases,
            # Two processes of one name must not take each other for themselves. In a directory
            # that is locked there is one, whatever host and port it has this time, and it need not
            # wait for its own lease to end.
            holder=f"{self.node}/{secrets.token_hex(4)}" if shared else SOLE,
            url=self.url,
            draw=random.SystemRandom().random,  # the global one may be seeded by a host
            terms=TERMS if shared else ALONE,
            on_turn=self._turned,
            on_fault=lambda error: _log.error("this node can't lead", exc_info=error),
        )

    @property
    def leads(self) -> bool:
        """Whether this node leads at this moment."""
        return self._leading.token > 0

    @property
    def elsewhere(self) -> str:
        """The URL of the node that leads, when that is another one and known; else empty."""
        return self._leading.elsewhere

    def look(self) -> None:
        """Learn who leads. Waits for the store, if this node resigned and so learns it no more."""
        if self._resigned:
            self._leading.look()

    def fence(self) -> int:
        """The token to write under. Raises `Fenced` when this node does not lead."""
        return self._leading.fence()

    def fenced(self, error: Fenced) -> None:
        """The journal refused a write of this node: another one leads."""
        _log.warning(
            "a write was refused: another node leads", fence=error.fence, token=error.token
        )
        self._leading.refused(error)

    def start(self) -> None:
        """Begin to ask for the lease."""
        self._leading.start()

    def resign(self) -> None:
        """Lead no more, for good; waits for nothing."""
        self._resigned = True
        self._leading.resign()

    def close(self) -> None:
        self._resigned = True
        self._leading.close()

    def _turned(self, turn: Turn) -> None:
        if not turn.leads:
            tell = _log.info if self._resigned else _log.warning
            tell("this node leads no more", node=self.node, token=turn.token, why=turn.why)
            return
        _log.info("this node leads", node=self.node, token=turn.token)
        self.on_lead()

    def describe(self) -> list[Metric]:
        """Nothing before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        leading = self._leading
        for name, what, value in (
            ("leader", "1 while this node leads.", float(self.leads)),
            ("fencing_token", "The highest token of a lease heard of.", float(leading.newest)),
        ):
            yield GaugeMetricFamily(f"holdfast_{name}", what, value=value)
        for name, what, count in (
            ("lease_refusals", "Leases asked for that another node held.", leading.refusals),
            ("lease_unanswered", "Leases asked for without an answer.", leading.unanswered),
            ("leader_turns", "Times that this node began or stopped to lead.", leading.turns),
            ("fenced_writes", "Writes refused: another node leads by now.", leading.fenced),
            ("leader_faults", "Errors that nobody foresaw: it did not lead then.", leading.faults),
        ):
            yield CounterMetricFamily(f"holdfast_{name}", what, value=count)


async def while_leading(
    leader: Leader, interval_s: float, fails: str, work: Callable[[int], Awaitable[None]]
) -> None:
    """Do `work`, given the fence, again and again while this node leads, for as long as this runs.

    A failure is told once under `fails`, not each time that it comes again.
    """
    told = ""
    while True:
        try:
            if leader.leads:
                await work(leader.fence())
            told = ""
        except HoldfastError as failed:
            if failed.code != told:
                told = failed.code
                _log.error(fails, code=failed.code, error=str(failed))
        except Exception:  # noqa: BLE001  whatever it is: else nobody did it any more, unseen
            _log.exception(fails)
        await asyncio.sleep(interval_s)


def _pass_over() -> None:
    """Nobody asked to be told."""


def _reached(host: str, port: int) -> str:
    """Where other nodes reach this one, as far as it can know."""
    name = socket.gethostname() if host in {"0.0.0.0", "::"} else host  # noqa: S104  compared
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

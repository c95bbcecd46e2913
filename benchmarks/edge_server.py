"""The edge to be measured.

    python benchmarks/edge_server.py UPSTREAM_PORT PORT WORKERS TOKEN CACHE [refusing]

With `refusing` its admission judges each request as in an overload, and then refuses it: what a
refusal costs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.apps.edge import gate, serve
from holdfast.apps.settings import EdgeSettings
from holdfast.core.admission import BOUNDS, Admission

NOTHING = [[-1.0 for _ in level] for level in BOUNDS]


class Refusing(Admission):
    """Judges all, lets nobody in, and never comes to think better of it."""

    def __init__(self, wait_budget_s: float, now_s: float) -> None:
        super().__init__(wait_budget_s, now_s)
        self._refuse_all()

    def batch(self, now_s: float, length_s: float) -> None:
        super().batch(now_s, length_s)
        self._refuse_all()

    def _refuse_all(self) -> None:
        self.alert_s, self.calm, self.engaged = -1.0, False, True
        self._bounds_s = NOTHING


if __name__ == "__main__":
    source, port, workers, token, cache, *refusing = sys.argv[1:]
    if refusing:
        gate.Admission = Refusing  # type: ignore[misc]
    serve(
        EdgeSettings(
            upstreams=(f"http://127.0.0.1:{source}",),
            token=token,
            cache_dir=Path(cache),
            port=int(port),
            log_level="error",
            workers=int(workers),
        )
    )

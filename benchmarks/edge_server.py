"""The edge to be measured.

    python benchmarks/edge_server.py UPSTREAM_PORT PORT WORKERS TOKEN CACHE [refusing]

With `refusing` its admission judges each request as in an overload, and then refuses it: what a
refusal costs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from holdfast.apps.edge import gate, serve
from holdfast.apps.settings import EdgeSettings
from holdfast.core.admission import Admission, Why


class Refusing(Admission):
    """Judges all, lets nobody in, and never comes to think better of it."""

    alert_s = property(lambda _: -1.0, lambda *_: None)  # type: ignore[assignment]
    calm = property(lambda _: False, lambda *_: None)  # type: ignore[assignment]
    engaged = property(lambda _: True, lambda *_: None)  # type: ignore[assignment]

    def judge(self, *args: Any) -> Why | None:
        return super().judge(*args) or self._refuse(args[2], Why.WAITED)


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

"""The edge to be measured.

python benchmarks/edge_server.py UPSTREAM_PORT PORT WORKERS TOKEN CACHE
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.apps.edge import serve
from holdfast.apps.settings import EdgeSettings

if __name__ == "__main__":
    source, port, workers, token, cache = sys.argv[1:]
    serve(
        EdgeSettings(
            upstreams=(f"http://127.0.0.1:{source}",),
            token=token,
            cache_dir=Path(cache),
            port=int(port),
            log_level="error",
        )
    )

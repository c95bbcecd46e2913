"""Where everything of ours listens and lies, unless it is told otherwise. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
CONTROL_PORT: Final = 8010
EDGE_PORT: Final = 8016
"""flagd's port for OFREP, so that its clients find an edge where they look."""
DATA_DIR: Final = Path(".holdfast")
ENVIRONMENT: Final = "production"
POLL_INTERVAL_S: Final = 30.0
PROBATION_S: Final = 60.0
WAIT_BUDGET_S: Final = 0.005

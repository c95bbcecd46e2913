"""What operators see of a process: structured logs and Prometheus metrics, alike in every process.

One line of JSON per event on stderr, from structlog and from the standard library alike, so that
the lines of uvicorn have the same shape. A token's secret never gets that far: whatever looks like
one is cut down to its id on the way out.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO

from prometheus_client import CollectorRegistry, GCCollector, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import holdfast
from holdfast.apps.lean import without

with without("rich", "colorama", "better_exceptions"):
    # Its console for development would use these, at 50 ms each start; our lines are JSON.
    import structlog

REQUEST_BUCKETS_S: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
LEVELS: Final = ("debug", "info", "warning", "error")

_SECRET = re.compile(r"(hf_[a-z0-9]{1,32})_[0-9a-fA-F]{16,}")
_Event = MutableMapping[str, Any]


def start_logs(level: str, process: str, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream` (stderr), from `level` on, as JSON.

    Every line carries `process`, `at` (UTC, RFC 3339), `level` and `event`.
    """
    shared: list[Callable[[Any, str, _Event], Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _named(process),
        structlog.processors.format_exc_info,
        redact,
    ]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The log of one part; silent about levels below that of `start_logs`."""
    return structlog.stdlib.get_logger(name)


def redact(_logger: object, _method: str, event: _Event) -> _Event:
    """Cut every token's text in an event's strings down to its id."""
    for key, value in event.items():
        if isinstance(value, str) and "hf_" in value:
            event[key] = _SECRET.sub(r"\1_[secret]", value)
    return event


def registry(process: str) -> CollectorRegistry:
    """A process's own registry: what it is, its memory, CPU and garbage collection.

    Each process (and each test) has its own; nothing registers globally.
    """
    metrics = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=metrics)
    GCCollector(registry=metrics)
    Info("holdfast_build", "The running version.", registry=metrics).info(
        {"version": holdfast.__version__, "process": process}
    )
    return metrics


def exposition(metrics: CollectorRegistry) -> tuple[bytes, str]:
    """The metrics as Prometheus reads them, and their content type."""
    return generate_latest(metrics), CONTENT_TYPE_LATEST


def _named(process: str) -> Callable[[Any, str, _Event], _Event]:
    def name(_logger: object, _method: str, event: _Event) -> _Event:
        event["process"] = process
        return event

    return name

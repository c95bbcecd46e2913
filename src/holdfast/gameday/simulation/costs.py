"""What one operation costs: seconds of CPU, and bytes on the line.

The defaults are what `holdfast simulate calibrate` measured on the machine of `docs/benchmarks.md`,
2026-11-22, with others busy on it, which makes CPU time up to twice as long. What it can't see are
`publish_s`, which is within `hand_on_s`, and `watch_s`, the control plane's own interval
(`engine.views`); `refusal_s` is the 304's of `docs/benchmarks.md`. On another machine, calibrate,
and give what it prints: `--costs`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=10)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seconds of CPU and bytes, of one operation each.

    At a server: an answer that nothing is newer (`not_modified_s`), a snapshot or a delta
    (`snapshot_s`), a catalogue, a stream that is opened, one event written to one stream
    (`hint_s`), one heartbeat, a refusal. `hand_on_s`: from an edge's activation until it hands the
    new generation on. `publish_s`: from a commit until the control plane tells of it. `watch_s`:
    until the other nodes of the control plane have it. `start_s`: a process starts from its disk.

    At a client: a poll that brought nothing (`client_poll_s`), one that brought a generation, which
    is believed, activated and kept (`client_activate_s`), a hint, as far as it is not seen in that.

    Bytes of HTTP and not of TCP: a request, an answer without its body, one event of a stream, one
    heartbeat.
    """

    not_modified_s: Seconds = 38e-6
    snapshot_s: Seconds = 46e-6
    catalogue_s: Seconds = 78e-6
    stream_s: Seconds = 150e-6
    hint_s: Seconds = 7e-6
    heartbeat_s: Seconds = 22e-6
    refusal_s: Seconds = 20e-6
    hand_on_s: Seconds = 0.05
    publish_s: Seconds = 0.0
    watch_s: Seconds = 0.25
    start_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 1.0
    client_poll_s: Seconds = 1.1e-3
    client_activate_s: Seconds = 18e-3
    client_hint_s: Seconds = 0.0
    request_bytes: Bytes = 218
    answer_bytes: Bytes = 1_081
    hint_bytes: Bytes = 200
    heartbeat_bytes: Bytes = 8

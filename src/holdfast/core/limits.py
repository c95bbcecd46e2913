"""Every bound on content, in one place: the publisher and the consumer enforce the same ones.

Bounds of one process (queues, connections, waits) stand with the process, in its settings.
"""

from __future__ import annotations

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
"""One authored file, and one request body of the control plane."""
SNAPSHOT_BYTES_MAX = 32 * 1024 * 1024
"""One snapshot in canonical JSON, without its segment tables."""
SEGMENT_BYTES_MAX = 128 * 1024 * 1024
"""One segment: its member list at the server, its table at the consumer."""
CONTEXT_BYTES_MAX = 64 * 1024
"""One evaluation context as JSON."""

SETTINGS_MAX = 20_000
"""Settings in one snapshot, included ones counted in."""
VARIANTS_MAX = 256
RULES_MAX = 512
"""Rules of one setting in one environment."""
SERVICES_MAX = 5_000
ENVIRONMENTS_MAX = 64
SEGMENTS_MAX = 1_000
"""Segments of one service."""
INLINE_MEMBERS_MAX = 10_000
"""Members of a segment carried inside the snapshot; longer lists travel as tables."""
SEGMENT_MEMBERS_MAX = 5_000_000
EDITS_MAX = 10_000
"""Edits of one change."""
TOKENS_MAX = 10_000
REMOVED_MAX = 1_000
"""Tombstones named in one snapshot, newest first."""
ROOTS_MAX = 64
"""Root documents in one chain."""
CONTRACTS_MAX = 1_000
"""Contracts of one service."""
NEEDS_MAX = 5_000
"""Settings that one contract names."""
EXAMPLES_MAX = 500
"""Examples of one contract."""

VALUE_DEPTH_MAX = 32
"""Nesting of one variant's value."""
VALUE_BYTES_MAX = 256 * 1024
"""One variant's value as JSON."""
LOGIC_DEPTH_MAX = 64
"""Nesting of one setting's JsonLogic, each list and each object counted."""
LOGIC_NODES_MAX = 50_000
"""Values in one setting's JsonLogic as its author may write it, segments not counted in."""
LOGIC_CALLS_MAX = 50_000
"""Operators in one setting's JsonLogic, those of its segments counted in each time."""
SOURCE_CHARS_MAX = 4_096
"""One CEL expression."""
NAME_CHARS_MAX = 128
TEXT_CHARS_MAX = 1_024
"""Descriptions, reasons, names of rules."""
SAFE_INTEGER_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps exact (RFC 7493, I-JSON)."""
WEIGHT_SUM_MAX = 2**31 - 1
"""flagd: a fractional whose weights sum to more gives null."""

WIRE_DEPTH_MAX = 128
"""Nesting of anything that is hashed or signed: logic and values fit in with room around them."""
ENVELOPE_BYTES_MAX = 256 * 1024
"""One DSSE envelope; root documents are the largest."""
EVALUATION_STEPS_MAX = 100_000
"""Work of one evaluation inside `map`, `filter`, `reduce`, `all`, `some`, `none` and `missing`:
some 0.1 s. One that is made again by the interpreter has it twice."""
REQUEST_STEPS_MAX = 150_000
"""Work of the same kind in one request to an edge for all settings: some 0.15 s. Long lists and
texts that they read are charged for beforehand (`targeting.reading`)."""
EVALUATED_CHARS_MAX = 4 * 1024 * 1024
"""One text that a rule puts together."""
EVALUATED_ITEMS_MAX = 1_000_000
"""One list that a rule puts together."""
EVALUATED_INTEGER_BITS_MAX = 65_536
"""One product that a rule computes."""

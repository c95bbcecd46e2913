"""A fleet on a simulated clock: up to a million SDKs, a thousand edges, several regions.

    parameters -> world -> clock -> tallies -> results -> table, JSON, plots, report

Every consumer, SDK or edge, is decided by `core.follow.Follow`; every snapshot is built by
`core.build`, signed, and admitted by `core.trust.admit`; every server refuses by
`core.admission.Admission`; rollouts move by `core.rollout.decide`; who serves what says
`core.cells`. Here is only what carries their commands: a heap of events, lines with latencies, and
servers that answer one request after the other, at costs that were measured.
"""

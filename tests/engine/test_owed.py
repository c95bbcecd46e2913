"""Reports that wait for the node that leads: the newest of each consumer, within bounds."""

from __future__ import annotations

from holdfast.core.reports import ConsumerReport
from holdfast.engine.owed import Owed


def report(consumer: str, sequence: int = 1, service: str = "shop") -> ConsumerReport:
    return ConsumerReport(
        consumer=consumer.ljust(8, "-"),
        service=service,
        environment="production",
        kind="sdk",
        build="holdfast/0",
        sequence=sequence,
        at_ms=0,
    )


def test_all_that_waits_comes_by_token_and_once() -> None:
    owed = Owed()
    owed.put("t1", [report("a"), report("a", service="mail")])
    owed.put("t2", [report("b")])
    assert len(owed) == 3
    assert owed.take() == [
        ("t1", [report("a"), report("a", service="mail")]),
        ("t2", [report("b")]),
    ]
    assert owed.take() == []


def test_the_newest_report_of_a_consumer_stands_for_all_of_them() -> None:
    owed = Owed()
    owed.put("t", [report("a", 2)])
    owed.put("t", [report("a", 1)])
    owed.put("u", [report("a", 3)])
    owed.put("t", [report("a", 2)])
    assert owed.take() == [("u", [report("a", 3)])]


def test_it_is_bounded_and_counts_what_goes() -> None:
    owed = Owed(owed_max=2)
    owed.put("t", [report("a"), report("b"), report("c")])
    assert owed.dropped == 1
    assert owed.take() == [("t", [report("b"), report("c")])]
    small = Owed(bytes_max=1)
    small.put("t", [report("a")])
    assert (len(small), small.dropped) == (0, 1)

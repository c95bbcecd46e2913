"""What is recorded of several processes is read back as it was."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

from holdfast.gameday.linear import (
    Append,
    Appended,
    Delivery,
    Look,
    Refused,
    Seen,
    linearizable,
)
from holdfast.gameday.recording import Tail, read, recorded


def test_operations_come_back_in_the_order_of_their_calls(tmp_path: Path) -> None:
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "never.jsonl"]
    with recorded(paths[1]) as two, recorded(paths[0]) as one:
        first = two.begin("b", Append("x", 0))
        second = one.begin("a", Append("y", 0))
        second(Refused())
        first(Appended(1))
        one.begin("a", Append("z", 1))(None)
        one.begin("a", Look())(Seen(1, "hash of x"))
    found = read(paths)
    assert [(each.who, each.call) for each in found.history] == [
        ("b", Append("x", 0)),
        ("a", Append("y", 0)),
        ("a", Append("z", 1)),
        ("a", Look()),
    ]
    assert found.history[2].returned_s == math.inf
    assert found.counts() == {"acknowledged": 1, "refused": 1, "unknown": 1}
    assert found.acknowledged() == {"x": 1}
    assert not linearizable(found.history).ok
    assert linearizable(found.named({"hash of x": "x"})).ok


def test_what_watchers_were_given_comes_back_and_half_a_line_does_not(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with recorded(path) as log:
        log.watches("w", 3)
        log.deliver(Delivery("w", 4, "x"))
    with path.open("ab") as file:
        file.write(b'{"type":"Ca')
    found = read([path])
    assert found.begins == {"w": 3}
    assert [each.delivery for each in found.deliveries] == [Delivery("w", 4, "x")]


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"

    def write(name: str) -> None:
        for number in range(200):
            log.begin(name, Append(f"{name}{number}"))(Appended(number))

    with recorded(path) as log:
        threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read([path]).history) == 600


def test_writes_are_back_with_the_first_answer_to_one_sent_after_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    tail = Tail([path, tmp_path / "never.jsonl"])
    with recorded(path) as log:
        before = log.begin("a", Append("x"))
        fault_s = time.monotonic()
        before(Appended(1))
        log.begin("b", Append("y"))(Refused())
        assert tail.back_s(fault_s) is None
        log.begin("b", Append("z"))(Appended(2))
        log.deliver(Delivery("w", 2, "z"))
    found = tail.back_s(fault_s)
    assert found is not None
    assert 0 < found <= time.monotonic() - fault_s
    assert tail.delivered == {"w": 2}

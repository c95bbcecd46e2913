"""A segment of 1,000,000 members: bytes a member, time to load, time of a look-up, against a
frozenset of the same members (what a client would hold without a table)."""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from worker import resident_mb

from holdfast.core.targeting.segments import SegmentTable, build

MEMBERS = 1_000_000


def members() -> list[str]:
    return [f"tenant-{number:07d}" for number in range(MEMBERS)]


def lookup_ns(container: object, value: str) -> float:
    timer = timeit.Timer("value in container", globals={"container": container, "value": value})
    return sorted(timer.timeit(200_000) / 200_000 for _ in range(5))[2] * 1e9


def main() -> None:
    start_s = time.perf_counter()
    table_bytes = build(members())
    build_s = time.perf_counter() - start_s
    with tempfile.NamedTemporaryFile() as file:
        file.write(table_bytes)
        file.flush()
        size = len(table_bytes)
        del table_bytes
        gc.collect()
        before_mb = resident_mb()
        start_s = time.perf_counter()
        table = SegmentTable(Path(file.name).read_bytes())
        hit = "tenant-0777777" in table
        load_s = time.perf_counter() - start_s
        table_mb = resident_mb() - before_mb
    if not hit or "tenant-x" in table:
        raise SystemExit("the table gives a wrong answer")
    table_hit_ns = lookup_ns(table, "tenant-0777777")
    table_miss_ns = lookup_ns(table, "tenant-x")
    text = "\n".join(members()).encode()
    gc.collect()
    before_mb = resident_mb()
    start_s = time.perf_counter()
    names = frozenset(text.decode().split("\n"))
    set_s = time.perf_counter() - start_s
    set_mb = resident_mb() - before_mb
    print(
        json.dumps(
            {
                "members": MEMBERS,
                "build_s": build_s,
                "table": {
                    "bytes_a_member": size / MEMBERS,
                    "load_ms": load_s * 1e3,
                    "mb": table_mb,
                    "hit_ns": table_hit_ns,
                    "miss_ns": table_miss_ns,
                },
                "frozenset": {
                    "load_ms": set_s * 1e3,
                    "mb": set_mb,
                    "hit_ns": lookup_ns(names, "tenant-0777777"),
                    "miss_ns": lookup_ns(names, "tenant-x"),
                },
            }
        )
    )


if __name__ == "__main__":
    main()

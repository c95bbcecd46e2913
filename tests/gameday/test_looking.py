"""Where a drill looked at nothing it says so, and does not pass for having seen nothing wrong."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast.gameday import herd
from holdfast.gameday.command import drill
from holdfast.gameday.drill import Day
from holdfast.gameday.load import Loaded, Tally
from holdfast.gameday.pressure import metric
from holdfast.gameday.vitals import Vitals

TOLD = b'holdfast_streams{kind="changes"} 0.0\nholdfast_admission_engaged 1.0\n'


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(TOLD)))
        self.end_headers()
        self.wfile.write(TOLD)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_metric_that_is_not_told_is_no_zero(url: str) -> None:
    assert metric(url, 'holdfast_streams{kind="changes"}') == 0.0
    assert metric(url, "holdfast_admission_engaged") == 1.0
    assert metric(url, "holdfast_streams") is None


def test_nothing_offered_is_nothing_answered() -> None:
    tally = Tally(offered=2, ok=2, offered_by=[2, 0], ok_by=[2, 0])
    loaded = Loaded(
        began_s=0.0, took_s=0.2, cpu_share=0.0, lag_p99_ms=0.0, connects=1, connects_failed=0,
        statuses={200: 2}, kinds={"one": tally},
    )  # fmt: skip
    assert loaded.ok_share() == loaded.ok_share(0.0, 0.1) == tally.ok_share == 1.0
    assert loaded.ok_share(0.1, 0.2) == loaded.ok_share(0.5, 0.2) == Tally().ok_share == 0.0


@pytest.mark.parametrize(
    ("steady", "busiest", "holds"),
    [(100.0, 190.0, True), (100.0, 210.0, False), (0.0, 0.0, False), (0.0, 1.0, False),
     (100.0, 0.0, False)],
)  # fmt: skip
def test_a_herd_that_nobody_counted_shows_nothing(
    steady: float, busiest: float, holds: bool
) -> None:
    day = Day(Path(), seed=1, protected=True)
    herd.judge(day, steady, busiest, "")
    assert [figure.holds for figure in day.figures] == [holds]


def test_vitals_of_what_was_never_asked_are_not_well() -> None:
    vitals = Vitals({"edge": "http://127.0.0.1:9"})
    assert vitals.failed() == {"edge": 1}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nope"], "There is no drill 'nope': control-plane-dead,"),
        (["nope"], "all, everything."),
        (["all", "torn-cache"], "'all' stands alone"),
        (["torn-cache", "everything"], "'everything' stands alone"),
        (["torn-cache", "--sample", "-3"], "-3 is not in the range"),
    ],
)
def test_what_names_no_drill_or_none_of_its_faults_is_wrong_use(
    arguments: list[str], told: str
) -> None:
    found = CliRunner().invoke(drill, ["run", *arguments])
    assert found.exit_code == 2
    assert told in found.output

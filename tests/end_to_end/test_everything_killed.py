"""Kill -9 of everything behind the client: it answers on; afterwards all catch up, never back."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tests.end_to_end.processes import DEMO_SHOP, HOLDFAST, Dev, eventually

from holdfast import Client

CONTROL = "control plane"
EDGE = "edge"
SETTINGS = """\
service: drill
settings:
  step:
    type: integer
    variants: {{now: {step}}}
    environments:
      production: {{default: now}}
"""


def publish(dev: Dev, step: int) -> int:
    """Set `drill/step` by the command line; the revision."""
    file = dev.data_dir.parent / "drill.yaml"
    file.write_text(SETTINGS.format(step=step))
    done = dev.holdfast("apply", str(file), "--yes", "--output", "json", "--reason", f"step {step}")
    assert done.returncode == 0, done.stderr
    revision = msgspec.json.decode(done.stdout)["revision"]
    assert isinstance(revision, int)
    return revision


def client_of(dev: Dev, cache: Path) -> Client:
    return Client(
        endpoints=[dev.edge],
        environment="production",
        service="drill",
        token=dev.token,
        cache_dir=cache,
    )


@contextmanager
def watched(client: Client) -> Iterator[list[int]]:
    """Steps that a steady reader saw, each new one once."""
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        # Often enough to see each step, seldom enough to leave the others a core.
        while not done.wait(0.0005):
            step = client.get_int("step", -1)
            if not seen or seen[-1] != step:
                seen.append(step)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def restart(dev: Dev, name: str) -> subprocess.Popen[bytes]:
    """One of the two children again, as `holdfast dev` had started it."""
    port = (dev.control if name == CONTROL else dev.edge).rpartition(":")[2]
    own = (
        ("control", "--development", "--data", str(dev.data_dir))
        if name == CONTROL
        else ("edge", "--upstream", dev.control, "--cache", str(dev.data_dir / "edge"))
    )
    with dev.log.open("ab") as log:
        return subprocess.Popen(
            [str(HOLDFAST), *own, "--port", port, "--open"],
            env={"HOLDFAST_TOKEN": dev.token, "PATH": ""},
            stdout=log,
            stderr=log,
        )


def test_the_way_of_one_change_and_its_survival(start: Callable[..., Dev], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    dev = start("--open")
    publish(dev, 1)
    again: list[subprocess.Popen[bytes]] = []
    with client_of(dev, cache) as client:
        eventually(lambda: client.get_int("step", -1) == 1, "step 1 at the client")
        with watched(client) as seen:
            try:
                dev.kill(CONTROL)
                eventually(lambda: dev.value("drill", "step") == 1, "the edge answers on")
                dev.kill(EDGE)
                assert client.get_int("step", -1) == 1
                assert started_from_disk(dev, cache) == "1 True"

                again.append(restart(dev, EDGE))
                eventually(lambda: _value(dev) == 1, "the edge answers from its disk")
                again.append(restart(dev, CONTROL))
                eventually(lambda: _ready(dev), "the control plane")
                publish(dev, 2)
                eventually(lambda: client.get_int("step", -1) == 2, "step 2 at the client")
            finally:
                stop(again)
    assert seen == [1, 2]


def test_what_nobody_confirms_is_labelled_stale_until_somebody_does(
    start: Callable[..., Dev], tmp_path: Path
) -> None:
    """Within seconds of the kill. The value stays right all the while."""
    dev = start("--open")
    publish(dev, 1)
    with client_of(dev, tmp_path / "cache") as client:
        eventually(lambda: client.get_int("step", -1) == 1, "step 1 at the client")
        assert not client.evaluate("step", default=-1).stale
        dev.kill(CONTROL)
        dev.kill(EDGE)
        eventually(lambda: client.evaluate("step", default=-1).stale, "the label")
        answer = client.evaluate("step", default=-1)
        assert (answer.value, answer.reason, client.status().state) == (1, "STATIC", "stale")
        again = [restart(dev, CONTROL), restart(dev, EDGE)]
        try:
            eventually(
                lambda: not client.evaluate("step", default=-1).stale, "fresh again", within_s=180
            )
        finally:
            stop(again)
        assert client.get_int("step", -1) == 1


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)


def started_from_disk(dev: Dev, cache: Path) -> str:
    """What a new process reads with nobody alive, and whether it says that nobody confirms it."""
    code = (
        "import sys, time; from holdfast import Client\n"
        "client = Client(endpoints=[sys.argv[1]], environment='production', service='drill',"
        " cache_dir=sys.argv[2])\n"
        "value = client.get_int('step', -1)\n"
        "while not client.evaluate('step', default=-1).stale: time.sleep(0.01)\n"
        "print(value, client.evaluate('step', default=-1).stale); client.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, dev.edge, str(cache)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_dev_says_who_died_and_goes_on_with_the_other(start: Callable[..., Dev]) -> None:
    dev = start("--open", "--import", str(DEMO_SHOP), "--service", "demo-shop")
    dev.kill(CONTROL)
    eventually(lambda: "control plane was killed by SIGKILL" in dev.log.read_text(), "the word")
    assert dev.process.poll() is None
    assert dev.value("demo-shop", "adFailure") is False
    dev.kill(EDGE)
    assert dev.process.wait(30) == 1


def test_every_commit_is_seen_in_order(start: Callable[..., Dev], tmp_path: Path) -> None:
    """Commit to visible, at the edge and in the client, with the stream; how fast is measured
    elsewhere."""
    dev = start("--open")
    publish(dev, 1)
    with client_of(dev, tmp_path / "cache") as client:
        eventually(lambda: client.get_int("step", -1) == 1, "step 1")
        with watched(client) as seen:
            for step in range(2, 6):
                publish(dev, step)
                eventually(lambda: client.get_int("step", -1) == step, f"step {step}")  # noqa: B023
                assert dev.value("drill", "step") == step
    assert seen == [1, 2, 3, 4, 5]


def test_of_two_writers_on_one_revision_one_is_told(start: Callable[..., Dev]) -> None:
    dev = start("--open")
    base = publish(dev, 1)
    bodies = [
        {
            "documents": [{"file": "drill.yaml", "text": SETTINGS.format(step=step)}],
            "base_revision": base,
        }
        for step in (2, 3)
    ]
    answers: list[tuple[int, object, dict[str, str]]] = []
    writers = [
        threading.Thread(target=lambda b=body: answers.append(dev.ask("POST", "/v1/commits", b)))
        for body in bodies
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    won, lost = sorted(answers, key=lambda answer: answer[0])
    assert (won[0], lost[0]) == (201, 409)
    error = msgspec.json.decode(msgspec.json.encode(lost[1]))["error"]
    assert (error["expected_revision"], error["actual_revision"]) == (base, base + 1)
    assert dev.ask("GET", "/v1/head")[1]["revision"] == base + 1


def _value(dev: Dev) -> object:
    try:
        return dev.value("drill", "step")
    except (OSError, AssertionError):
        return None


def _ready(dev: Dev) -> bool:
    try:
        return dev.ask("GET", "/readyz")[0] == 200
    except OSError:
        return False

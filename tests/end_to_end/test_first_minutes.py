"""What a new user does first: start, ask, change, look, undo; and start again."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from openfeature import api as openfeature
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from tests.end_to_end.processes import (
    CONTOSO,
    DEMO_SHOP,
    HOLDFAST,
    ROOT,
    Dev,
    call,
    eventually,
    runs,
)

FLAGS = msgspec.json.decode(DEMO_SHOP.read_bytes())["flags"]


def test_every_flag_of_the_demo_shop_answers_with_its_default(shop: Dev) -> None:
    for key, flag in FLAGS.items():
        status, body = shop.evaluate("demo-shop", key)
        assert status == 200, body
        assert body["key"] == key
        assert body["variant"] == flag["defaultVariant"]
        assert body["value"] == flag["variants"][flag["defaultVariant"]]
        assert body["reason"] == ("TARGETING_MATCH" if flag.get("targeting") else "STATIC")


def test_the_unmodified_ofrep_client_reads_every_type(shop: Dev) -> None:
    openfeature.set_provider(OFREPProvider(f"{shop.edge}/production/demo-shop"))
    try:
        client = openfeature.get_client()
        context = EvaluationContext("user-1")
        assert client.get_boolean_value("adFailure", True, context) is False
        assert client.get_integer_value("loadGeneratorVUs", 0, context) == 5
        assert client.get_float_value("cartFailure", 1.0, context) == 0.0
        assert client.get_string_value("nothing-of-that-name", "mine", context) == "mine"
    finally:
        openfeature.shutdown()


def test_bulk_answers_with_every_flag_and_304_when_nothing_moved(shop: Dev) -> None:
    url = f"{shop.edge}/production/demo-shop/ofrep/v1/evaluate/flags"
    body = {"context": {"targetingKey": "user-1"}}
    status, answer, headers = call("POST", url, body)
    assert status == 200
    assert {flag["key"] for flag in answer["flags"]} == set(FLAGS)
    status, answer, _ = call("POST", url, body, headers={"If-None-Match": headers["etag"]})
    assert (status, answer) == (304, None)


def test_the_examples_are_all_there(shop: Dev) -> None:
    listed = shop.holdfast("get", "--output", "json")
    assert listed.returncode == 0, listed.stderr
    services = {line["service"] for line in msgspec.json.decode(listed.stdout)}
    files = list(CONTOSO.rglob("*.yaml"))
    assert "demo-shop" in services
    assert len(services) >= 7
    assert len(files) >= 6


def test_in_its_directory_the_commands_need_no_flags(shop: Dev) -> None:
    """`.holdfast/dev.json` names server and token; here the data lie elsewhere."""
    nothing = {"HOLDFAST_SERVER": "", "HOLDFAST_TOKEN": "", "HOLDFAST_DATA": str(shop.data_dir)}
    shown = shop.holdfast("get", "demo-shop", "cartFailure", **nothing)
    assert shown.returncode == 0, shown.stderr
    assert "10%" in shown.stdout


def test_what_others_must_not_read_they_can_not(shop: Dev) -> None:
    assert stat.S_IMODE(shop.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((shop.data_dir / "dev.json").stat().st_mode) == 0o600
    secrets = [path for path in shop.data_dir.rglob("*") if path.suffix in {".key", ".pem"}]
    assert [path for path in secrets if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_writes_take_a_token_even_where_reads_are_open(shop: Dev) -> None:
    body = {"edits": [], "reason": "mine"}
    assert call("POST", f"{shop.control}/v1/commits", body)[0] == 401
    wrong = "hf_nobody_" + "0" * 64
    assert call("POST", f"{shop.control}/v1/commits", body, wrong)[0] == 401


def test_a_second_start_keeps_every_change(start: Callable[..., Dev]) -> None:
    arguments = ("--open", "--import", str(DEMO_SHOP), "--service", "demo-shop")
    first = start(*arguments)
    changed = msgspec.json.decode(DEMO_SHOP.read_bytes())
    changed["flags"]["cartFailure"]["defaultVariant"] = "50%"
    file = first.data_dir.parent / "changed.json"
    file.write_bytes(msgspec.json.encode(changed))
    done = first.holdfast("import", "flagd", str(file), "-s", "demo-shop", "--reason", "a drill")
    assert done.returncode == 0, done.stderr
    eventually(lambda: first.value("demo-shop", "cartFailure") == 0.5, "the change at the edge")
    head = first.ask("GET", "/v1/head")[1]
    assert first.stop() == 0
    assert not (first.data_dir / "dev.json").exists()

    second = start(*arguments)
    assert second.value("demo-shop", "cartFailure") == 0.5
    assert second.ask("GET", "/v1/head")[1] == head
    assert second.token == first.token
    assert "left as they are: demo-shop" in second.log.read_text()


def test_a_closed_one_starts_from_nothing_and_answers_to_its_token_alone(
    start: Callable[..., Dev],
) -> None:
    """The edge learns of tokens with the first environment, and not before."""
    arguments = ("--import", str(DEMO_SHOP), "--service", "demo-shop")
    for _ in range(2):
        closed = start(*arguments)
        url = f"{closed.edge}/production/demo-shop/ofrep/v1/evaluate/flags/loadGeneratorVUs"
        assert call("POST", url, {"context": {}})[0] == 401
        status, body, _ = call("POST", url, {"context": {}}, closed.token)
        assert (status, body["value"]) == (200, 5)
        assert closed.stop() == 0


def test_make_run_twice(tmp_path: Path) -> None:
    """The command of the README, but for its ports and its data."""
    data = tmp_path / "data"
    arguments = f"ARGS=--data {data} --control-port 0 --edge-port 0"
    heads = []
    for _ in range(2):
        running = Dev(data, command=("make", "run", arguments))
        assert running.value("demo-shop", "loadGeneratorVUs") == 5
        heads.append(running.ask("GET", "/v1/head")[1])
        children = list(running.facts.processes.values())
        os.killpg(running.process.pid, signal.SIGINT)  # as Ctrl-C does
        running.process.wait(30)
        eventually(lambda: not any(runs(pid) for pid in children), "no child left")  # noqa: B023
    assert heads[0] == heads[1]


def test_open_is_refused_beyond_loopback(tmp_path: Path, shop: Dev) -> None:
    data = tmp_path / "data"
    refused = shop.holdfast("dev", "--open", "--host", "0.0.0.0", "--data", str(data))  # noqa: S104
    assert refused.returncode == 2
    assert "--open" in refused.stderr
    assert "127.0.0.1" in refused.stderr
    assert not data.exists()


@pytest.mark.parametrize("command", ["control", "edge"])
def test_open_is_refused_beyond_loopback_to_each_process(shop: Dev, command: str) -> None:
    refused = shop.holdfast(command, "--open", "--host", "0.0.0.0")  # noqa: S104
    assert refused.returncode == 2
    assert "--open" in refused.stderr


def test_a_taken_port_names_the_flag_to_change_it(tmp_path: Path, shop: Dev) -> None:
    taken = shop.control.rpartition(":")[2]
    data = str(tmp_path / "data")
    refused = shop.holdfast("dev", "--data", data, "--control-port", taken, "--edge-port", "0")
    assert refused.returncode == 1
    assert taken in refused.stderr
    assert "--control-port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_one_data_directory_has_one_user(shop: Dev) -> None:
    ports = ("--control-port", "0", "--edge-port", "0")
    refused = shop.holdfast("dev", "--data", str(shop.data_dir), *ports)
    assert refused.returncode == 1
    assert str(shop.process.pid) in refused.stderr


def test_help_comes_from_the_installed_command() -> None:
    assert HOLDFAST.exists()
    assert HOLDFAST.is_relative_to(ROOT)

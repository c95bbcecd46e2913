"""The client's face: reads that never raise, reasons, counts, changes, states, and its doors."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sdk.edge import Edge
from tests.sdk.publisher import Publisher, flag
from tests.sdk.waiting import until

from holdfast import Client
from holdfast.core.errors import Damaged, Invalid, NotFound
from holdfast.core.roots import decode_root_set
from holdfast.core.snapshot import Pacing

FLAGS = {
    "on": flag(True),
    "name": flag("nine"),
    "tiles": flag(9),
    "ratio": flag(0.5),
    "theme": flag({"color": "blue"}),
    "list": flag([1, 2]),
    "gone": {**flag(True), "state": "DISABLED"},
    "open": {"state": "ENABLED", "variants": {"a": 1}},
    "broken": {**flag(True), "targeting": {"nonsense": []}},
    "by-tenant": {
        **flag(False, yes=True),
        "targeting": {"if": [{"==": [{"var": "tenant"}, "contoso"]}, "yes", None]},
    },
    "by-user": {**flag(False, yes=True), "targeting": {"fractional": [["yes", 1], ["here", 0]]}},
}
CONTOSO = {"tenant": "contoso", "targetingKey": "user-1"}


@pytest.fixture
def offline(tmp_path: Path) -> Client:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": FLAGS}))
    return Client.from_file(path)


@pytest.fixture
def edge() -> Iterator[Edge]:
    with Edge(Publisher()) as edge:
        yield edge


@pytest.fixture
def start(edge: Edge, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(**changes: Any) -> Client:
        asked = {
            "endpoints": [edge.url], "service": "demo-shop", "cache_dir": tmp_path / "cache",
            "poll_interval_s": 0.1,
        }  # fmt: skip
        clients.append(Client(**{**asked, **changes}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


# Reads


def test_typed_reads(offline: Client) -> None:
    assert offline.get_bool("on", False) is True
    assert offline.get_str("name", "") == "nine"
    assert offline.get_int("tiles", 0) == 9
    assert offline.get_float("ratio", 0.0) == 0.5
    assert offline.get_object("theme", {}) == {"color": "blue"}
    assert offline.get_object("list", []) == [1, 2]


def test_a_whole_number_is_a_float_too(offline: Client) -> None:
    value = offline.get_float("tiles", 0.0)
    assert value == 9.0
    assert isinstance(value, float)


def test_the_context_decides(offline: Client) -> None:
    assert offline.get_bool("by-tenant", False, CONTOSO) is True
    assert offline.get_bool("by-tenant", True, {"tenant": "fabrikam"}) is False
    assert offline.get_bool("by-tenant", True) is False


def test_a_second_read_is_the_same_as_the_first(offline: Client) -> None:
    for _ in range(3):
        assert offline.get_bool("by-tenant", False, CONTOSO) is True
        assert offline.get_int("on", 7) == 7


class Undecided:
    """Neither true nor false, as an array of several numbers is."""

    def __bool__(self) -> bool:
        raise ValueError


@pytest.mark.parametrize("key", ["nope", "gone", "open", "broken", "name"])
def test_where_there_is_no_answer_the_default_is_given(offline: Client, key: str) -> None:
    for default in (True, False, None, Undecided()):
        for _ in range(2):
            assert offline.get_bool(key, default, CONTOSO) is default  # type: ignore[arg-type]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=5,
)
OFFLINE_FILE = Path(__file__).parent / "never-there.json"


@given(key=anything, context=anything, default=anything)
def test_a_read_never_raises(key: Any, context: Any, default: Any) -> None:
    for client in (HYPOTHESIS_CLIENT, EMPTY_CLIENT):
        for name in (key, *FLAGS):
            for read in (client.get_bool, client.get_str, client.get_int, client.get_float):
                read(name, default, context)
            client.get_object(name, default, context)
            client.evaluate(name, context, default=default)


def _client_of(flags: dict[str, Any]) -> Client:
    from holdfast.core.model import Subject
    from holdfast.sdk.file import read_mapping

    client = Client.__new__(Client)
    client._begin(read_mapping({"flags": flags}, "file"), Subject("", ""), None)
    return client


HYPOTHESIS_CLIENT, EMPTY_CLIENT = _client_of(FLAGS), _client_of({})


@pytest.mark.parametrize(
    ("key", "default", "value", "reason", "code"),
    [
        ("on", None, True, "STATIC", None),
        ("on", False, True, "STATIC", None),
        ("on", "text", "text", "ERROR", "TYPE_MISMATCH"),
        ("tiles", 1.5, 9.0, "STATIC", None),
        ("ratio", 1, 1, "ERROR", "TYPE_MISMATCH"),
        ("theme", {}, {"color": "blue"}, "STATIC", None),
        ("nope", 3, 3, "ERROR", "FLAG_NOT_FOUND"),
        ("gone", True, True, "DISABLED", None),
        ("open", 3, 3, "DEFAULT", None),
        ("broken", None, None, "ERROR", "PARSE_ERROR"),
        ("by-tenant", None, True, "TARGETING_MATCH", None),
    ],
)
def test_evaluate_says_why(  # noqa: PLR0917  a table
    offline: Client, key: str, default: Any, value: Any, reason: str, code: str | None
) -> None:
    said = offline.evaluate(key, CONTOSO, default=default)
    assert (said.value, said.reason, said.error_code) == (value, reason, code)
    assert bool(said.error_message) is bool(code)
    assert said.stale is False


def test_evaluate_all_answers_every_setting(offline: Client) -> None:
    answers = offline.evaluate_all(CONTOSO)
    assert answers.keys() == FLAGS.keys()
    assert answers["by-tenant"].variant == "yes"


def test_answers_are_counted_by_variant(offline: Client) -> None:
    for _ in range(3):
        offline.get_bool("by-tenant", False, CONTOSO)
    offline.get_bool("by-tenant", False)
    offline.evaluate("by-tenant", CONTOSO)
    offline.evaluate_all(CONTOSO)
    offline.get_bool("gone", False)
    counts = offline.counts()
    assert counts["by-tenant"] == {"yes": 5, "here": 1}
    assert counts["gone"] == {"": 2}
    assert counts["tiles"] == {"here": 1}


def test_what_went_wrong_is_counted(offline: Client) -> None:
    for _ in range(2):
        offline.get_bool("name", False)
        offline.get_bool("nope", False)
        offline.get_bool("broken", False)
    assert offline.status().counts == {"type_mismatch": 2, "not_found": 2, "errors": 2}


# Files


def test_a_snapshot_and_a_bundle_are_files_too(tmp_path: Path) -> None:
    publisher = Publisher()
    bundle = publisher.publish(tiles=9)
    for body in (bundle, publisher.body):
        path = tmp_path / "file.json"
        path.write_bytes(body)
        client = Client.from_file(path)
        assert client.get_int("tiles", 0) == 9
        assert client.evaluate("tiles").revision == 1
        assert client.status().state == "ready"


@pytest.mark.parametrize("name", ["nowhere.json", "no\0name"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        Client.from_file(tmp_path / name)


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"flags": 1}', '{"holdfast": {}}'])
def test_a_file_that_is_none(tmp_path: Path, body: str) -> None:
    (tmp_path / "file.json").write_text(body)
    with pytest.raises(Damaged):
        Client.from_file(tmp_path / "file.json")


def test_a_settings_file_is_no_file_to_answer_from_and_what_is_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("service: shop\nsettings: {}\n")
    with pytest.raises(Damaged, match="holdfast export snapshot"):
        Client.from_file(tmp_path / "shop.yaml")


def test_every_bad_flag_of_a_file_is_named(tmp_path: Path) -> None:
    flags = {"fine": flag(1), "a/b": {"state": "ON", "variants": {"a": 1}}, "c": {"state": 1}}
    (tmp_path / "file.json").write_text(json.dumps({"flags": flags}))
    with pytest.raises(Invalid) as caught:
        Client.from_file(tmp_path / "file.json")
    assert [problem.path for problem in caught.value.problems] == ["/flags/a~1b", "/flags/c"]


# Following


def test_a_client_follows(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publish(tiles=9)
    client = start()
    assert client.wait_until_ready(20)
    assert client.get_int("tiles", 0) == 9
    edge.publish(tiles=49)
    until(lambda: client.get_int("tiles", 0) == 49)
    assert client.evaluate("tiles").revision == 2
    assert client.keys() == {"tiles"}


def test_before_there_is_anything_the_default_is_given(start: Callable[..., Client]) -> None:
    client = start()
    assert not client.wait_until_ready(0.01)
    assert client.get_int("tiles", 5) == 5
    assert client.evaluate("tiles").error_code == "PROVIDER_NOT_READY"
    assert client.status().state == "starting"


def test_changes_are_told_with_their_keys(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publish(tiles=9, name="a", old=1)
    client = start()
    assert client.wait_until_ready(20)
    told: list[tuple[frozenset[str], int, int]] = []
    stop = client.on_change(lambda keys, rev: told.append((keys, rev, client.get_int("tiles", 0))))
    client.on_change(lambda *_: 1 / 0)
    edge.publish(tiles=49)
    until(lambda: told)
    assert told == [(frozenset({"tiles"}), 2, 49)], "told after reads see it"
    edge.publisher.remove("old")
    edge.publish()
    until(lambda: len(told) == 2)
    assert told[1][:2] == (frozenset({"old"}), 3)
    stop()
    edge.publish(tiles=50)
    until(lambda: client.get_int("tiles", 0) == 50)
    assert len(told) == 2
    assert client.status().counts["callbacks_failed"] == 3


def test_a_callback_that_wants_to_exit_ends_no_following(
    edge: Edge, start: Callable[..., Client]
) -> None:
    edge.publish(tiles=9)
    client = start()
    assert client.wait_until_ready(20)
    client.on_change(lambda *_: sys.exit("restart for the new settings"))
    for tiles in (10, 11):
        edge.publish(tiles=tiles)
        until(lambda tiles=tiles: client.get_int("tiles", 0) == tiles)
    until(lambda: client.status().counts.get("callbacks_failed") == 2)


def test_counts_survive_a_reload(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publish(tiles=9)
    client = start()
    assert client.wait_until_ready(20)
    read = 0
    for tiles in (10, 11, 12):
        client.get_int("tiles", 0)
        read += 1
        edge.publish(tiles=tiles)
        until(lambda tiles=tiles: client.evaluate("tiles").revision == tiles - 8)
    total = sum(client.counts()["tiles"].values())
    assert total >= read


def test_status_tells_how_it_is(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publish(tiles=9)
    client = start()
    until(lambda: client.status().state == "ready" and client.status().streaming)
    status = client.status()
    assert (status.origin, status.revision) == ("upstream", 1)
    assert status.endpoint == edge.url
    assert status.age_s is not None
    assert status.age_s < 20
    assert (status.last_error, status.last_error_age_s) == ("", None)
    assert status.root_pinned_by_sight
    assert status.counts["activated"] == 1


def test_stale_is_a_label_and_then_it_heals(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publisher.pacing = Pacing(stale_after_s=0)
    edge.publish(tiles=9)
    client = start(streams=False)
    states: list[str] = []
    client.on_state(states.append)
    until(lambda: "stale" in states)
    assert client.get_int("tiles", 0) == 9
    edge.publisher.pacing = Pacing()
    edge.publish(tiles=10)
    until(lambda: client.status().state == "ready")
    until(lambda: states[-1] == "ready")


def test_killed_and_started_anew_it_answers_from_disk(
    edge: Edge, start: Callable[..., Client]
) -> None:
    edge.publish(tiles=9)
    first = start()
    until(lambda: first.status().state == "ready")
    first.close()
    edge.close()
    second = start()
    said = second.evaluate("tiles")
    assert (said.value, said.revision, said.stale) == (9, 1, True)
    status = second.status()
    assert (status.state, status.origin) == ("stale", "disk")


def test_bundled_defaults_answer_until_there_is_more(
    edge: Edge, start: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = start(defaults={"tiles": 4, "theme": {"color": "red"}})
    assert client.get_int("tiles", 0) == 4
    assert client.get_object("theme", {}) == {"color": "red"}
    assert client.status().state == "starting"
    assert client.status().origin == "defaults"
    assert "bundled defaults" in caplog.text
    edge.publish(tiles=9)
    until(lambda: client.get_int("tiles", 0) == 9)
    assert client.status().origin == "upstream"


def test_bundled_defaults_from_a_file(start: Callable[..., Client], tmp_path: Path) -> None:
    (tmp_path / "defaults.json").write_text(json.dumps({"flags": FLAGS}))
    client = start(defaults=tmp_path / "defaults.json")
    assert client.get_bool("by-tenant", False, CONTOSO) is True


def test_pinning_by_sight_is_loud(
    edge: Edge, start: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    edge.publish(tiles=9)
    client = start()
    until(lambda: client.status().state == "ready")
    until(lambda: "root=" in caplog.text)
    assert len([r for r in caplog.records if "root=" in r.getMessage()]) == 1
    client.close()
    caplog.clear()
    again = start()
    until(lambda: again.status().state == "ready")
    assert "root=" not in caplog.text, "the pin is old news"


def test_development_roots_are_loud(
    start: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    with Edge(Publisher(development=True)) as edge:
        edge.publish(tiles=9)
        client = start(endpoints=[edge.url])
        until(lambda: "development" in caplog.text)
        assert client.status().root_development


def test_given_roots_are_trusted_and_no_others(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publish(tiles=9)
    right = decode_root_set(edge.publisher.roots[0].body())
    client = start(root=json.loads(edge.publisher.roots[0].body()))
    until(lambda: client.status().state == "ready")
    assert not client.status().root_pinned_by_sight
    assert client.status().root_version == right.version
    wrong = Publisher(seed=7).roots[0].body().decode()
    other = start(root=wrong, cache_dir=None)
    until(lambda: other.status().counts.get("refused_root-forked"))
    assert other.get_int("tiles", 0) == 0


def test_a_disk_that_can_not_be_used_is_loud_and_no_obstacle(
    edge: Edge, start: Callable[..., Client], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edge.publish(tiles=9)
    (tmp_path / "file").write_text("")
    client = start(cache_dir=tmp_path / "file" / "x")
    until(lambda: "the disk refuses" in caplog.text)
    assert client.wait_until_ready(20)
    assert client.get_int("tiles", 0) == 9


def test_failover_between_endpoints(edge: Edge, start: Callable[..., Client]) -> None:
    with Edge(edge.publisher) as other:
        edge.publish(tiles=9)
        other.hold()
        client = start(endpoints=[edge.url, other.url])
        until(lambda: client.status().state == "ready")
        edge.close()
        other.publish(tiles=49)
        until(lambda: client.get_int("tiles", 0) == 49)
        assert client.status().endpoint == other.url


def test_close_keeps_answering(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publish(tiles=9)
    with start() as client:
        assert client.wait_until_ready(20)
    assert client.get_int("tiles", 0) == 9
    assert client.status().state == "closed"
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("holdfast")])


def test_readers_see_no_gap_while_settings_change(edge: Edge, start: Callable[..., Client]) -> None:
    edge.publish(tiles=1)
    client = start()
    assert client.wait_until_ready(20)
    wrong: list[Any] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while not done.is_set():
            tiles = client.get_int("tiles", -1)
            if tiles < last:
                wrong.append((last, tiles))
            last = tiles

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for tiles in range(2, 8):
        edge.publish(tiles=tiles)
        until(lambda tiles=tiles: client.get_int("tiles", 0) == tiles)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


# Arguments


def test_all_that_is_wrong_with_the_arguments_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOLDFAST_ENDPOINTS", raising=False)
    wrong: dict[str, Any] = {
        "environment": "Pro duction", "token": "two words", "root": "/nowhere/root.json",
        "cache_dir": 3, "poll_interval_s": -1,
    }  # fmt: skip
    with pytest.raises(Invalid) as caught:
        Client(**wrong)
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"/endpoints", "/service"} | {f"/{name}" for name in wrong}


@pytest.mark.parametrize(
    "url",
    [
        "edge:8016", "ftp://edge", "http://", "http://edge:x", "http://a/?b=c", "http://u@h",
        "http://a\nb", "http://a b", None, b"http://edge",
    ],
)  # fmt: skip
def test_endpoints_are_base_urls(url: Any) -> None:
    with pytest.raises(Invalid, match="endpoints"):
        Client(["http://edge:8016", url], service="demo-shop")


def test_a_password_in_an_endpoint_is_not_shown() -> None:
    with pytest.raises(Invalid) as caught:
        Client(["http://ann:hunter2@edge:8016/?key=hunter2"], service="demo-shop")
    assert "edge:8016" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service", "demo-shop\n"),
        ("cache_dir", "no\0name"),
        ("cache_dir", "half \ud800"),
        ("application", "shop\n"),
        ("root", {"keys": {1, 2}}),
        ("defaults", "/nowhere/flags.json"),
        ("defaults", Path(__file__)),
        ("defaults", {"tiles": object()}),
        ("defaults", {1: 2}),
    ],
)
def test_an_argument_that_can_not_be_used_is_named(name: str, value: Any, tmp_path: Path) -> None:
    asked = {"service": "demo-shop", "cache_dir": tmp_path}
    with pytest.raises(Invalid) as caught:
        Client(["http://127.0.0.1:1"], **{**asked, name: value})
    assert [problem.path for problem in caught.value.problems] == [f"/{name}"]


def test_an_empty_root_file_is_not_no_root(tmp_path: Path) -> None:
    """A document cut to nothing by a full disk must not make the client believe whom it sees."""
    (tmp_path / "root.json").touch()
    with pytest.raises(Invalid, match="empty"):
        Client(["http://127.0.0.1:1"], service="demo-shop", root=tmp_path / "root.json")


def test_paths_may_be_bytes(edge: Edge, start: Callable[..., Client], tmp_path: Path) -> None:
    edge.publish(tiles=9)
    assert start(cache_dir=os.fsencode(tmp_path / "cache")).wait_until_ready(20)
    until(lambda: list((tmp_path / "cache").rglob("*-*")))


@pytest.mark.parametrize("root", ["{}", "[]", '{"payload": 1}', "{"])
def test_a_root_that_is_none_is_refused(root: str) -> None:
    with pytest.raises(Invalid, match="root"):
        Client(["http://127.0.0.1:1"], service="demo-shop", root=root)


def test_variables_say_it_too(edge: Edge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    edge.publish(tiles=9)
    (tmp_path / "root.json").write_bytes(edge.publisher.roots[0].body())
    variables = {
        "ENDPOINTS": f"http://127.0.0.1:1, {edge.url}", "ENVIRONMENT": "production",
        "SERVICE": "demo-shop", "TOKEN": "hf_a_b", "CACHE_DIR": str(tmp_path / "cache"),
        "ROOT": str(tmp_path / "root.json"),
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(f"HOLDFAST_{name}", value)
    with Client() as client:
        assert client.wait_until_ready(20)
        assert client.get_int("tiles", 0) == 9
        assert not client.status().root_pinned_by_sight
        until(lambda: list((tmp_path / "cache").rglob("*-*")))
    assert edge.tokens == {"Bearer hf_a_b"}


def test_why_there_are_no_settings_is_said_once(
    edge: Edge, start: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever gave a wrong token, or a URL where nobody listens, sees it in the log."""
    with caplog.at_level(logging.INFO, "holdfast"):
        client = start(endpoints=["http://127.0.0.1:1"], reports=False)
        until(lambda: client.status().counts.get("failed", 0) > 3)
        until(lambda: "no endpoint answers" in caplog.text)
    told = [line for line in caplog.messages if "no endpoint answers" in line]
    assert len(told) == 1
    assert "production/demo-shop: " in told[0]
    assert "refused" in told[0]


def test_no_cache_is_loud(
    edge: Edge, start: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "holdfast"):
        start(cache_dir=None)
    assert "no cache_dir" in caplog.text

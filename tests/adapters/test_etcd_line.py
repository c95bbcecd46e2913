"""Calls to etcd when its members are dead, stopped, slow, or not what they should be."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.certificates import make_tls

from holdfast.adapters.etcd_address import parse_address
from holdfast.adapters.etcd_line import EtcdLine, Lost
from holdfast.adapters.etcd_store import EtcdStore
from holdfast.adapters.etcd_wire import put
from holdfast.adapters.http_line import Line
from holdfast.core.errors import Unavailable
from holdfast.gameday.etcd import EtcdCluster, Tls
from holdfast.gameday.processes import free_ports, until
from holdfast.gameday.proxy import ANSWERS_LOST, BLACK_HOLE, PASS, QUESTIONS_LOST, Fault, Proxy, Way

PASSWORD = "a:secret/of@ours"


@contextlib.contextmanager
def line_to(url: str) -> Iterator[EtcdLine]:
    with contextlib.closing(EtcdLine(parse_address(url))) as line:
        yield line


def works(url: str, password: str = "") -> None:
    with contextlib.closing(EtcdStore(url, password)) as store:
        assert store.mark("one", store.marked())
        assert store.marked() == "one"
        assert list(store.journal.watch(store.journal.head().revision, 0.1)) == []


# The URL


@pytest.mark.parametrize(
    ("url", "endpoints", "prefix"),
    [
        ("etcd://h1", ("http://h1:2379",), "holdfast"),
        ("etcd://h1:1,h2:2,[::1]:3", ("http://h1:1", "http://h2:2", "http://[::1]:3"), "holdfast"),
        ("etcds://h1/one/two/", ("https://h1:2379",), "one/two"),
        ("etcd://h1?prefix=three", ("http://h1:2379",), "three"),
    ],
)
def test_a_url_names_endpoints_and_a_prefix(
    url: str, endpoints: tuple[str, ...], prefix: str
) -> None:
    address = parse_address(url)
    assert (address.endpoints, address.prefix) == (endpoints, prefix)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h1", "not etcd"),
        ("etcd://", "no host"),
        ("etcd://h1,,h2", "no host"),
        ("etcd://h1:port", "[Pp]ort"),
        ("etcd://h1?timeout_s=soon", "no number"),
        ("etcd://h1?timeout_s=0", "above 0"),
        ("etcd://h1?colour=red", "colour"),
        ("etcd://h1?ca=/no/such/file", "no file"),
        ("etcd://" + ",".join(["h"] * 17), "at most 16"),
        ("etcd://h1/pr%C3%A4fix\u00e4", "ASCII"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_and_says_why(url: str, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        parse_address(url)


def test_no_representation_of_an_address_shows_its_password() -> None:
    address = parse_address("etcd://ann:geheim@h1:1")
    assert address.credentials is not None
    assert address.credentials.password == "geheim"
    assert "geheim" not in f"{address!r} {address.where}"
    with pytest.raises(Unavailable) as caught:
        parse_address("etcd://ann:geheim@h1:1?colour=red")
    assert "geheim" not in str(caught.value)


# Members that do not answer


def test_a_dead_endpoint_costs_one_failure_and_no_call(etcd_cluster: EtcdCluster) -> None:
    dead, alive = f"127.0.0.1:{free_ports(1)[0]}", etcd_cluster.endpoints[0]
    with line_to(f"etcd://{dead},{alive}/dead?timeout_s=20") as line:
        for _ in range(5):
            line.get("head")
        assert line.failures == 1


def test_without_a_living_endpoint_all_of_them_are_named(etcd_cluster: EtcdCluster) -> None:
    places = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with line_to(f"etcd://{','.join(places)}") as line, pytest.raises(Unavailable) as caught:
        line.get("head")
    assert all(place in str(caught.value) for place in places)


@pytest.mark.parametrize(
    "fault",
    [ANSWERS_LOST, QUESTIONS_LOST, Fault(down=Way(bytes_per_s=20))],
    ids=["answers lost", "questions lost", "dripping"],
)
def test_an_endpoint_that_does_not_answer_in_time_is_passed_over(
    etcd_cluster: EtcdCluster, fault: Fault
) -> None:
    with Proxy(etcd_cluster.members[0].port) as proxy:
        url = f"etcd://127.0.0.1:{proxy.port},{etcd_cluster.endpoints[0]}/slow"
        with line_to(f"{url}?timeout_s=20") as line:
            line.get("head")
            proxy.be(fault)
            for _ in range(3):
                line.get("head")
            assert line.failures == 1


def test_a_call_ends_when_its_time_does(etcd_cluster: EtcdCluster) -> None:
    with (
        Proxy(etcd_cluster.members[0].port) as proxy,
        line_to(f"etcd://127.0.0.1:{proxy.port}/ends?timeout_s=0.5") as line,
    ):
        proxy.be(BLACK_HOLE)
        with pytest.raises(Unavailable, match=str(proxy.port)):
            line.get("head")
        with pytest.raises(Unavailable):  # far more than fits into what the kernel holds
            line.change((), (put(line.key("large"), b"x" * 16_000_000),))
        proxy.be(PASS)


def test_sending_over_a_kept_connection_ends_in_time_too(etcd_cluster: EtcdCluster) -> None:
    with (
        Proxy(etcd_cluster.members[0].port) as proxy,
        line_to(f"etcd://127.0.0.1:{proxy.port}/kept?timeout_s=20") as line,
    ):
        line.get("head")
        proxy.be(QUESTIONS_LOST)
        large = put(line.key("large"), b"x" * 16_000_000)
        with pytest.raises(Unavailable, match=str(proxy.port)):
            line.change((), (large,), deadline_s=time.monotonic() + 1.0)


def test_what_must_not_be_made_twice_is_lost_with_its_answer(etcd_cluster: EtcdCluster) -> None:
    with Proxy(etcd_cluster.members[0].port) as proxy:
        url = f"etcd://127.0.0.1:{proxy.port},{etcd_cluster.endpoints[0]}/lost?timeout_s=20"
        with line_to(url) as line:
            proxy.be(ANSWERS_LOST)
            with pytest.raises(Lost):
                line.change((), (put(line.key("once"), b"1"),), twice=False)
            until(lambda: line.get("once")[0], "what was asked for once", 20)
            assert line.failures == 1


def test_a_stopped_member_is_passed_over(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", 3) as cluster:
        works(f"{cluster.url}?timeout_s=20")
        follower = cluster.followers()[0]
        others = [f"127.0.0.1:{one.port}" for one in cluster.members if one is not follower]
        with line_to(f"etcd://127.0.0.1:{follower.port},{','.join(others)}?timeout_s=20") as line:
            follower.stop()
            line.get("head")
            assert line.failures, "it was asked first"
            follower.cont()


# What is no etcd


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    answer: tuple[int, dict[str, str], bytes] = (404, {}, b"404 page not found\n")

    def do_POST(self) -> None:
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    handler = type("Answering", (_Elsewhere,), {"answer": (status, headers, body)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


def test_a_redirect_is_refused(etcd_cluster: EtcdCluster) -> None:
    target = f"http://{etcd_cluster.endpoints[0]}/v3/kv/range"
    with (
        answering(307, b"", Location=target) as place,
        line_to(f"etcd://{place}") as line,
        pytest.raises(Unavailable, match="307"),
    ):
        line.get("head")


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"kvs": 7}', b"\xff\xfe", b'{"header":{"revision":"x"}}']
)
def test_an_answer_that_is_not_etcds_is_refused(body: bytes) -> None:
    with (
        answering(200, body) as place,
        line_to(f"etcd://{place}") as line,
        pytest.raises(Unavailable, match="no answer of etcd's"),
    ):
        line.get("head")


def test_a_page_that_is_not_there_is_no_etcd() -> None:
    with (
        answering(404, b"404 page not found\n") as place,
        line_to(f"etcd://{place}") as line,
        pytest.raises(Unavailable, match="404"),
    ):
        line.get("head")


def test_what_etcd_refuses_is_told_with_its_words(etcd_cluster: EtcdCluster) -> None:
    with line_to(f"{etcd_cluster.url}/refused?timeout_s=20") as line:
        too_large = put(line.key("large"), b"x" * 1_700_000)
        with pytest.raises(Unavailable, match="too large"):
            line.change((), (too_large,))
        assert line.failures == 0


# Who may


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tls: Tls) -> Iterator[EtcdCluster]:
    directory = tmp_path_factory.mktemp("guarded")
    with EtcdCluster(directory, tls=tls, password=PASSWORD) as cluster:
        yield cluster


def url_of(cluster: EtcdCluster, user: str, tls: Tls | None, scheme: str = "etcds") -> str:
    files = f"?ca={tls.ca}&cert={tls.cert}&key={tls.key}&timeout_s=20" if tls else ""
    return f"{scheme}://{user}{cluster.endpoints[0]}{files}"


def test_with_its_files_and_its_password_it_works(guarded: EtcdCluster, tls: Tls) -> None:
    works(url_of(guarded, "root:a%3Asecret%2Fof%40ours@", tls))
    works(url_of(guarded, "root@", tls), PASSWORD)


@pytest.mark.parametrize(
    "user", ["root:wrong-password@", "nobody:wrong-password@", "root%3Awrong-password:x@"]
)
def test_a_wrong_password_is_refused_and_not_told(
    guarded: EtcdCluster, tls: Tls, user: str
) -> None:
    with pytest.raises(Unavailable, match="refused the user") as caught:
        works(url_of(guarded, user, tls))
    assert "wrong-password" not in str(caught.value)


def test_without_a_user_it_says_that_one_is_needed(guarded: EtcdCluster, tls: Tls) -> None:
    with pytest.raises(Unavailable, match="name a user"):
        works(url_of(guarded, "", tls))


def test_a_token_that_is_gone_is_asked_for_again(guarded: EtcdCluster, tls: Tls) -> None:
    with contextlib.closing(EtcdStore(url_of(guarded, "root@", tls), PASSWORD)) as store:
        assert store.mark("before", store.marked())
        guarded.members[0].kill()  # tokens are kept in memory
        guarded.members[0].start()
        guarded.wait_healthy()
        assert store.marked() == "before"


def test_another_authority_is_not_believed(guarded: EtcdCluster, tls: Tls, tmp_path: Path) -> None:
    other = make_tls(tmp_path / "other")
    with pytest.raises(Unavailable, match="issuer certificate"):
        works(url_of(guarded, "root@", Tls(other.ca, tls.cert, tls.key)), PASSWORD)
    with pytest.raises(Unavailable, match="does not answer"):
        works(url_of(guarded, "root@", Tls(tls.ca, other.cert, other.key)), PASSWORD)


def test_a_stream_without_an_end_is_opened_over_tls(guarded: EtcdCluster, tls: Tls) -> None:
    line = Line(f"https://{guarded.endpoints[0]}", 20.0, tls.context())
    line.bound(20.0, float("inf"))
    with contextlib.closing(line):
        assert line.open("/health", {}, body_bytes_max=1_000).status == 200
        line.cut()


def test_without_tls_nothing_is_told_to_it(guarded: EtcdCluster) -> None:
    with pytest.raises(Unavailable):
        works(url_of(guarded, "root@", None, "etcd"), PASSWORD)


def test_a_user_is_named_before_etcd_has_any(etcd_cluster: EtcdCluster) -> None:
    works(f"etcd://ann:soon@{etcd_cluster.endpoints[0]}/early?timeout_s=20")

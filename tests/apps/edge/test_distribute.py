"""The data plane's routes, at a control plane's shelf and at an edge's: the same tests for both."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
from collections.abc import Iterator

import pytest
from an_edge import edge_at
from serving import Answered, Raw, call, until
from upstream import FOLLOW_TEXT, READ, World, setting

from holdfast.apps.distribute import YEAR_S
from holdfast.core.bundle import decode_bundle
from holdfast.core.delta import apply_delta
from holdfast.core.model import Audience, PutSegment, PutSetting, Rule, Segment
from holdfast.core.snapshot import decode_freshness
from holdfast.core.targeting.segments import SegmentTable
from holdfast.core.wire import decode_envelope

FOLLOW = {"authorization": f"Bearer {FOLLOW_TEXT}"}
SNAPSHOT = "/production/shop/snapshot"


@pytest.fixture(scope="module")
def big(world: World) -> None:
    """A segment that travels as a table."""
    members = "\n".join(sorted(f"tenant-{n}" for n in range(10_001))) + "\n"
    digest = world.blobs.put(members.encode())
    audience = Audience(by="tenant", members_digest=digest, member_count=10_001)
    rule = Rule(logic={"$ref": "big"}, serve="on")
    world.commit(
        PutSegment("shop", "big", Segment(audience)),
        PutSetting("shop", "for-big", setting("boolean", {"on": True, "off": False}, "off", rule)),
    )


@pytest.fixture(scope="module", params=["upstream", "edge", "edge of an edge"])
def port(request, big, world, tmp_path_factory) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(world.serving()).port
        for _ in range(["upstream", "edge", "edge of an edge"].index(request.param)):
            cache_dir = tmp_path_factory.mktemp("edge")
            port = stack.enter_context(edge_at(cache_dir, port)).listener.port
        yield port


def get(port: int, target: str = SNAPSHOT, **headers: str) -> Answered:
    return call(port, "GET", target, headers={**READ, **headers})


def test_a_snapshot_is_what_was_signed_and_known_by_its_digest(port, world):
    answered = get(port)

    bundle = decode_bundle(answered.body)
    digest = hashlib.sha256(bundle.snapshot).hexdigest()
    assert digest in answered.headers["etag"]
    assert answered.headers["cache-control"].startswith("private, no-cache")
    assert "authorization" in answered.headers["vary"]
    revision = json.loads(bundle.snapshot)["holdfast"]["revision"]
    assert answered.headers["holdfast-revision"] == str(revision)
    sealed = base64.b64decode(answered.headers["holdfast-freshness"])
    assert decode_freshness(decode_envelope(sealed).body()).digest == digest

    known = get(port, **{"if-none-match": f'W/"{digest}"'})
    assert (known.status, known.body) == (304, b"")
    assert digest in known.headers["etag"]
    assert known.headers["holdfast-freshness"]
    head = call(port, "HEAD", SNAPSHOT, headers=READ)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(answered.body)


def test_who_accepts_gzip_gets_it(port):
    plain = get(port)
    until(lambda: "content-encoding" in get(port, **{"accept-encoding": "gzip"}).headers)
    zipped = get(port, **{"accept-encoding": "gzip"})

    assert gzip.decompress(zipped.body) == plain.body
    assert "content-encoding" not in plain.headers


def test_from_a_known_snapshot_there_is_a_delta(port, world):
    world.put("shop", filler=setting("object", {"a": {"text": "x" * 5000}}, "a"))
    have = world.change()
    until(lambda: have in get(port).headers["etag"])
    before = decode_bundle(get(port).body)
    wanted = world.change()
    until(lambda: wanted in get(port).headers["etag"])

    answered = get(port, f"{SNAPSHOT}?have={have}")
    delta = decode_bundle(answered.body).delta
    after = apply_delta(before.snapshot, delta)
    assert hashlib.sha256(after).hexdigest() in answered.headers["etag"]
    assert decode_bundle(get(port, f"{SNAPSHOT}?have={'0' * 64}").body).snapshot == after
    assert decode_bundle(get(port, f"{SNAPSHOT}?have=nonsense").body).snapshot == after


def test_a_segment_is_immutable(port):
    (facts,) = json.loads(decode_bundle(get(port).body).snapshot)["holdfast"]["segments"].values()
    target = f"/production/shop/segments/{facts['digest']}"
    answered = get(port, target)

    assert hashlib.sha256(answered.body).hexdigest() == facts["digest"]
    assert "tenant-77" in SegmentTable(answered.body)
    assert answered.headers["cache-control"] == f"private, max-age={YEAR_S}, immutable"
    assert get(port, target, **{"if-none-match": answered.headers["etag"]}).status == 304
    assert get(port, "/production/shop/segments/" + "0" * 64).status == 404
    assert get(port, "/production/shop/segments/x").status == 404


def test_the_catalogue_holds_what_the_caller_may_read(port):
    answered = get(port, "/v1/catalogue")
    assert [each["service"] for each in answered.json()["subjects"]] == ["shop"]
    assert answered.headers["cache-control"] == "no-store"

    followed = call(port, "GET", "/v1/catalogue", headers=FOLLOW).json()["subjects"]
    assert [each["service"] for each in followed] == ["_access", "shop"]
    assert set(followed[1]) == {"environment", "service", "revision", "digest"}


def test_only_followers_read_the_tokens(port):
    assert get(port, "/production/_access/snapshot").status == 403
    assert call(port, "GET", "/production/_access/snapshot").status == 401
    answered = call(port, "GET", "/production/_access/snapshot", headers=FOLLOW)
    assert answered.status == 200
    assert FOLLOW_TEXT.encode() not in answered.body


def test_strangers_get_nothing_and_learn_nothing(port):
    for target in (SNAPSHOT, "/v1/catalogue", "/v1/stream", "/production/nothing/snapshot"):
        assert call(port, "GET", target).status == 401
        assert call(port, "GET", target, headers={"x-api-key": "hf_x_1"}).status == 401
    assert get(port, "/production/nothing/snapshot").status == 403
    nothing = call(port, "GET", "/production/nothing/snapshot", headers=FOLLOW)
    assert nothing.status == 404
    assert nothing.json()["error"]["code"] == "not-found"


def test_wrong_methods_and_unknown_routes(port):
    answered = call(port, "POST", SNAPSHOT, "x", READ)
    assert answered.status in (405, 413)
    assert call(port, "DELETE", SNAPSHOT, headers=READ).headers["allow"] == "GET, HEAD"
    for target in ("/", "/x", "/production/shop", "//snapshot", "/production//snapshot", "/v1/x"):
        assert get(port, target).status == 404


def test_the_stream_says_what_changed_to_who_may_know(port, world):
    with Raw(port) as reader, Raw(port) as follower:
        for client, headers in ((reader, READ), (follower, FOLLOW)):
            auth = headers["authorization"].encode()
            client.send(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: %b\r\n\r\n" % auth)
            client.read_until(b":\n\n")
        world.change()
        for client in (reader, follower):
            frame = client.read_until(b"}\n\n")
            assert b"event: change\n" in frame
            said = json.loads(frame.partition(b"data: ")[2])
            assert (said["environment"], said["service"]) == ("production", "shop")
            assert said["digest"] in get(port).headers["etag"]

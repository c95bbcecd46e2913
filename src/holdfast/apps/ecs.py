"""The ECS-shaped read: several services' settings, evaluated for one tenant, user and ring.

    GET /config/v1/{client}/{version}?environment=&audienceGroup=&id=&tenantId=&agents=a,b

answers one object per agent (a service), with the value of each setting that has one, and

    Headers     ETag, Expires, CountryCode, StatusCode
    ConfigIDs   per agent, a comma-separated list: which answer of which setting this was, for
                clients to stamp their telemetry with

A config id is `P-D-<key>-<revision>` when the setting's default answered, and
`P-R-<key>-<revision>-<variant>` when targeting chose (the variant percent-encoded). `<revision>`
is the journal revision that last touched the setting, so an id names one answer for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec
from mmh3 import mmh3_x64_128_digest

from holdfast.apps import http
from holdfast.apps.edge.fragments import NOTHING, Part
from holdfast.apps.edge.table import Active
from holdfast.apps.http import Request, Response
from holdfast.core import limits
from holdfast.core.errors import CallerError
from holdfast.core.model import TARGETING_KEY
from holdfast.core.targeting.work import Metered, TooMuchWork

AGENTS_MAX = 64
"""Services in one read."""
PARAMETERS_MAX = 64
"""Parameters of one read."""
RENAMED = {"audienceGroup": "ring", "tenantId": "tenant", "id": "user"}
"""ECS's parameters by our attributes; any other parameter is an attribute of its own name."""
UNKNOWN_AGENTS = b"holdfast-unknown-agents"


class Question(msgspec.Struct, frozen=True):
    """What a caller asks: for which services, in which environment, in which context."""

    environment: str
    agents: tuple[str, ...]
    context: dict[str, Any]
    country: str


def read_question(client: str, version: str, query: bytes) -> Question:
    """Read the query. Raises `CallerError` for what is missing or too much."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), max_num_fields=PARAMETERS_MAX, strict_parsing=bool(query)
        )
    except ValueError as error:
        raise CallerError(f"the query can't be read: {error}") from None
    given = dict(pairs)
    environment = given.pop("environment", "")
    if not environment:
        raise CallerError("say which environment: ?environment=production")
    agents = tuple(dict.fromkeys(filter(None, given.pop("agents", "").split(","))))
    if not agents or len(agents) > AGENTS_MAX:
        raise CallerError(f"say which services, 1 to {AGENTS_MAX}: &agents=calling,chat")
    return Question(environment, agents, _context(client, version, given), given.get("country", ""))


def _context(client: str, version: str, given: Mapping[str, str]) -> dict[str, Any]:
    context: dict[str, Any] = {RENAMED.get(name, name): value for name, value in given.items()}
    if "id" in given:
        context.setdefault(TARGETING_KEY, given["id"])
    return {**context, "client": client, "version": version}


def answer(
    question: Question, agents: Sequence[tuple[str, Active | None]], request: Request, now_s: float
) -> Response:
    """The answer of the agents that there are; those that there are not get an empty object.

    The ETag is of values and ids, not of `Headers`: time passing changes nothing. 400 for a context
    in which all services together take more work than a request may.
    """
    context = Metered(question.context, limits.REQUEST_STEPS_MAX)
    try:
        parts = {agent: _part(active, context) for agent, active in agents}
    except TooMuchWork:
        return http.error_response(CallerError("the settings do too much work on this context"))
    etag = _etag(parts)
    interval_s = min(
        (a.snapshot.holdfast.pacing.poll_interval_s for _, a in agents if a), default=0
    )
    expires = formatdate(now_s + interval_s, usegmt=True)
    headers = [
        (b"etag", etag),
        (b"expires", expires.encode()),
        (b"cache-control", b"private, max-age=%d" % interval_s),
        (b"vary", b"authorization, x-api-key"),
    ]
    unknown = [agent for agent, active in agents if active is None]
    if unknown:
        headers.append((UNKNOWN_AGENTS, quote(",".join(unknown), safe=",").encode()))
    stale = max((a for _, a in agents if a), key=lambda a: a.stale_age_s or 0, default=None)
    if stale is not None and stale.stale_age_s is not None:
        headers.append(stale.stale_header())
    if http.etag_matches(request.header(b"if-none-match"), etag):
        return Response(304, headers)
    facts = {
        "ETag": etag.decode(),
        "Expires": expires,
        "CountryCode": question.country,
        "StatusCode": "200",
    }
    values = {agent: msgspec.Raw(b"{%b}" % each.values) for agent, each in parts.items()}
    ids = {agent: each.ids.decode() for agent, each in parts.items()}
    return http.json_response({**values, "Headers": facts, "ConfigIDs": ids}, headers=headers)


def _etag(parts: Mapping[str, Part]) -> bytes:
    """As that of OFREP's bulk answers, and for the same reasons (`holdfast.apps.ofrep.bulk`)."""
    told = [b"%b\0%b\0%b" % (agent.encode(), *each) for agent, each in sorted(parts.items())]
    return b'"%b"' % mmh3_x64_128_digest(b"\0".join(told)).hex().encode()


def _part(active: Active | None, context: Mapping[str, Any]) -> Part:
    """Values by key, and the ids of the answers; what has no value is left out of both."""
    if active is None:
        return NOTHING
    active.sampler.offer(context)
    return active.bulk.parts.whole(context)

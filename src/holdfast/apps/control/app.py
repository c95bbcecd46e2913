"""The ASGI application of a control plane: data plane first, then the API, traffic around both.

The API's framework takes most of a start. So snapshots are handed out as soon as they are there,
and the API is made meanwhile, on a thread; a call that comes too soon waits for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Final, cast

from holdfast.apps import http
from holdfast.apps.asgi import App, Face, Receive, Scope, Send
from holdfast.apps.control.abreast import Abreast
from holdfast.apps.control.held import AskingLeader
from holdfast.apps.control.plane import Control
from holdfast.apps.control.relaying import AtLeader
from holdfast.apps.control.traffic import Traffic
from holdfast.apps.http import Request, Response
from holdfast.apps.lean import starting
from holdfast.apps.observe import logger
from holdfast.core import limits
from holdfast.core.errors import Unavailable

if TYPE_CHECKING:
    from litestar import Litestar

_making: Final = threading.Lock()
"""The framework imports parts of itself while it makes an application; two at once would each find
the other's halves."""
_log = logger("holdfast.control")


def create_app(control: Control) -> App:
    """The whole face of one control plane; it starts and ends `control` with its lifespan."""
    leader = control.leader
    asking = AskingLeader(_Behind(control), leader, control.held, control.state, time.monotonic)
    head, alone = lambda: control.state().head.revision, control.relaying.count_alone
    behind = AtLeader(asking, leader, head, alone)
    face = Face(control.handle, limits.DOCUMENT_BYTES_MAX, otherwise=behind)
    abreast = Abreast(
        face,
        door=control.door,
        head=lambda: control.state().head.revision,
        catch_up=lambda: control.read(control.view.catch_up),
        refused=control.metrics.refused,
    )
    return Traffic(abreast, control.door, control.metrics)


class _Behind:
    """What is behind the data plane: the lifespan, and the API once it is made."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._api: App = Face(_refuse, limits.DOCUMENT_BYTES_MAX)
        self._made = asyncio.Event()
        self._ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        await self._made.wait()
        return await self._api(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan of ASGI: start, say so, wait for the end, end, say so."""
        await receive()
        async with self._control.running():
            api = asyncio.create_task(self._keep_api())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._ended.set()
            await api
        await send({"type": "lifespan.shutdown.complete"})

    async def _keep_api(self) -> None:
        """The API's own life, in one task from beginning to end, as its framework wants it."""
        try:
            api = await asyncio.to_thread(_create_api, self._control)
            async with api.lifespan():
                self._api = cast("App", api)
                self._made.set()
                await self._ended.wait()
        except Exception:  # noqa: BLE001  whatever it is: the data plane goes on
            _log.exception("the API failed; snapshots are handed out all the same")
        finally:
            self._made.set()


def _refuse(_request: Request) -> Response:
    failed = Unavailable("the API could not be made; the log of the start says why")
    return http.error_response(failed)


def _create_api(control: Control) -> Litestar:
    with _making, starting():
        from holdfast.apps.control.api import create_api

        return create_api(control)

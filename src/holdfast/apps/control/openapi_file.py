"""Write the OpenAPI document to a file: `python -m holdfast.apps.control.openapi_file [PATH]`."""

from __future__ import annotations

import sys
from pathlib import Path

from litestar import Litestar
from litestar.di import Provide

from holdfast.apps.control.api import ROUTES, attempt_of, document_bytes
from holdfast.apps.control.body import StrictBody
from holdfast.apps.control.openapi import config

PATH = Path("docs/reference/openapi.json")


def document() -> bytes:
    """The document of the routes alone: no control plane is needed for it."""
    api = Litestar(
        [*ROUTES],
        dependencies={
            "control": Provide(lambda: None, sync_to_thread=False),
            "caller": Provide(lambda: None, sync_to_thread=False),
            "attempt": Provide(attempt_of),
        },
        dto=StrictBody,
        return_dto=None,
        openapi_config=config(),
    )
    return document_bytes(api)


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
    path.write_bytes(document())

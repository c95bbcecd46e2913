"""Signed bundles of 10,000 settings, made beforehand: a process of its own has what makes them.

python bundles.py FOLDER COUNT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent))

from peers.flagd_format import flag_set
from workloads import mixed

from holdfast.adapters.memory import MemoryBlobs, MemoryJournal
from holdfast.adapters.signing import Keys
from holdfast.core.access import Grant
from holdfast.core.delta import make_delta
from holdfast.core.model import (
    Change,
    Environment,
    PutEnvironment,
    PutService,
    PutSetting,
    Scope,
    Service,
    Setting,
    Subject,
    Targeting,
)
from holdfast.core.validate import validate
from holdfast.engine.publish import Publisher
from holdfast.engine.shelf import Shelf
from holdfast.engine.views import View

SETTINGS: Final = 10_000
SUBJECT: Final = Subject("production", "shop")
SYSTEM: Final = Grant("bench", "bench", (Scope(verbs=("admin",)),))


def put(key: str, flag: dict[str, Any], revision: int) -> PutSetting:
    """The setting as its flag definition has it; `revision` makes another one of it."""
    target = Targeting(default="default", logic=flag.get("targeting"))
    kind = "boolean" if isinstance(flag["variants"]["default"], bool) else "object"
    setting = Setting(kind, flag["variants"], {"production": target}, metadata={"n": revision})
    return PutSetting(SUBJECT.service, key, setting)


def make_bundles(folder: Path, count: int) -> None:
    """`count` bundles, `0.json` and so on, in each of which every setting is another one."""
    view, blobs = View(MemoryJournal(), time.time), MemoryBlobs()
    publisher = Publisher(
        view=view,
        journal=view._journal,  # noqa: SLF001 -- made on the line above
        blobs=blobs,
        clock=time.time,
        validate=validate,
    )
    keys = Keys.init(folder / "keys", development=True)
    first = [*keys.missing_from(()), PutEnvironment("production", Environment())]
    first.append(PutService(SUBJECT.service, Service()))
    publisher.commit(Change(tuple(first)), "bench", SYSTEM)
    shelf = Shelf(view, blobs, keys.sign, make_delta)
    flags = flag_set(mixed(SETTINGS))["flags"]
    for number in range(count):
        edits = tuple(put(key, flag, number) for key, flag in flags.items())
        publisher.commit(Change(edits), "bench", SYSTEM)
        published = shelf.newest(SUBJECT)
        assert published is not None
        (folder / f"{number}.json").write_bytes(published.bundle)
        (folder / f"{number}.etag").write_text(f'"{published.digest}"')


if __name__ == "__main__":
    make_bundles(Path(sys.argv[1]), int(sys.argv[2]))

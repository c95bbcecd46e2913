"""Does a defect change an answer? Its build is run offline, beside the build that is believed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.core.model import JSON
from holdfast.core.wire import canonical
from holdfast.gameday.naive import Ask
from holdfast.gameday.patches import COMPONENTS, Component
from holdfast.gameday.processes import UNPROTECTED

PROOF_S: Final = 30.0
"""One offline run; far above what it takes."""


class Proof(msgspec.Struct, frozen=True):
    """What a build answers otherwise than the one that is believed.

    `changed` counts answers that have another value, `lost` those that became an error, `example`
    describes one; `broken` says why the build gave no answers at all.
    """

    asked: int = 0
    changed: int = 0
    lost: int = 0
    example: str = ""
    broken: str = ""


class Prover:
    """Compares builds with the running one, on a copy of a control plane's data."""

    def __init__(self, directory: Path) -> None:
        """`directory` has that copy in `data/`. Asks the running build at once."""
        self._directory = directory
        self.asks = _asks()
        (directory / "asks.json").write_bytes(msgspec.json.encode(self.asks))
        self._right: dict[Component, dict[str, list[JSON]]] = {}
        for component in COMPONENTS:
            found = _run(directory, component, None)
            if isinstance(found, str):
                raise Unavailable(f"the build under test does not answer: {found}")
            self._right[component] = found
            if component == "control":
                (directory / "handed.new").replace(directory / "handed.json")

    @property
    def right(self) -> list[JSON]:
        """The right values, in the order of `asks`."""
        return [answer[0] for answer in self._right["control"]["snapshots"]]

    def prove(self, component: Component, tree: Path) -> Proof:
        """Run the build in `tree` and compare."""
        found = _run(self._directory, component, tree)
        if isinstance(found, str):
            return Proof(broken=found)
        changed, lost, example, asked = 0, 0, "", 0
        for way, right in self._right[component].items():
            for ask, one, other in zip(self.asks, right, found.get(way, ()), strict=True):
                asked += 1
                if _same(one, other):
                    continue
                changed += 1
                lost += other[2] is not None and one[2] is None
                example = example or (
                    f"{ask.service}/{ask.key} in {_short(ask.context)} ({way}): "
                    f"{_short(other[2] or other[0])} instead of {_short(one[0])}"
                )
        return Proof(asked, changed, lost, example)


def _asks() -> list[Ask]:
    import yaml  # with the server's extra, which the rest of a drill needs as well

    folder = files("holdfast.gameday") / "corpus"
    contexts = msgspec.json.decode((folder / "contexts.json").read_bytes())
    keys = {
        name: set(yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8"))["settings"])
        for name in ("shared", "shop")
    }
    keys["shop"] |= keys["shared"]
    return [
        Ask(service, key, context)
        for service in sorted(keys)
        for key in sorted(keys[service])
        for context in contexts
    ]


def _same(one: JSON, other: JSON) -> bool:
    """Values and codes alike; true is not 1, and 20 is 20.0. Names of variants may differ."""
    kept = (0, 2, 3)
    left, right = ([each[at] for at in kept if at < len(each)] for each in (one, other))
    return canonical(left) == canonical(right)


def _run(directory: Path, component: str, tree: Path | None) -> dict[str, list[JSON]] | str:
    """The answers of a build, or why there are none."""
    told = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
    told |= {UNPROTECTED: "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if tree is not None:
        told["PYTHONPATH"] = str(tree)
    command = (sys.executable, "-m", "holdfast.gameday.proof", str(directory), component)
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603  our own command
            command, capture_output=True, check=False, timeout=PROOF_S, env=told
        )
        if done.returncode == 0:
            found: dict[str, list[JSON]] = msgspec.json.decode(done.stdout)
            return found
        return done.stderr.decode(errors="replace").strip()[-300:] or f"code {done.returncode}"
    return f"no answer in {PROOF_S:.0f} s"


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else f"{text[:117]}..."

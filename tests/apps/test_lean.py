"""A start with little: hidden packages come back, and nothing is collected while it lasts."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.apps.lean import starting, without

OF_CHANGES = ("cel_expr_python", "google.protobuf", "jsonschema_rs", "holdfast.core.authoring")
"""What only a change needs."""


def test_a_hidden_package_is_missing_inside_and_there_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optional_console.py").write_text("FOUND = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with without("optional_console"), pytest.raises(ImportError):
        importlib.import_module("optional_console")
    assert importlib.import_module("optional_console").FOUND
    with without("optional_console"):
        assert importlib.import_module("optional_console").FOUND


def test_a_start_is_not_collected() -> None:
    with starting():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.unfreeze()


@pytest.mark.parametrize(
    ("server", "spared"),
    [
        ("holdfast.apps.control.server", ("rich", "litestar", "yaml", *OF_CHANGES)),
        ("holdfast.apps.edge.process", ("rich", "litestar", "yaml", *OF_CHANGES)),
    ],
)
def test_a_server_starts_without_what_it_may_never_use(
    server: str, spared: tuple[str, ...]
) -> None:
    code = f"import sys, {server}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {*spared} & {*done.stdout.split()}

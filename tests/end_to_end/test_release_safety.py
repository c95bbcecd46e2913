"""Another build, a rewritten store, a careless installation: met with real processes and files."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from tests.end_to_end.processes import DEMO_SHOP, ROOT, Dev, call, eventually

from holdfast.core.history import decode_entry, encode_entry

SHOP = ("--import", str(DEMO_SHOP), "--service", "demo-shop")
Start = Callable[..., Dev]


def other_build(tmp_path: Path) -> dict[str, str]:
    """The environment in which Python runs a copy of the source with a defect in its builder."""
    copied = tmp_path / "other-build"
    shutil.copytree(ROOT / "src", copied, ignore=shutil.ignore_patterns("__pycache__"))
    snapshot = copied / "holdfast" / "core" / "snapshot.py"
    text = snapshot.read_text()
    defect = "    snapshot = _defect(snapshot)\n    body = canonical(snapshot)\n"
    assert "    body = canonical(snapshot)\n" in text
    snapshot.write_text(
        text.replace("    body = canonical(snapshot)\n", defect)
        + "\n\ndef _defect(snapshot: Any) -> Any:\n"
        "    flags = dict(snapshot.flags)\n"
        "    for key in ('adFailure',):\n"
        "        if key in flags:\n"
        '            swapped = bytes(flags[key]).replace(b\'"defaultVariant":"off"\', '
        'b\'"defaultVariant":"on"\')\n'
        "            flags[key] = msgspec.Raw(swapped)\n"
        "    return msgspec.structs.replace(snapshot, flags=flags)\n"
    )
    return {**os.environ, "PYTHONPATH": str(copied), "NO_COLOR": "1"}


def holdfast(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast.apps.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment
    )


def test_another_build_is_refused_before_it_is_deployed_and_when_it_is(
    start: Start, tmp_path: Path
) -> None:
    dev = start(*SHOP)
    environment = other_build(tmp_path)
    assert dev.holdfast("verify", str(dev.data_dir)).returncode == 0
    verified = holdfast(environment, "verify", str(dev.data_dir))
    assert verified.returncode == 1
    assert "production/demo-shop" in verified.stderr
    assert "setting adFailure" in verified.stderr

    token = dev.token
    dev.stop()
    port = str(int(dev.control.rpartition(":")[2]))
    command = [sys.executable, "-m", "holdfast.apps.cli", "control"]
    node = subprocess.Popen(
        [*command, "--data", str(dev.data_dir), "--port", port],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = eventually(lambda: departure(dev.control), "a node that is not ready, and why")
        assert "setting adFailure" in told
        bundle, _, _ = call("GET", f"{dev.control}/production/demo-shop/snapshot", token=token)
        assert bundle == 503
        before = call("GET", f"{dev.control}/v1/head", token=token)[1]
        refused = call("PUT", f"{dev.control}/v1/environments/new", {}, token)
        assert refused[0] == 503
        assert call("GET", f"{dev.control}/v1/head", token=token)[1] == before
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(30)


def departure(server: str) -> str:
    try:
        status, body, _ = call("GET", f"{server}/readyz")
    except OSError:
        return ""
    code = body["error"]["code"] if status == 503 and isinstance(body, dict) else ""
    return str(body["error"]["message"]) if code == "not-reproducible" else ""


def rewrite_beneath(data_dir: Path, revision: int) -> None:
    """Another author from `revision` on, under hashes that fit, while a node runs on the store."""
    with closing(sqlite3.connect(data_dir / "journal.db", timeout=10)) as db:
        previous = ""
        for number, was, old in db.execute("SELECT * FROM entries ORDER BY revision").fetchall():
            digest = was
            if number >= revision:
                entry = decode_entry(old, was.hex())
                before = previous or entry.previous
                body = encode_entry(msgspec.structs.replace(entry, actor="nobody", previous=before))
                digest = hashlib.sha256(body).digest()
                where = (digest, body, number)
                db.execute("UPDATE entries SET hash = ?, body = ? WHERE revision = ?", where)
            previous = digest.hex()
        db.execute("UPDATE head SET hash = ?", (digest,))
        db.commit()


def test_a_store_that_is_rewritten_beneath_a_running_node_is_found(start: Start) -> None:
    dev = start(*SHOP)
    eventually(lambda: dev.evaluate("demo-shop", "adFailure")[0] in (200, 401), "the edge")
    assert audit(dev) == []
    assert dev.holdfast("audit", "verify", str(dev.data_dir)).returncode == 0
    rewrite_beneath(dev.data_dir, 3)
    found = eventually(lambda: audit(dev), "the finding")
    assert {one["code"] for one in found} == {"rewritten"}
    status = dev.holdfast("status")
    assert status.returncode == 1
    assert "the journal was rewritten" in status.stderr
    edge = ("--cache", str(dev.data_dir / "edge"))
    audited = dev.holdfast("audit", "verify", str(dev.data_dir), *edge, "--output", "json")
    assert audited.returncode == 1
    findings = msgspec.json.decode(audited.stdout)["findings"]
    assert {"rewritten"} <= {one["code"] for one in findings}
    assert min(one["revision"] for one in findings) >= 3
    metrics = call("GET", f"{dev.control}/metrics")[1].decode()
    assert "holdfast_journal_rewritten 0.0" not in metrics


def audit(dev: Dev) -> list[Any]:
    found: list[Any] = dev.ask("GET", "/v1/audit")[1]["findings"]
    return found


def test_an_installation_for_trying_out_is_told_so(start: Start, tmp_path: Path) -> None:
    dev = start("--open", *SHOP)
    page = tmp_path / "report.html"
    local = ("--data", str(dev.data_dir), "--html", str(page))
    assessed = dev.holdfast("assess", *local, "--output", "json")
    assert assessed.returncode == 1
    made = msgspec.json.decode(assessed.stdout)
    failed = {one["id"] for one in made["results"] if one["status"] == "failed"}
    assert failed >= {"development-keys", "approvals", "rollout", "root-key-on-server"}
    assert failed >= {"open-reads", "token-admin-expiry"}
    assert made["unknown"] == 0
    assert "development-keys" in page.read_text()
    assert dev.holdfast("assess", "--fail-on", "never").returncode == 0
    production = dev.holdfast("policy", "set", "production", "--standard")
    assert production.returncode == 0, production.stderr
    again = msgspec.json.decode(dev.holdfast("assess", "--output", "json").stdout)
    held = {one["id"] for one in again["results"] if one["status"] == "passed"}
    assert held >= {"approvals", "rollout", "fast-rollout"}
    unknown = {one["id"] for one in again["results"] if one["status"] == "unknown"}
    assert unknown == {"root-key-on-server", "data-dir-open", "backup", "head-witness"}

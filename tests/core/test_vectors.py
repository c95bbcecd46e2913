"""The published vectors: format 1 makes these bytes, and the published schema describes them.

A failure here means that published bytes changed: that is a new format, not a new vector.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from tests.vectors import make

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.signing import Keys
from holdfast.core.bundle import decode_bundle
from holdfast.core.delta import apply_delta
from holdfast.core.history import verify_link
from holdfast.core.model import GENESIS, Entry, Head
from holdfast.core.roots import encode_root_set, extend
from holdfast.core.snapshot import STATEMENT_TYPE, decode, decode_statement
from holdfast.core.wire import canonical, digest, signers

NAMES = sorted(make.CHANGES)
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/reference/snapshot.schema.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make.fixed_keys(tmp_path_factory.mktemp("vectors") / "keys")


def entries(name: str) -> list[Entry]:
    lines = (make.FOLDER / name / "journal.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Entry) for line in lines]


def read(name: str, file: str) -> bytes:
    return (make.FOLDER / name / file).read_bytes()


def validator(definition: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/$defs/{definition}", "$defs": SCHEMA["$defs"]}
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_journal_makes_these_very_files(name: str, keys: Keys) -> None:
    expected = {path.name: path.read_bytes() for path in (make.FOLDER / name).iterdir()}
    del expected["journal.jsonl"]
    assert make.files(name, entries(name), keys) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_journal_is_a_chain_and_what_its_changes_make(name: str) -> None:
    head = GENESIS
    for entry in entries(name):
        verify_link(head, entry)
        head = Head(entry.revision, entry.hash)
    assert list(make.journal(make.CHANGES[name])) == entries(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_snapshot_is_canonical_signed_and_follows_from_the_one_before(
    name: str, keys: Keys
) -> None:
    newest: dict[Any, tuple[int, str]] = {}
    for line in json.loads(read(name, "index.json")):
        body = read(name, line["file"])
        snapshot = decode(body)
        assert canonical(json.loads(body)) == body
        assert digest(body) == line["digest"]
        before = snapshot.holdfast.previous
        assert newest.get(snapshot.subject) == (before and (before.revision, before.digest))
        newest[snapshot.subject] = (snapshot.holdfast.revision, line["digest"])
        sealed = msgspec.convert(line["signature"], type(keys.chain[0]))
        trusted = keys.root.keys_for(snapshot.subject.environment)
        assert signers(sealed, STATEMENT_TYPE, trusted, verify)
        assert decode_statement(sealed.body()).digest == line["digest"]


@pytest.mark.parametrize("name", NAMES)
def test_the_bundle_brings_all_that_is_needed_to_believe_it(name: str, keys: Keys) -> None:
    bundle = decode_bundle(read(name, "bundle.json"))
    root = extend(None, bundle.roots, verify)
    assert root == keys.root
    assert root.development
    environment = make.LAST[name].environment
    assert signers(bundle.signature, STATEMENT_TYPE, root.keys_for(environment), verify)
    assert decode_statement(bundle.signature.body()).digest == digest(bundle.snapshot)
    assert decode(bundle.snapshot).subject == make.LAST[name]


def test_the_delta_leads_from_the_snapshot_before_to_the_one_in_the_bundle() -> None:
    delta = decode_bundle(read("plain", "delta.json")).delta
    whole = decode_bundle(read("plain", "bundle.json")).snapshot
    assert apply_delta(read("plain", "5.production.teams-calling.json"), delta) == whole


def test_the_published_schema_describes_the_vectors(keys: Keys) -> None:
    snapshots, bundles = jsonschema_rs.Draft202012Validator(SCHEMA), validator("bundle")
    for path in sorted(make.FOLDER.glob("*/*.json")):
        document = json.loads(path.read_bytes())
        match path.name:
            case "index.json":
                for line in document:
                    validator("envelope").validate(line["signature"])
            case "bundle.json" | "delta.json":
                bundles.validate(document)
                statement = decode_bundle(path.read_bytes()).signature.body()
                validator("statement").validate(json.loads(statement))
            case _:
                snapshots.validate(document)
    validator("root").validate(json.loads(encode_root_set(keys.root)))


@pytest.mark.parametrize(
    "place",
    [(), ("holdfast",), ("holdfast", "semantics"), ("holdfast", "pacing"), ("metadata",)],
)
def test_the_published_schema_is_as_strict_as_the_reader(place: tuple[str, ...]) -> None:
    validate = jsonschema_rs.Draft202012Validator(SCHEMA)
    good = json.loads(read("plain", "6.production.teams-calling.json"))
    target = good
    for step in place:
        target = target[step]
    for change in ("extra", *target):
        bad = copy.deepcopy(good)
        inside = bad
        for step in place:
            inside = inside[step]
        if change == "extra":
            inside["extra"] = 1
        else:
            del inside[change]
        assert not validate.is_valid(bad), (place, change)

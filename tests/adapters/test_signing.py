"""Keys on disk: made, read back, rotated, refused when damaged or open to others."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from securesystemslib.dsse import Envelope as OracleEnvelope
from securesystemslib.signer import SSlibKey

from holdfast.adapters.ed25519 import verify
from holdfast.adapters.signing import CHAIN, KEYS, NEXT_ROOT_KEY, ROOT_KEY, Keys
from holdfast.core.errors import CallerError, Damaged, HoldfastError, Unavailable, Untrusted
from holdfast.core.roots import encode_root_set, extend
from holdfast.core.wire import decode_envelope, signers

TYPE = "application/vnd.holdfast.snapshot.v1+json"
PAYLOAD = b'{"environment":"production"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys-of-holdfast"


@pytest.fixture
def keys(folder: Path) -> Keys:
    return Keys.init(folder)


def signed_by(body: bytes, keys: Keys, environment: str = "production") -> set[str]:
    return signers(decode_envelope(body), TYPE, keys.root.keys_for(environment), verify)


def private_files(folder: Path) -> list[Path]:
    return sorted((folder / KEYS).iterdir())


def test_made_keys_sign_what_their_root_verifies(keys: Keys) -> None:
    assert keys.root.version == 1
    assert not keys.root.development
    assert signed_by(keys.signer("production")(TYPE, PAYLOAD), keys)
    assert signed_by(keys.sign(TYPE, PAYLOAD), keys)
    assert extend(None, keys.chain, verify) == keys.root


def test_a_signature_verifies_with_another_implementation(keys: Keys) -> None:
    envelope = msgspec.json.decode(keys.sign(TYPE, PAYLOAD))
    ((keyid, key),) = keys.root.keys.items()
    oracle = SSlibKey(keyid, "ed25519", "ed25519", {"public": key.public})
    assert OracleEnvelope.from_dict(envelope).verify([oracle], 1)


def test_what_is_read_back_is_what_was_made(keys: Keys, folder: Path) -> None:
    again = Keys.load(folder)
    assert again.root == keys.root
    assert again.sign(TYPE, PAYLOAD) == keys.sign(TYPE, PAYLOAD)


def test_development_keys_say_so_for_ever(folder: Path) -> None:
    keys = Keys.init(folder, development=True)
    assert keys.root.development
    assert keys.rotate().rotate_root().root.development


def test_private_files_are_for_their_owner_alone(keys: Keys, folder: Path) -> None:
    for path in (folder / ROOT_KEY, *private_files(folder)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in (folder, folder / KEYS):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not [path for path in folder.rglob("*") if path.name.endswith(".aside")]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_private_key_that_others_can_read_is_refused(keys: Keys, folder: Path, mode: int) -> None:
    private_files(folder)[0].chmod(mode)
    with pytest.raises(Untrusted) as refused:
        Keys.load(folder)
    assert refused.value.code == "key-permissions"
    private_files(folder)[0].chmod(0o600)
    (folder / ROOT_KEY).chmod(mode)
    with pytest.raises(Untrusted):
        Keys.load(folder).rotate()


def test_keys_are_never_made_over_others(keys: Keys, folder: Path) -> None:
    with pytest.raises(CallerError, match="holds keys already"):
        Keys.init(folder)
    assert Keys.load(folder).root == keys.root


def test_snapshots_are_signed_without_the_root_key(keys: Keys, folder: Path) -> None:
    away = folder.parent / "safe"
    (folder / ROOT_KEY).rename(away)
    alone = Keys.load(folder)
    assert signed_by(alone.sign(TYPE, PAYLOAD), keys)
    for rotation in (alone.rotate, alone.rotate_root):
        with pytest.raises(Unavailable, match="bring it back"):
            rotation()
    away.rename(folder / ROOT_KEY)
    assert alone.rotate().root.version == 2


def test_a_rotated_key_signs_and_what_was_signed_before_stays_good(
    keys: Keys, folder: Path
) -> None:
    before = keys.sign(TYPE, PAYLOAD)
    rotated = keys.rotate()
    after = rotated.sign(TYPE, PAYLOAD)
    assert extend(keys.root, rotated.chain, verify) == rotated.root
    assert signed_by(after, rotated) != signed_by(before, rotated)
    assert signed_by(before, rotated)
    assert not signed_by(after, keys)
    assert len(private_files(folder)) == 1


def test_a_revoked_key_is_good_for_nothing(keys: Keys) -> None:
    before = keys.sign(TYPE, PAYLOAD)
    assert not signed_by(before, keys.rotate(revoke=True))


def test_an_environment_gets_a_key_of_its_own(keys: Keys, folder: Path) -> None:
    rotated = keys.rotate(["production"])
    production = signed_by(rotated.sign(TYPE, PAYLOAD), rotated)
    staging = signed_by(rotated.sign(TYPE, b'{"environment":"staging"}'), rotated, "staging")
    assert production.isdisjoint(staging)
    assert not signed_by(rotated.sign(TYPE, PAYLOAD), rotated, "staging")
    assert len(private_files(folder)) == 2


def test_no_key_for_an_environment_is_said(folder: Path) -> None:
    keys = Keys.init(folder, environments=["production"])
    with pytest.raises(Unavailable, match="staging"):
        keys.signer("staging")
    with pytest.raises(ValueError, match="environment"):
        keys.sign(TYPE, b"{}")


def test_a_new_root_key_takes_over(keys: Keys, folder: Path) -> None:
    rotated = keys.rotate_root()
    assert rotated.root.roots.keys().isdisjoint(keys.root.roots)
    assert extend(keys.root, rotated.chain, verify) == rotated.root
    assert rotated.rotate().root.version == 3
    assert not (folder / NEXT_ROOT_KEY).exists()


def test_the_journal_is_brought_up_to_the_folder(keys: Keys, folder: Path) -> None:
    first = keys.missing_from(())
    assert [edit.version for edit in first] == [1]
    rotated = keys.rotate().rotate_root()
    journaled = [edit.envelope for edit in rotated.missing_from(())]
    assert [edit.version for edit in rotated.missing_from(journaled[:1])] == [2, 3]
    assert rotated.missing_from(journaled) == ()
    assert keys.missing_from(journaled) == ()
    other = Keys.init(folder.parent / "other")
    with pytest.raises(Untrusted) as refused:
        other.missing_from(journaled)
    assert refused.value.code == "root-forked"


class CutShort(Exception):
    """The process died here."""


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("rotation", ["rotate", "rotate_root"])
def test_a_rotation_that_is_cut_short_anywhere_loads_and_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int, rotation: str
) -> None:
    keys = Keys.init(folder)
    left = [steps]

    def dying(original):  # type: ignore[no-untyped-def]
        def step(*args, **kwargs):  # type: ignore[no-untyped-def]
            if left[0] == 0:
                raise CutShort
            left[0] -= 1
            return original(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        with suppress(CutShort):
            getattr(keys, rotation)()
    after = Keys.load(folder)
    assert after.root.version in (1, 2)
    assert extend(keys.root, after.chain, verify) == after.root
    assert signed_by(after.sign(TYPE, PAYLOAD), after)
    assert after.rotate().rotate_root().root.version == after.root.version + 2


def test_no_keys_is_said(folder: Path) -> None:
    with pytest.raises(Unavailable, match="make keys first") as refused:
        Keys.load(folder)
    assert f"holdfast keys init --data {folder.parent})" in str(refused.value)


@pytest.mark.parametrize("which", [CHAIN, "private"])
def test_damage_is_refused_wherever_it_is(keys: Keys, folder: Path, which: str) -> None:
    path = folder / CHAIN if which == CHAIN else private_files(folder)[0]
    body = path.read_bytes()
    for at in range(0, len(body), 7):
        for damaged in (body[:at], body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]):
            path.write_bytes(damaged)
            try:
                again = Keys.load(folder)
            except HoldfastError:
                continue
            assert again.root == keys.root
            assert again.sign(TYPE, PAYLOAD) == keys.sign(TYPE, PAYLOAD)


def test_swapped_and_foreign_keys_are_refused(keys: Keys, folder: Path) -> None:
    path = private_files(folder)[0]
    path.write_bytes((folder / ROOT_KEY).read_bytes())
    with pytest.raises(Damaged, match="another key"):
        Keys.load(folder)
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(Damaged, match="larger"):
        Keys.load(folder)


def test_malformed_signatures_and_keys_are_just_wrong() -> None:
    assert not verify(b"", b"", b"")
    assert not verify(b"x" * 32, b"y" * 64, b"z")
    assert not verify(b"\xff" * 32, b"y", b"z")


def test_the_pin_is_the_newest_document(keys: Keys) -> None:
    assert encode_root_set(keys.root) == keys.chain[-1].body()

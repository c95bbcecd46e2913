"""Ed25519 keys in a directory: making, keeping, rotating them, and signing with them.

    roots.json          the chain of root envelopes, public
    root.key            signs the next root document; may be kept elsewhere until then
    keys/<key id>.key   signs snapshots and freshness statements

Private keys are PKCS #8 in PEM, mode 0600. Files are written aside, synced and renamed. A rotation
writes the new private key, then the chain, then drops the old private key: whatever is cut short,
the directory loads as before or as after. The journal's chain follows the directory's: what is
missing there is committed as `PutRoot` edits (`missing_from`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.adapters.ed25519 import verify
from holdfast.core import limits, roots
from holdfast.core.errors import CallerError, Damaged, Unavailable, Untrusted
from holdfast.core.model import JSON, PutRoot
from holdfast.core.roots import ROOT_TYPE, RootSet
from holdfast.core.wire import (
    UNREADABLE,
    Envelope,
    canonical,
    encode_envelope,
    envelope,
    pae,
)
from holdfast.ports import Sign

CHAIN: Final = "roots.json"
ROOT_KEY: Final = "root.key"
NEXT_ROOT_KEY: Final = "root.next.key"
KEYS: Final = "keys"
_CHAIN_BYTES_MAX: Final = limits.ROOTS_MAX * limits.ENVELOPE_BYTES_MAX
_KEY_BYTES_MAX: Final = 4096


class _Named(msgspec.Struct):
    environment: str


_NAMED: Final = msgspec.json.Decoder(_Named)
_ENVELOPES: Final = msgspec.json.Decoder(tuple[Envelope, ...])


class Keys:
    """The keys of one directory. Immutable, thread-safe; a rotation returns new ones.

    `chain` holds the root envelopes, version 1 first, `root` the newest document.
    """

    def __init__(
        self, folder: Path, chain: Sequence[Envelope], private: dict[str, Ed25519PrivateKey]
    ) -> None:
        self.chain = tuple(chain)
        self.root: RootSet = roots.extend(None, self.chain, verify)
        self._folder = folder
        self._private = private

    @classmethod
    def init(
        cls,
        folder: Path,
        *,
        development: bool = False,
        environments: Sequence[str] = (roots.EVERY,),
        chance: Callable[[int], bytes] = os.urandom,
    ) -> Keys:
        """Make a root key and one key for `environments`, in a folder that has none.

        `chance` gives that many random bytes. Raises `CallerError` when there are keys already.
        """
        if (folder / CHAIN).exists():
            raise CallerError(f"{folder} holds keys already: rotate them, or choose another folder")
        root, key = _generate(chance), _generate(chance)
        document = roots.first(
            _public(root), {_public(key): tuple(environments)}, development=development
        )
        _make_folder(folder / KEYS)
        _write(folder / ROOT_KEY, _pem(root), 0o600)
        _write(_path(folder, key), _pem(key), 0o600)
        _write_chain(folder, [_seal(document, root)])
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Keys:
        """Read the keys; the root key may be absent.

        Raises `Unavailable` when there are none, `Damaged` for a file that is not what was written,
        `Untrusted` code `key-permissions` for a private key that others can read, and for a chain
        that doesn't hold the codes of `core.roots.extend`.
        """
        try:
            body = _read(folder / CHAIN, _CHAIN_BYTES_MAX)
        except Unavailable as absent:
            way_out = f"make keys first (holdfast keys init --data {folder.parent})"
            raise Unavailable(f"{absent}; {way_out}") from None
        try:
            chain = _ENVELOPES.decode(body)
        except UNREADABLE as error:
            raise Damaged(f"{folder / CHAIN} is damaged: {error}; restore it") from None
        paths = sorted((folder / KEYS).glob("*.key"))
        return cls(folder, chain, {path.stem: _load_private(path) for path in paths})

    def signer(self, environment: str) -> Sign:
        """Signs with the environment's newest key. Raises `Unavailable` when it isn't here."""
        for name in roots.current_keys(self.root, environment):
            if name in self._private:
                return _Signer(name, self._private[name])
        raise Unavailable(f"no private key in {self._folder} signs for {environment}")

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """Sign a statement with the key of the environment that it names (`ports.Sign`).

        Raises `ValueError` for a payload that names none, `Unavailable` as `signer`.
        """
        try:
            environment = _NAMED.decode(payload).environment
        except UNREADABLE as error:
            raise ValueError(f"what is signed here names its environment: {error}") from None
        return self.signer(environment)(payload_type, payload)

    def missing_from(self, journaled: Sequence[JSON]) -> tuple[PutRoot, ...]:
        """The edits that bring the journal's chain up to this one.

        Raises `Untrusted` code `root-forked` when the journal has another chain than the folder.
        """
        ours = [msgspec.json.decode(encode_envelope(sealed)) for sealed in self.chain]
        if list(journaled[: len(ours)]) != ours[: len(journaled)]:
            raise Untrusted("root-forked", f"the journal has other roots than {self._folder}")
        new = ours[len(journaled) :]
        return tuple(PutRoot(at, each) for at, each in enumerate(new, len(journaled) + 1))

    def rotate(
        self,
        environments: Sequence[str] = (roots.EVERY,),
        *,
        revoke: bool = False,
        chance: Callable[[int], bytes] = os.urandom,
    ) -> Keys:
        """A new key for `environments`, in place of the private ones for exactly these.

        The old public keys stay good for checking unless `revoke`. Needs the root key.
        """
        root, key = self._load_root(), _generate(chance)
        document = roots.with_key(self.root, _public(key), environments, revoke=revoke)
        _write(_path(self._folder, key), _pem(key), 0o600)
        _write_chain(self._folder, [*self.chain, _seal(document, root)])
        for name, old in self.root.keys.items():
            if old.environments == tuple(environments):
                (self._folder / KEYS / f"{name}.key").unlink(missing_ok=True)
        return self.load(self._folder)

    def rotate_root(self, *, chance: Callable[[int], bytes] = os.urandom) -> Keys:
        """A new root key; the old one signs it in and is overwritten. Needs the root key."""
        old, new = self._load_root(), _generate(chance)
        document = roots.with_root(self.root, _public(new))
        _write(self._folder / NEXT_ROOT_KEY, _pem(new), 0o600)
        _write_chain(self._folder, [*self.chain, _seal(document, old, new)])
        (self._folder / NEXT_ROOT_KEY).replace(self._folder / ROOT_KEY)
        _sync_folder(self._folder)
        return self.load(self._folder)

    def _load_root(self) -> Ed25519PrivateKey:
        """The root key that the newest document names; a rotation may have been cut short."""
        if len(self.chain) >= limits.ROOTS_MAX:
            raise CallerError(f"the chain has {len(self.chain)} versions, and can't have more")
        paths = (self._folder / ROOT_KEY, self._folder / NEXT_ROOT_KEY)
        for path in paths:
            if path.exists():
                key = _parse_private(path)
                if _keyid(key) in self.root.roots:
                    return key
        raise Unavailable(f"{paths[0]} is not here, or not the newest root key: bring it back")


class _Signer:
    """One private key as a `ports.Sign`."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._name = name
        self._key = key

    def __call__(self, payload_type: str, payload: bytes) -> bytes:
        signature = self._key.sign(pae(payload_type, payload))
        return encode_envelope(envelope(payload_type, payload, {self._name: signature}))


def _seal(document: RootSet, *by: Ed25519PrivateKey) -> Envelope:
    payload = roots.encode_root_set(document)
    message = pae(ROOT_TYPE, payload)
    return envelope(ROOT_TYPE, payload, {_keyid(key): key.sign(message) for key in by})


def _generate(chance: Callable[[int], bytes]) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(chance(32))


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _keyid(key: Ed25519PrivateKey) -> str:
    return roots.keyid(_public(key))


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _path(folder: Path, key: Ed25519PrivateKey) -> Path:
    return folder / KEYS / f"{_keyid(key)}.key"


def _load_private(path: Path) -> Ed25519PrivateKey:
    key = _parse_private(path)
    if _keyid(key) != path.stem:
        raise Damaged(f"{path} holds another key than its name says: restore it")
    return key


def _parse_private(path: Path) -> Ed25519PrivateKey:
    body = _read(path, _KEY_BYTES_MAX, private=True)
    try:
        key = serialization.load_pem_private_key(body, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Damaged(f"{path} is damaged: {error}; restore it") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Damaged(f"{path} holds no Ed25519 key: restore it")
    return key


def _read(path: Path, bytes_max: int, *, private: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if private and stat.S_IMODE(mode) & 0o077:
                raise Untrusted("key-permissions", f"others can read {path}: chmod 600 it")
            body = file.read(bytes_max + 1)
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from None
    if len(body) > bytes_max:
        raise Damaged(f"{path} is larger than {bytes_max} bytes")
    return body


def _write_chain(folder: Path, chain: Sequence[Envelope]) -> None:
    _write(folder / CHAIN, canonical(list(chain)), 0o644)


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (folder, folder.parent):
        each.chmod(0o700)


def _write(path: Path, body: bytes, mode: int) -> None:
    aside = path.with_name(f".{path.name}.aside")
    try:
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, to give the mode first
            file.write(body)
            file.flush()
            os.fsync(descriptor)
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise Unavailable(f"{path} can't be written: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

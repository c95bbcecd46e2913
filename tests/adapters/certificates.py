"""Certificates for servers on loopback: an authority of their own, valid for a day.

Certificates(directory)      writes ca.pem, server.pem, server-key.pem (PKCS #8, not encrypted)
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.apps.defaults import LOOPBACK

_VALID: Final = dt.timedelta(days=1)
_SKEW: Final = dt.timedelta(hours=1)


class Certificates:
    """An authority (`ca`) and a `certificate` with its `key`, for servers and clients alike."""

    def __init__(self, directory: Path) -> None:
        self.ca = directory / "ca.pem"
        self.certificate = directory / "server.pem"
        self.key = directory / "server-key.pem"
        authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = _name("holdfast drill authority")
        root = _begun(name, authority.public_key(), name).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
        )
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = (
            _begun(_name("localhost"), server.public_key(), name)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        )
        for path, one in ((self.ca, root), (self.certificate, leaf)):
            signed = one.sign(authority, hashes.SHA256())
            path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        self.key.touch(mode=0o600)
        self.key.write_bytes(
            server.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _begun(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )

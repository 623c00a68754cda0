"""Certificates for a lab pair, in the form the operator's Secret has."""

from __future__ import annotations

import datetime
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from twinhull_sidecar.tls import dns_name


class Authority:
    """A module's certificate authority."""

    def __init__(self, name: str = "lab") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, seconds: float = 86400.0
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
        )

    def issue(self, directory: Path, holder: str, uid: str, seconds: float = 86400.0) -> None:
        """Write ``<holder>.crt``, valid for so long (less than 0: it has ended), ``<holder>.key`` and ``ca.crt``."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = dns_name(holder, uid)
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, holder)]), key, seconds)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{holder}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (directory / f"{holder}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (directory / "ca.crt").write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))


def make_tls_dir(directory: Path, holders: list[str], uid: str) -> Authority:
    """A complete directory for all ``holders``, with a new shared key."""
    authority = Authority()
    for holder in holders:
        authority.issue(directory, holder, uid)
    (directory / "key").write_text(secrets.token_hex(32))
    return authority

"""A module's certificate authority and the certificates that it signs.

They are valid from a day in the past on: the clocks of two machines may differ. Keys are ECDSA P-256, which every
TLS library of the last decade has. When they are renewed: render_renewal.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinhull_sidecar.tls import dns_name

_CLOCK_SKEW = datetime.timedelta(days=1)
_COMMON_NAME_LIMIT = 64


@dataclass(frozen=True)
class Lifetimes:
    """How long certificates are valid. A third of it before its end, each is due to be renewed."""

    leaf: datetime.timedelta = datetime.timedelta(days=365)
    authority: datetime.timedelta = datetime.timedelta(days=3650)

    @property
    def overlap(self) -> datetime.timedelta:
        """How long a new authority is trusted before it signs."""
        return self.authority / 100

    @property
    def check_period(self) -> float:
        """Seconds between two looks for what is due."""
        return min(3600.0, self.leaf.total_seconds() / 12)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    private_key: bytes


def make_authority(uid: str, now: datetime.datetime, lifetimes: Lifetimes) -> KeyPair:
    """The certificate authority of the module with this uid."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own for each: two of them are trusted at the same time.
    name = _name(f"twinhull {uid} {now:%Y%m%dT%H%M%S}")
    certificate = (
        _builder(name, name, key.public_key(), now, now + lifetimes.authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate, key)


def issue(authority: KeyPair, holder: str, uid: str, now: datetime.datetime, lifetimes: Lifetimes) -> KeyPair:
    """A certificate, for server and client, of ``holder`` (a node's name or ``operator``), never valid for longer than
    the authority's own.

    Raises ValueError when the authority's certificate or key cannot be read.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.private_key, password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not an elliptic-curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lifetimes.leaf, issuer.not_valid_after_utc)
    alternative = x509.SubjectAlternativeName([x509.DNSName(dns_name(holder, uid))])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        _builder(_name(holder), issuer.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(alternative, critical=False)
        .add_extension(identifier, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _pem(certificate, key)


def made_at(certificate: x509.Certificate) -> datetime.datetime:
    """When it was made."""
    return certificate.not_valid_before_utc + _CLOCK_SKEW


def is_due(certificate: x509.Certificate, now: datetime.datetime, lifetime: datetime.timedelta) -> bool:
    """Whether the last third of its life has begun; of one that lives longer than is usual now, of a usual life."""
    whole = min(certificate.not_valid_after_utc - made_at(certificate), lifetime)
    return certificate.not_valid_after_utc - now < whole / 3


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this authority signed it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_COMMON_NAME_LIMIT])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), private)

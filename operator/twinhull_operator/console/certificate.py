"""The console's TLS: a certificate from a mounted Secret, read anew when it changes, or one made at the start."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

log = logging.getLogger(__name__)

_VALID = datetime.timedelta(days=365)
_CLOCK_SKEW = datetime.timedelta(days=1)


class GivenCertificate:
    """``tls.crt`` and ``tls.key`` of a Secret that is mounted in ``directory``. Kubelet replaces them there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded = b""
        self.context = _context()
        self.load()

    def load(self) -> bool:
        """Read the files if they changed. Raises OSError or ssl.SSLError; the context stays as it was then."""
        certificate, key = self._directory / "tls.crt", self._directory / "tls.key"
        found = hashlib.sha256(certificate.read_bytes() + key.read_bytes()).digest()
        if found == self._loaded:
            return False
        # Tried in a context of its own: half a change must not break the one that serves.
        _context().load_cert_chain(certificate, key)
        self.context.load_cert_chain(certificate, key)
        self._loaded = found
        return True


def own_context(names: Sequence[str], now: datetime.datetime) -> ssl.SSLContext:
    """A context with a certificate that nobody signed, for these names, until the operator starts anew."""
    certificate, key = make_certificate(names, now)
    context = _context()
    # The ssl module reads files only. The directory is in memory in the chart's pod, and gone at once.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tls.pem"
        path.touch(mode=0o600)
        path.write_bytes(key + certificate)
        context.load_cert_chain(path)
    fingerprint = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex(":").upper()
    log.info("the console's own certificate has the SHA-256 fingerprint %s", fingerprint)
    return context


def make_certificate(names: Sequence[str], now: datetime.datetime) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twinhull console")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([_general_name(text) for text in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context

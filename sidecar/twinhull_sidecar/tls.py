"""Certificates of a module: mutual TLS between its two sidecars and towards the operator.

Each holder's certificate carries one DNS name, ``<holder>.<module uid>.twinhull``, where the holder is a node
or ``operator``; it is signed by the module's own CA. A certificate of another module is therefore refused
twice: by the CA and by the name.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from pathlib import Path

from twinhull_sidecar.config import ConfigError

OPERATOR = "operator"
#: OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED and X509_V_FLAG_NO_CHECK_TIME.
_DATES = (9, 10)
_NO_CHECK_TIME = 0x200000
_KEY_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """What one holder proves itself with. ``key``: the module's secret, for heartbeats and the stream.

    ``trouble``: what is wrong with the certificate's dates, which hinders only those who want to connect.
    """

    name: str
    directory: Path
    ca: bytes
    certificate: bytes
    private_key: bytes
    key: bytes
    trouble: str = ""


def dns_name(holder: str, uid: str) -> str:
    """The DNS name in the certificate of ``holder`` of the module ``uid``."""
    return f"{holder}.{uid}.twinhull"


def load(directory: Path, holder: str, uid: str) -> Identity:
    """Read and check the files of one holder: ``ca.crt``, ``<holder>.crt``, ``<holder>.key`` and ``key``.

    Raises ConfigError when one is missing or when a peer with this CA would refuse the certificate
    (signature, name, private key). Wrong dates are told and are no error: heartbeats, replication and failover need
    the shared key only, and must not end because nobody renewed a certificate or a clock is wrong.
    """
    identity = Identity(
        name=dns_name(holder, uid),
        directory=directory,
        ca=_read(directory / "ca.crt"),
        certificate=_read(directory / f"{holder}.crt"),
        private_key=_read(directory / f"{holder}.key"),
        key=_shared_key(directory / "key"),
    )
    try:
        _verify(directory, holder, identity.name)
    except _DatesError as error:
        _verify(directory, holder, identity.name, dates=False)
        return replace(identity, trouble=f"{holder}.crt: {error}")
    return identity


class _DatesError(Exception):
    """The certificate, or that of its CA, is not valid at this time."""


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        mend = "mount the module's certificates Secret there"
        raise ConfigError(f"tls-dir {path.name}", f"cannot be read ({error.strerror})", mend) from None
    if not content.strip():
        raise ConfigError(f"tls-dir {path.name}", "is empty", "let the operator make the Secret again")
    return content


def _shared_key(path: Path) -> bytes:
    text = _read(path).strip()
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise ConfigError(
            "tls-dir key", "is not hexadecimal", "let the operator make the Secret again"
        ) from None
    if len(key) < _KEY_BYTES:
        mend = "let the operator make the Secret again"
        raise ConfigError("tls-dir key", f"has {len(key)} bytes, less than {_KEY_BYTES}", mend)
    return key


def _verify(directory: Path, holder: str, name: str, *, dates: bool = True) -> None:
    """Shake hands with ourselves in memory: checks chain, dates, name and private key as the peer will."""
    mend = "let the operator make the module's certificates Secret again"
    field = f"tls-dir {holder}.crt"
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(directory / f"{holder}.crt", directory / f"{holder}.key")
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cafile=str(directory / "ca.crt"))
        if not dates:
            client.verify_flags |= _NO_CHECK_TIME
    except ssl.SSLError as error:
        raise ConfigError(
            field, f"does not fit its key or is damaged ({error.reason or error})", mend
        ) from None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        waiting = False
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting = True
            except ssl.SSLCertVerificationError as error:
                if error.verify_code in _DATES:
                    raise _DatesError(error.verify_message) from None
                raise ConfigError(field, f"is refused for {name} ({error.verify_message})", mend) from None
            except ssl.SSLError as error:
                raise ConfigError(field, f"is refused ({error.reason or error})", mend) from None
        if not waiting:
            return
    raise ConfigError(field, "does not complete a TLS handshake", mend)

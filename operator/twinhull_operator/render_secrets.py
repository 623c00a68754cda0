"""The two Secrets of a module.

The *operator* Secret is made first and holds all that the other can be made from: the authority, the shared
key and the operator's own certificate. The *tls* Secret is what the module's pods mount: the certificates of the
authorities that are trusted, both nodes' certificates and the shared key, but no key that could sign another
certificate. See render_renewal for what changes in them later.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import secrets
from collections.abc import Mapping

from twinhull_operator.certificates import KeyPair, Lifetimes, issue, make_authority
from twinhull_operator.module import Module, Object
from twinhull_operator.render_metadata import render_metadata
from twinhull_sidecar.tls import OPERATOR

OPERATOR_SUFFIX = "operator"
TLS_SUFFIX = "tls"
DEFAULT_LIFETIMES = Lifetimes()
_SHARED_KEY_BYTES = 32
_OPERATOR_KEYS = ("ca.crt", "ca.key", "operator.crt", "operator.key", "key")


class DamagedSecretError(Exception):
    """A Secret of the module lacks a key or holds something unreadable; the message names it and the mend."""


def render_operator_secret(
    module: Module, now: datetime.datetime, lifetimes: Lifetimes = DEFAULT_LIFETIMES
) -> Object:
    """A new operator Secret with a new authority. To be created, never to replace one that exists."""
    authority = make_authority(module.uid, now, lifetimes)
    own = issue(authority, OPERATOR, module.uid, now, lifetimes)
    data = {
        "ca.crt": authority.certificate,
        "ca.key": authority.private_key,
        "operator.crt": own.certificate,
        "operator.key": own.private_key,
        "key": secrets.token_hex(_SHARED_KEY_BYTES).encode(),
    }
    return _secret(module, OPERATOR_SUFFIX, data)


def decode_secret(secret: Object) -> dict[str, bytes]:
    """The decoded data of a Secret. Raises binascii.Error."""
    return {key: base64.b64decode(value, validate=True) for key, value in (secret.get("data") or {}).items()}


def encode_data(data: Mapping[str, bytes]) -> dict[str, str]:
    """As a Secret has it."""
    return {name: base64.b64encode(value).decode() for name, value in sorted(data.items())}


def trusted(operator: Mapping[str, bytes]) -> bytes:
    """The certificates of all authorities that are trusted now: beside the one that signs, one that will or did."""
    return b"".join(operator[name] for name in ("ca.crt", "next.crt", "old.crt") if operator.get(name))


def read_secret(secret: Object) -> dict[str, bytes]:
    """The decoded data of an operator Secret. Raises DamagedSecretError."""
    name = secret["metadata"]["name"]
    mend = "delete the Secret and restart the module's pods together; the operator makes a new one"
    data = secret.get("data") or {}
    if missing := [key for key in _OPERATOR_KEYS if not data.get(key)]:
        raise DamagedSecretError(f"Secret {name} has no {', '.join(missing)}; {mend}")
    try:
        return decode_secret(secret)
    except binascii.Error as error:
        raise DamagedSecretError(f"Secret {name} cannot be decoded ({error}); {mend}") from error


def render_tls_secret(
    module: Module,
    operator: Mapping[str, bytes],
    now: datetime.datetime,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> Object:
    """A new tls Secret, signed by the authority in the operator Secret. Raises DamagedSecretError."""
    authority = KeyPair(operator["ca.crt"], operator["ca.key"])
    data = {"ca.crt": trusted(operator), "key": operator["key"]}
    for node in module.node_names:
        try:
            pair = issue(authority, node, module.uid, now, lifetimes)
        except ValueError as error:
            name = module.child(OPERATOR_SUFFIX)
            raise DamagedSecretError(
                f"the authority in Secret {name} is unreadable ({error}); delete it"
            ) from error
        data |= {f"{node}.crt": pair.certificate, f"{node}.key": pair.private_key}
    return _secret(module, TLS_SUFFIX, data)


def _secret(module: Module, suffix: str, data: Mapping[str, bytes]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": render_metadata(module, suffix),
        "type": "Opaque",
        "data": encode_data(data),
    }

"""How to reach another cluster's API server, from a kubeconfig file whose credentials stand in it.

Read anew when the file changes: kubelet replaces a mounted Secret. Helper programs (``exec``, ``auth-provider``) and
other files are refused: the sidecar has neither.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from twinhull_sidecar.config import ConfigError


@dataclass(frozen=True)
class Access:
    """Where the API server is and how this client proves itself."""

    server: str
    context: ssl.SSLContext
    headers: Mapping[str, str] = field(default_factory=dict)
    server_name: str | None = None


def read(path: Path, where: str) -> Access:
    """The access that the file's current context gives. Raises ConfigError for the field ``where``."""
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        mend = "create the Secret with that key in the module's namespace"
        raise ConfigError(where, f"{path.name} cannot be read ({error.strerror})", mend) from None
    except yaml.YAMLError as error:
        raise ConfigError(where, f"is not YAML ({error})", "put a kubeconfig there") from None
    try:
        return _access(document, where)
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        mend = "put a kubeconfig there, with a current context whose cluster and user are in it"
        raise ConfigError(where, f"is no complete kubeconfig ({error})", mend) from None
    except (ValueError, binascii.Error, ssl.SSLError) as error:
        raise ConfigError(where, f"holds unusable certificates ({error})", "give PEM, in base64") from None


def _access(document: Any, where: str) -> Access:
    context = _named(document["contexts"], document["current-context"])["context"]
    cluster = _named(document["clusters"], context["cluster"])["cluster"]
    user = _named(document["users"], context["user"])["user"] or {}
    for name in ("exec", "auth-provider", "tokenFile", "client-certificate", "client-key"):
        if name in user:
            mend = "give token, or client-certificate-data and client-key-data"
            raise ConfigError(where, f"{name} needs what the sidecar has not", mend)
    if "certificate-authority" in cluster:
        mend = "give certificate-authority-data"
        raise ConfigError(where, "certificate-authority names a file that the sidecar has not", mend)
    server = str(cluster["server"])
    if urlsplit(server).scheme != "https":
        raise ConfigError(where, f"server {server} is not reached by https", "give an https address")
    authority = cluster.get("certificate-authority-data")
    trust = ssl.create_default_context(cadata=_pem(authority).decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        mend = "give certificate-authority-data: whoever can pose as the witness decides who serves"
        raise ConfigError(where, "insecure-skip-tls-verify is not taken", mend)
    if "client-certificate-data" in user:
        _load_pair(trust, _pem(user["client-certificate-data"]), _pem(user["client-key-data"]))
    headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
    return Access(server, trust, headers, cluster.get("tls-server-name"))


def _named(entries: Any, name: str) -> Any:
    return next(entry for entry in entries if entry["name"] == name)


def _pem(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The ssl module reads a key from a file only; this one is gone at once.
    with tempfile.NamedTemporaryFile(prefix="twinhull-") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)

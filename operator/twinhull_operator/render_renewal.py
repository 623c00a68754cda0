"""What is due to be renewed in a module's two Secrets. Pure.

The shared key never changes: heartbeats and the replication stream are authenticated with it, certificates protect
only the control interface. A node's certificate, and the operator's, is replaced when its last third begins; sidecars
take it over while they run. An authority is replaced in steps between which everyone trusts whoever he meets:

1. ``next`` is made and trusted beside the one that signs, everywhere;
2. after the overlap it takes the other's place, which becomes ``old``, and signs all certificates anew;
3. ``old`` is trusted until its own end. Its key is gone since step 2.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from cryptography import x509

from twinhull_operator.certificates import (
    KeyPair,
    Lifetimes,
    is_due,
    is_signed_by,
    issue,
    made_at,
    make_authority,
)
from twinhull_operator.module import Module
from twinhull_operator.render_secrets import trusted
from twinhull_sidecar.tls import OPERATOR

Data = Mapping[str, bytes]


def renewed_operator(module: Module, data: Data, now: datetime.datetime, lifetimes: Lifetimes) -> Data:
    """The operator Secret's data with what is due renewed; equal to ``data`` when nothing is.

    Raises ValueError when the authority cannot be read.
    """
    found = dict(data)
    if "next.crt" in found:
        following = x509.load_pem_x509_certificate(found["next.crt"])
        if now - made_at(following) >= lifetimes.overlap:
            found["old.crt"] = found["ca.crt"]
            found["ca.crt"], found["ca.key"] = found.pop("next.crt"), found.pop("next.key")
    elif is_due(x509.load_pem_x509_certificate(found["ca.crt"]), now, lifetimes.authority):
        following_pair = make_authority(module.uid, now, lifetimes)
        found["next.crt"], found["next.key"] = following_pair.certificate, following_pair.private_key
    if "old.crt" in found and x509.load_pem_x509_certificate(found["old.crt"]).not_valid_after_utc < now:
        del found["old.crt"]
    if _needs_new(found.get(f"{OPERATOR}.crt"), found, now, lifetimes):
        found |= _leaf(module, found, OPERATOR, now, lifetimes)
    return found


def renewed_tls(
    module: Module, operator: Data, data: Data, now: datetime.datetime, lifetimes: Lifetimes
) -> Data:
    """The tls Secret's data, likewise. ``operator``: the operator Secret's data, renewed before."""
    found = dict(data) | {"ca.crt": trusted(operator)}
    for node in module.node_names:
        if _needs_new(found.get(f"{node}.crt"), operator, now, lifetimes):
            found |= _leaf(module, operator, node, now, lifetimes)
    return found


def ends(data: Data) -> dict[str, float]:
    """When each certificate in a Secret ends, in Unix seconds by holder; the authority that signs is ``ca``."""
    found = {}
    for name in ("ca", *(name[:-4] for name in data if name.endswith(".crt"))):
        try:
            certificate = x509.load_pem_x509_certificate(data[f"{name}.crt"])
        except (ValueError, KeyError):
            continue
        found[name] = certificate.not_valid_after_utc.timestamp()
    return found


def _needs_new(
    certificate: bytes | None, operator: Data, now: datetime.datetime, lifetimes: Lifetimes
) -> bool:
    """Also of a holder that has none, or one that is damaged or signed by an authority of before."""
    authority = x509.load_pem_x509_certificate(operator["ca.crt"])
    try:
        present = x509.load_pem_x509_certificate(certificate or b"")
    except ValueError:
        return True
    return not is_signed_by(present, authority) or is_due(present, now, lifetimes.leaf)


def _leaf(module: Module, operator: Data, holder: str, now: datetime.datetime, lifetimes: Lifetimes) -> Data:
    pair = issue(KeyPair(operator["ca.crt"], operator["ca.key"]), holder, module.uid, now, lifetimes)
    return {f"{holder}.crt": pair.certificate, f"{holder}.key": pair.private_key}

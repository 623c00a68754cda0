"""Renews a module's certificates in its Secrets. That it fails is told, and hinders nothing else."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping

from twinhull_operator.apply_module import is_owned
from twinhull_operator.certificates import Lifetimes
from twinhull_operator.kube import SECRETS, ApiError, Kube
from twinhull_operator.module import Module, Object
from twinhull_operator.render_renewal import ends, renewed_operator, renewed_tls
from twinhull_operator.render_secrets import (
    OPERATOR_SUFFIX,
    TLS_SUFFIX,
    DamagedSecretError,
    decode_secret,
    encode_data,
    read_secret,
)

log = logging.getLogger(__name__)


async def renew_certificates(
    kube: Kube, module: Module, lifetimes: Lifetimes, now: datetime.datetime
) -> Mapping[str, float] | None:
    """Renew what is due; when each certificate ends, by holder. None when it has to be tried again."""
    try:
        secret = await kube.get(SECRETS, module.namespace, module.child(OPERATOR_SUFFIX))
        mounted = await kube.get(SECRETS, module.namespace, module.child(TLS_SUFFIX))
        if secret is None or mounted is None or not is_owned(module, secret) or not is_owned(module, mounted):
            return None
        # The operator's first: an authority that signs must be on record before anybody trusts it.
        operator = renewed_operator(module, read_secret(secret), now, lifetimes)
        await _write(kube, module, secret, operator)
        tls = renewed_tls(module, operator, decode_secret(mounted), now, lifetimes)
        await _write(kube, module, mounted, tls)
    except (DamagedSecretError, ValueError) as error:
        log.warning("%s: certificates cannot be renewed: %s", module.key, error)
        return None
    except ApiError as error:
        log.warning("%s: certificates are renewed later: %s", module.key, error)
        return None
    own = ends(operator)
    return {name: own[name] for name in ("ca", "operator") if name in own} | {
        name: end for name, end in ends(tls).items() if name in module.node_names
    }


async def _write(kube: Kube, module: Module, secret: Object, data: Mapping[str, bytes]) -> None:
    before = decode_secret(secret)
    if data == before:
        return
    changed = {name: value for name, value in data.items() if before.get(name) != value}
    gone = dict.fromkeys(name for name in before if name not in data)
    metadata = secret["metadata"]
    # Another operator may be at it: of two that renew, the second finds what the first one made.
    patch = {
        "metadata": {"resourceVersion": metadata["resourceVersion"]},
        "data": encode_data(changed) | gone,
    }
    await kube.merge(SECRETS, module.namespace, metadata["name"], patch)
    names = ", ".join(sorted(name for name in changed if name.endswith(".crt")))
    log.info("%s: renewed %s in Secret %s", module.key, names, metadata["name"])

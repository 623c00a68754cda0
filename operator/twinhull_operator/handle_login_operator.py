"""Signs in to the API server."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import kopf


def login(environment: Mapping[str, str] = os.environ, **kwargs: Any) -> kopf.ConnectionInfo:
    """Credentials from the pod's service account, else from the kubeconfig. Raises kopf.LoginError.

    In a pod the API server is addressed by the address that kubelet gives, not by name: with one of two nodes
    down the cluster's DNS may be down as well.
    """
    info = kopf.login_with_service_account(**kwargs)
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if info is not None and host:
        return dataclasses.replace(info, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")
    info = info or kopf.login_with_kubeconfig(**kwargs)
    if info is None:
        raise kopf.LoginError("no service account and no kubeconfig; run in a pod or set KUBECONFIG")
    return info

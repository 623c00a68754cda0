"""EndpointSlices that lead the module's Service name to its virtual IPs."""

from __future__ import annotations

import hashlib

from twinhull_operator.constants import LABEL_MODULE
from twinhull_operator.module import Module, ModuleVirtualIP, Object
from twinhull_operator.render_metadata import render_metadata


def endpointslice_suffix(vip: ModuleVirtualIP) -> str:
    """Part of the name of a virtual IP's slice: from its address, as a slice cannot change its IP version."""
    return f"vip-{hashlib.sha256(vip.address.encode()).hexdigest()[:8]}"


def render_endpointslices(module: Module) -> list[Object]:
    """One EndpointSlice per virtual IP. It is always ready: who answers on the address is the sidecars'
    business.
    """
    return [_render(module, vip) for vip in module.virtual_ips]


def _render(module: Module, vip: ModuleVirtualIP) -> Object:
    metadata = render_metadata(module, endpointslice_suffix(vip))
    metadata["labels"] |= {
        "kubernetes.io/service-name": module.child(),
        "endpointslice.kubernetes.io/managed-by": "twinhull.dev",
        LABEL_MODULE: module.name,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv6" if ":" in vip.address else "IPv4",
        "endpoints": [{"addresses": [vip.address], "conditions": {"ready": True}}],
        "ports": [{"name": p.name, "port": p.port, "protocol": p.protocol} for p in vip.ports],
    }

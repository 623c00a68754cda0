"""The module's Service: a DNS name in the cluster."""

from __future__ import annotations

from twinhull_operator.constants import LABEL_MODULE
from twinhull_operator.module import Module, Object
from twinhull_operator.render_metadata import render_metadata


def render_service(module: Module) -> Object:
    """A headless Service.

    With virtual IPs its name leads to them, through the EndpointSlices of :mod:`render_endpointslice` and
    without a selector: the answer never changes, so a failover needs neither the API server nor DNS. Being
    headless it has no rules in kube-proxy that could compete with the sidecar's for ``VIP:port``. Without
    virtual IPs it selects the pods, of which only the primary's is ready.
    """
    ports = {(port.name, port.port, port.protocol) for vip in module.virtual_ips for port in vip.ports}
    spec: Object = {"clusterIP": "None", "type": "ClusterIP"}
    if ports:
        spec["ports"] = [
            {"name": name, "port": number, "protocol": protocol, "targetPort": number}
            for name, number, protocol in sorted(ports)
        ]
    # No ipFamilies: a headless Service without a selector takes both, on any cluster.
    if not module.virtual_ips:
        spec["selector"] = {LABEL_MODULE: module.name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": render_metadata(module), "spec": spec}

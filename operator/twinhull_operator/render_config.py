"""The sidecars' configuration of a module."""

from __future__ import annotations

import re
from collections.abc import Mapping

from twinhull_operator.constants import LINK_NODES
from twinhull_operator.module import Module, ModulePort, Object
from twinhull_operator.problem import InvalidModuleError, Problem
from twinhull_operator.render_farm import render_farm
from twinhull_operator.render_watch import render_watches, watch_field
from twinhull_operator.render_witness import render_bmc, render_witness, witness_field
from twinhull_operator.validate_module import common_addresses
from twinhull_operator.validate_template import container_ports
from twinhull_sidecar.config import (
    Application,
    ConfigError,
    Container,
    Link,
    ModuleConfig,
    Ports,
    ServicePort,
    VirtualIP,
    Volume,
    parse,
    render,
)


def render_config(module: Module, nodes: Mapping[str, Object], base_port: int) -> ModuleConfig:
    """The configuration, proven readable by the sidecar's own reader.

    Raises InvalidModuleError with the resource's field when the reader refuses it.
    """
    config = ModuleConfig(
        kind=module.kind,
        farm=render_farm(module),
        namespace=module.namespace,
        name=module.name,
        uid=module.uid,
        nodes=module.node_names,
        links=_links(module, nodes),
        ports=Ports(heartbeat=base_port, grpc=base_port, replication=base_port + 1),
        base_dir=module.base_dir,
        application=_application(module),
        volumes=tuple(Volume(name) for name in module.volumes),
        virtual_ips=_virtual_ips(module),
        detection_timeout=module.detection_timeout,
        without_witness=module.without_witness,
        failover=module.failover,
        watchdog=module.watchdog,
        startup_timeout=module.startup_timeout,
        fencing=tuple(render_bmc(bmc) for bmc in module.fencing),
        witnesses=tuple(render_witness(witness) for witness in module.witnesses),
        checkers=render_watches(module),
        preferred_node=module.preferred_node,
        adopt_from=module.adopt_from,
        adopt_uid=module.adopt_uid,
        durability=module.durability,
        resync_rate=module.resync_rate,
        verify_schedule=module.verify_schedule,
        failback=module.failback,
        failback_after=module.failback_after,
        failback_window=module.failback_window,
    )
    try:
        parse(render(config))
    except ConfigError as error:
        raise InvalidModuleError(Problem(resource_field(error.field), error.message, error.mend)) from error
    return config


def resource_field(field: str) -> str:
    """The path in the resource of a field of the sidecar's configuration."""
    if (found := witness_field(field) or watch_field(field)) is not None:
        return found
    renamed = {
        "failover": "spec.failover.mode",
        "watchdog": "spec.failover.watchdog",
        "startup_timeout": "spec.failover.startupTimeout",
        "fencing": "spec.fencing.redfish",
        "virtual_ips": "spec.virtualIPs",
        "detection_timeout": "spec.failover.detectionTimeout",
        "without_witness": "spec.failover.withoutWitness",
        "application.max_restarts": "spec.failover.maxRestarts",
        "application.restart_window": "spec.failover.restartWindow",
        "application.stop_grace": "spec.template.spec.terminationGracePeriodSeconds",
        "application.containers": "spec.template.spec.containers",
        "durability": "spec.replication.durability",
        "resync_rate": "spec.replication.resyncRateLimit",
        "verify_schedule": "spec.replication.verifySchedule",
        "farm": "spec",
        "adopt_from": "spec.adoptFrom",
        "adopt_uid": "spec.adoptUID",
        "preferred_node": "spec.preferredNode",
        "failback": "spec.failback",
        "failback_after": "spec.failbackAfter",
        "failback_window": "spec.failbackWindow",
        "namespace": "metadata.namespace",
        "name": "metadata.name",
    }
    for prefix, path in renamed.items():
        if re.fullmatch(re.escape(prefix) + r"([.\[].*)?", field):
            return path + field[len(prefix) :].replace("target_port", "targetPort")
    return f"spec.{field}" if re.match(r"(nodes|links|volumes)\b", field) else field


def _links(module: Module, nodes: Mapping[str, Object]) -> tuple[Link, ...]:
    dedicated = tuple(Link(link.name, dict(link.addresses)) for link in module.links)
    own = common_addresses(module, nodes)
    if own is None or any(dict(link.addresses) == own for link in dedicated):
        return dedicated
    return (*dedicated, Link(LINK_NODES, own))


def _application(module: Module) -> Application:
    return Application(
        adapter="pod",
        containers=tuple(
            Container(
                name=container["name"],
                image=container.get("image", ""),
                command=tuple(container["command"]) if container.get("command") else None,
                args=tuple(container["args"]) if container.get("args") else None,
            )
            for container in module.containers
        ),
        stop_grace=float(module.stop_grace),
        max_restarts=module.max_restarts,
        restart_window=module.restart_window,
    )


def _virtual_ips(module: Module) -> tuple[VirtualIP, ...]:
    named = container_ports(module)

    def service_port(port: ModulePort) -> ServicePort:
        target = named[port.target, port.protocol] if isinstance(port.target, str) else port.target
        return ServicePort(port.name, port.port, target, port.protocol)

    return tuple(
        VirtualIP(vip.address, vip.prefix, vip.interface, tuple(map(service_port, vip.ports)))
        for vip in module.virtual_ips
    )

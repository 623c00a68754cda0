"""Creates, checks and deletes the two-node kind cluster; repeating any of it is harmless and quick."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster import binaries, network, node_image, stamp
from tests.cluster.command import CommandError, environment, run, step, succeeds
from tests.cluster.topology import (
    BINARIES,
    CACHE,
    CLUSTER,
    CONTROL_PLANE,
    GATEWAY,
    IMAGE_REPOSITORY,
    KUBECONFIG,
    NODE_IMAGE,
    NODES,
    ONLINE_NODE_IMAGE,
    POD_SUBNET,
    SERVICE_SUBNET,
    Node,
)

#: Seconds that a node's kube-proxy may take to its first rules.
PROXY_PATIENCE = 20.0
_WRAPPER = CACHE / "kind-path" / "podman"
_CONTAINERS_CONF = """\
# podman for the test cluster: Debian's own runtime, and limits that a restricted virtual machine can grant.
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def registry_answers() -> bool:
    """Whether a container registry can be reached; asked once, then remembered until the cache is cleaned."""
    answer = CACHE / "registry"
    if not answer.is_file():
        configure_podman()
        with step("look for a container registry"):
            found = succeeds("podman", "manifest", "inspect", ONLINE_NODE_IMAGE, timeout=20)
        answer.write_text("reachable" if found else "none")
    return answer.read_text() == "reachable"


@contextmanager
def exclusive() -> Iterator[None]:
    """Holds the cluster for one user at a time: the demo and the end-to-end tests would cut each other's nodes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "cluster.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("wait for another run that uses the cluster"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def configure_podman() -> None:
    """Writes podman's configuration file for every program that this package runs."""
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "containers.conf").write_text(_CONTAINERS_CONF)
    # kind mounts it into the nodes; a kernel without modules has none.
    Path("/lib/modules").mkdir(exist_ok=True)


def build() -> None:
    """Builds what a cluster is made of, where it is missing: minutes without a container registry, the first time.

    Raises:
        CommandError: a step failed.
    """
    configure_podman()
    if registry_answers():
        binaries.build_host_tools()
    else:
        node_image.build()


def up() -> None:
    """Brings the cluster up: builds what is missing, creates or starts the nodes, waits until both are Ready.

    Raises:
        CommandError: a step failed.
        TimeoutError: the nodes did not become Ready.
    """
    build()
    online = registry_answers()
    image = ONLINE_NODE_IMAGE if online else NODE_IMAGE
    config = render_config(image, online)
    identity = image if online else run("podman", "image", "inspect", "--format={{.Id}}", image).strip()
    value = stamp.digest(config, identity, *(network.pod_network(node) for node in NODES))
    make = partial(
        stamp.once, "cluster", value, exists, lambda: _create(config, online), "create the kind cluster"
    )
    made = make()
    if not made:
        start_stopped_nodes()
    network.create()
    network.route_to_pods()
    try:
        wait_ready()
    except TimeoutError as late:
        if made:
            raise
        # It was left by an earlier run, which may have ended anyhow.
        print(f"the cluster that was there is made anew: {late}", flush=True)
        stamp.forget("cluster")
        make()
        network.route_to_pods()
        wait_ready()


def down() -> None:
    """Deletes the cluster with its network and routes."""
    if not (CACHE / "containers.conf").is_file():
        return
    _delete()
    network.remove()
    KUBECONFIG.unlink(missing_ok=True)
    stamp.forget("cluster")


def exists() -> bool:
    """Whether both node containers exist and can be used, running or powered off."""
    return all(
        succeeds("podman", "container", "exists", node.name) and not is_orphaned(node) for node in NODES
    )


def is_orphaned(node: Node) -> bool:
    """Whether podman holds a container for running whose processes are gone.

    So it is when somebody killed them together with conmon, which watches them: podman (4.3) then neither starts nor
    stops nor cleans up the container any more, and only removes it.
    """
    inspected = run("podman", "inspect", "--format={{.State.Running}} {{.State.Pid}}", node.name)
    running, process = inspected.split()
    return running == "true" and not Path("/proc", process).exists()


def start_stopped_nodes() -> None:
    """Starts the nodes that are powered off."""
    network.create()
    for node in NODES:
        state = run("podman", "inspect", "--format={{.State.Running}}", node.name).strip()
        if state != "true":
            run("podman", "start", node.name)


def wait_ready(timeout: float = 120) -> None:
    """Waits until every node is Ready.

    Raises:
        TimeoutError: after ``timeout`` seconds; the message has what the API server last said.
    """
    deadline = time.monotonic() + timeout
    last = "the API server did not answer"
    while time.monotonic() < deadline:
        try:
            listed = json.loads(kubectl("get", "nodes", "-o", "json", "--request-timeout=3s"))
        except CommandError as refused:
            last = str(refused)
        else:
            ready = [item["metadata"]["name"] for item in listed["items"] if _is_ready(item)]
            if len(ready) == len(NODES):
                _mend_services()
                return
            last = f"Ready: {', '.join(ready) or 'none'} of {', '.join(node.name for node in NODES)}"
        time.sleep(0.5)
    raise TimeoutError(f"the nodes were not Ready within {timeout:.0f} s: {last}")


def _mend_services() -> None:
    """Restarts kube-proxy on a node where the API server's Service answers nobody.

    Seen after an outage of the API server: kube-proxy (1.34, nftables mode, nft 1.0.6) had an empty map of services on
    the node that had kept its power, said nothing, and every pod there was cut off from the API for good.
    """
    address = SERVICE_SUBNET[1]
    ask = f"curl --silent --insecure --output /dev/null --max-time 3 https://{address}/healthz"
    for node in NODES:
        # The kube-proxy of a node that has just returned needs some seconds itself.
        deadline = time.monotonic() + PROXY_PATIENCE
        while not (answers := succeeds("podman", "exec", node.name, "sh", "-c", ask)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if not answers:
            shown = "nft list map ip kube-proxy service-ips || true"
            print(f"kube-proxy on {node.name} serves nothing and is restarted; its map of Services:")
            print(run("podman", "exec", node.name, "sh", "-c", shown))
            stop = "crictl ps --quiet --name=^kube-proxy$ | xargs --no-run-if-empty crictl stop"
            run("podman", "exec", node.name, "sh", "-c", stop)


def kubectl(*arguments: str, stdin: str | None = None, timeout: float | None = None) -> str:
    """kubectl on this cluster."""
    return run("kubectl", f"--kubeconfig={KUBECONFIG}", *arguments, stdin=stdin, timeout=timeout)


def render_config(image: str, online: bool) -> str:
    """kind's cluster configuration, as JSON (which is YAML)."""
    patches: list[dict[str, Any]] = [
        *_no_leader_election(),
        *(
            {"kind": kind, "nodeRegistration": {"taints": []}}
            for kind in ("InitConfiguration", "JoinConfiguration")
        ),
    ]
    if not online:
        patches += [
            {"kind": "ClusterConfiguration", "imageRepository": IMAGE_REPOSITORY},
            {
                "kind": "KubeletConfiguration",
                "cgroupDriver": "cgroupfs",
                "failCgroupV1": False,
                # Lets kubelet live with the capabilities and sysctls that a container in a small machine lacks.
                "featureGates": {"KubeletInUserNamespace": True},
            },
        ]
    return json.dumps(
        {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "name": CLUSTER,
            "networking": {
                "disableDefaultCNI": True,
                "kubeProxyMode": "nftables",
                "podSubnet": str(POD_SUBNET),
                "serviceSubnet": str(SERVICE_SUBNET),
            },
            "nodes": [{"role": "control-plane", "image": image}, {"role": "worker", "image": image}],
            "kubeadmConfigPatches": [json.dumps(patch) for patch in patches],
        },
        indent=2,
    )


def _no_leader_election() -> list[dict[str, Any]]:
    """One control plane needs no election, and one that loses it exits: all Ready came 15 s later after a power cut.

    kubeadm writes these arguments as a map before v1beta4 and as a list since.
    """
    value = {"leader-elect": "false"}
    listed = [{"name": "leader-elect", "value": "false"}]
    return [
        {
            "kind": "ClusterConfiguration",
            "apiVersion": f"kubeadm.k8s.io/{version}",
            "controllerManager": {"extraArgs": arguments},
            "scheduler": {"extraArgs": arguments},
        }
        for version, arguments in (("v1beta3", value), ("v1beta4", listed))
    ]


def _create(config: str, online: bool) -> None:
    _delete()
    network.create()
    _write_wrapper(online)
    path = CACHE / "kind.json"
    path.write_text(config)
    KUBECONFIG.unlink(missing_ok=True)
    run("kind", "create", "cluster", f"--config={path}", f"--kubeconfig={CACHE / 'kind-kubeconfig'}",
        extra=_kind_environment())  # fmt: skip
    # From the host the node's own address is the way: a published port would pass through another rewriting.
    config_text = run(
        "kind", "get", "kubeconfig", "--internal", f"--name={CLUSTER}", extra=_kind_environment()
    )
    KUBECONFIG.write_text(config_text.replace(CONTROL_PLANE.name + ":6443", f"{CONTROL_PLANE.address}:6443"))
    KUBECONFIG.chmod(0o600)
    for node in NODES:
        _write_into(node.name, "/etc/cni/net.d/10-pods.conflist", network.pod_network(node))
        _write_into(node.name, "/etc/systemd/system/pod-routes.service", network.routes_unit(node))
        run("podman", "exec", node.name, "systemctl", "enable", "--now", "--quiet", "pod-routes.service")


def _delete() -> None:
    if shutil.which("kind", path=str(BINARIES)) and _WRAPPER.is_file():
        run("kind", "delete", "cluster", f"--name={CLUSTER}", extra=_kind_environment())
    for node in NODES:
        succeeds("podman", "rm", "--force", "--volumes", "--time=0", node.name)


def _kind_environment() -> dict[str, str]:
    return {"PATH": f"{_WRAPPER.parent}:{environment()['PATH']}"}


def _write_wrapper(online: bool) -> None:
    """kind has no option for a node's address; this podman adds it to the one command that creates a node.

    Offline the nodes get a resolver that refuses: a name outside the cluster is then answered at once, and no
    question leaves the machine.
    """
    hosts = "" if online else f"--dns={GATEWAY} "
    hosts += " ".join(f"--add-host={node.name}:{node.address}" for node in NODES)
    cases = "".join(
        f'"run --name {node.name}")\n'
        f"    shift 3\n"
        f"    exec /usr/bin/podman run --name {node.name} --ip {node.address} --ip6 {node.address6} "
        f'--mac-address {node.mac} {hosts} "$@" ;;\n'
        for node in NODES
    )
    _WRAPPER.parent.mkdir(parents=True, exist_ok=True)
    _WRAPPER.write_text(f'#!/bin/sh\ncase "$1 $2 $3" in\n{cases}esac\nexec /usr/bin/podman "$@"\n')
    _WRAPPER.chmod(0o755)


def _write_into(node: str, path: str, text: str) -> None:
    run("podman", "exec", "--interactive", node, "sh", "-c", f"cat > {path}", stdin=text)


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

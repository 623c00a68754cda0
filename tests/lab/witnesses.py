"""Third parties for the laboratory, on the host ``client``: it answers pings, accepts connections, leads to an API.

Nothing of it is a double: the kernel answers the pings, the API server is a real one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.lab.api_server import ApiServer
from tests.lab.netns import CLIENT, LINKS, NODES, Lab
from twinhull_sidecar.config import Witness

ADDRESS = Lab.address(CLIENT, "lan")
PORT = 6443
PING = Witness("gateway", "ping", (ADDRESS,))
TCP = Witness("service", "tcp", (ADDRESS,), PORT)


def lease(kubeconfig: Path) -> Witness:
    """The vote in the API server that ``kubeconfig`` leads to."""
    return Witness(
        "site-c", "lease", kubeconfig=str(kubeconfig), namespace="default", lease="twinhull-lab-ledger"
    )


def kubeconfig_for_nodes(server: ApiServer, path: Path) -> Path:
    """The administrator's kubeconfig, with the address that the nodes see and the server's certificate."""
    document = yaml.safe_load(server.kubeconfig.read_text())
    # The server's own certificate and the authority that it made for itself.
    certificate = (server.kubeconfig.parent / "certificates" / "apiserver.crt").read_bytes()
    document["clusters"][0]["cluster"] = {
        "server": f"https://{ADDRESS}:{PORT}",
        "tls-server-name": "127.0.0.1",
        "certificate-authority-data": base64.b64encode(certificate).decode(),
    }
    path.write_text(json.dumps(document))
    return path


def target_of(server: ApiServer) -> int:
    """The API server's port on the machine's loopback."""
    document = yaml.safe_load(server.kubeconfig.read_text())
    return int(document["clusters"][0]["cluster"]["server"].rpartition(":")[2])


def cut_from_witness(lab: Lab, node: str) -> None:
    """Drop what passes between a node and the witness's host, on the LAN."""
    lab.cut_one_way("lan", node, CLIENT)
    lab.cut_one_way("lan", CLIENT, node)


def heal_everything(lab: Lab) -> None:
    """All paths are whole again."""
    for link in LINKS:
        for node in NODES:
            lab.heal(link, node)


@contextlib.contextmanager
def relay(lab: Lab, target: int) -> Iterator[None]:
    """Connections to the host ``client`` at PORT go to the machine's own 127.0.0.1:``target``."""
    with lab.inside(CLIENT):
        listener = socket.create_server((ADDRESS, PORT), backlog=64)
    stopped = threading.Event()
    listener.settimeout(0.2)

    def accept() -> None:
        while not stopped.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                upstream = socket.create_connection(("127.0.0.1", target), 5)
            except OSError:
                client.close()
                continue
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=_pass, args=(source, sink), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        listener.close()


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        source.settimeout(None)
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

"""nginx in the pods, wrk at the client, HAProxy on a node: programs in C, so that the network's way is what counts."""

from __future__ import annotations

import resource
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.farm_harness import PORT, TARGET_PORT, Farm, FarmLab, client
from tests.lab.netns import CLIENT, NODES

BIG_BYTES = 10_000_000
PROXY_PORT = 8000
#: Connections that wrk has open at once.
PARALLEL = {"small": 32, "big": 4}

_NGINX = """
daemon off;
master_process off;
pid {directory}/{node}.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_timeout 60;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/{node}-body;
    proxy_temp_path {directory}/{node}-proxy;
    fastcgi_temp_path {directory}/{node}-fastcgi;
    uwsgi_temp_path {directory}/{node}-uwsgi;
    scgi_temp_path {directory}/{node}-scgi;
    server {{
        listen [::]:{port} ipv6only=off backlog=4096{tls};
        location = /small {{ return 200 "{node}\\n"; }}
        location = /big {{ root {directory}; }}
    }}
}}
user root;
"""

# TLS as nginx and OpenSSL have it by default, with a key that is still the most usual kind.
_TLS = " ssl;\n        ssl_certificate {directory}/certificate.pem;\n        ssl_certificate_key {directory}/key.pem"
_CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=farm -keyout key.pem -out certificate.pem"
)

# Without the checks and the logs that it has in earnest; both servers by turns.
_HAPROXY = """
global
    maxconn 4000
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen front
    bind {address}:{port}
    balance roundrobin
    server a {pods[a].address4}:{target}
    server b {pods[b].address4}:{target}
"""

# As a Service of type NodePort would.
_DIRECT = """
table ip direct {{
    chain prerouting {{
        type nat hook prerouting priority -100
        ip daddr {node} tcp dport {port} dnat to {pod}:{target}
    }}
}}
"""

_SUMMARY = """
done = function(summary, latency, requests)
    local e = summary.errors
    local errors = e.connect + e.read + e.write + e.status + e.timeout
    io.write(string.format("SUMMARY %d %d %d %d\\n", summary.requests, summary.duration, summary.bytes, errors))
end
"""


@dataclass(frozen=True)
class Answered:
    """What wrk counted in one run."""

    requests: int
    seconds: float
    volume: int
    #: CPU seconds of all that takes part (see Site.ask).
    cpu: float
    #: CPU seconds of the two nodes' control loops, which passes no packet.
    control: float


class NginxFarm(Farm):
    """A farm whose application is nginx, one process in the pod of each node."""

    def __init__(self, lab: FarmLab, directory: Path, *, tls: bool, **options: Any) -> None:
        super().__init__(lab, **options)
        self._directory = directory
        self._tls = _TLS.format(directory=directory) if tls else ""

    def serve(self, node: str) -> None:
        """Start nginx in the node's pod and wait until it listens. Raises RuntimeError when it ends."""
        config = self._directory / f"{node}.conf"
        words = {"directory": self._directory, "node": node, "port": TARGET_PORT, "tls": self._tls}
        config.write_text(_NGINX.format(**words))
        pod = self.pods[node].name
        process = self.lab.spawn(pod, ["nginx", "-c", str(config), "-p", str(self._directory)])
        self.servers[node] = process
        deadline = time.monotonic() + 10
        while f":{TARGET_PORT}" not in self.lab.run(pod, "ss", "-Hltn"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx in {pod} does not listen")
            time.sleep(0.05)


class Site:
    """A farm of nginx, the same nginx reached on its node's address, and HAProxy on node ``a`` before both."""

    def __init__(self, affinity: str = "ClientIP", *, tls: bool = False) -> None:
        self._affinity = affinity
        self._tls = tls
        self.scheme = "https" if tls else "http"
        self._stack = ExitStack()

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            directory = Path(tempfile.mkdtemp(prefix="twinhull-bench-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            (directory / "big").write_bytes(b"x" * BIG_BYTES)
            if self._tls:
                subprocess.run(_CERTIFICATE.split(), cwd=directory, check=True, capture_output=True)
            self._script = directory / "summary.lua"
            self._script.write_text(_SUMMARY)
            self.lab = lab = stack.enter_context(FarmLab())
            # Leases of 2.5 s: what is measured is the way of packets, not whether a busy machine ends a lease.
            self.farm = farm = NginxFarm(lab, directory, tls=self._tls, affinity=self._affinity, timeout=5.0)
            farm.up()
            for node in NODES:
                words = {"node": lab.address(node), "pod": farm.pods[node].address4}
                rules = _DIRECT.format(**words, port=PORT, target=TARGET_PORT)
                lab.run(node, "nft", "-f", "-", stdin=rules)
            config = directory / "haproxy.cfg"
            words = {"address": lab.address("a"), "port": str(PROXY_PORT), "target": str(TARGET_PORT)}
            config.write_text(_HAPROXY.format(**words, pods=farm.pods))
            self.haproxy = lab.spawn("a", ["haproxy", "-db", "-f", str(config)])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client_of(self, node: str) -> str:
        """An address of the client whose connections the farm gives to this node. Raises RuntimeError: none found."""
        for number in range(1, 200):
            if self._who(client(number)) == node:
                return client(number)
        raise RuntimeError(f"none of 200 clients belongs to {node}")

    def come_from(self, source: str) -> None:
        """Let the client's connections to everything on the LAN come from this address."""
        self.lab.run(CLIENT, "ip", "route", "replace", "10.77.0.0/24", "dev", "lan0", "src", source)

    def limit_links(self, rate: str) -> None:
        """Let no node send or receive more than this on the LAN (tc-tbf(8))."""
        limit = ["root", "tbf", "rate", rate, "burst", "256k", "latency", "50ms"]
        for node in NODES:
            self.lab.run(node, "tc", "qdisc", "add", "dev", "lan0", *limit)
            self.lab.run("switch", "tc", "qdisc", "add", "dev", f"lan-{node}", *limit)

    def ask(self, url: str, file: str, seconds: int, *, keep: bool) -> Answered:
        """Run wrk. ``keep``: requests share connections; else each has its own. Raises RuntimeError at any error.

        CPU time is what the scheduler counts, with the softirqs that run in a process's context (with veth, that is
        where packets are forwarded): of wrk, both nginx, HAProxy, and of the kernel's ksoftirqd threads. The farm's
        control loops, which run whether or not there are connections, are counted apart.
        """
        self.forget()
        standing = [process.pid for process in (*self.farm.servers.values(), self.haproxy)]
        standing += _ksoftirqd()
        loops = [node.process.pid for node in self.farm.nodes.values()]
        before, loops_before = sum(map(_scheduled, standing)), sum(map(_scheduled, loops))
        argv = [
            "wrk",
            "-t1",
            "--timeout",
            "30s",
            f"-c{PARALLEL[file]}",
            f"-d{seconds}s",
            "-s",
            str(self._script),
        ]
        argv += [] if keep else ["-H", "Connection: close"]
        ended = _of_children()
        process = self.lab.spawn(CLIENT, [*argv, f"{url}/{file}"], stdout=subprocess.PIPE, text=True)
        out, _ = process.communicate(timeout=seconds + 30)
        cpu = sum(map(_scheduled, standing)) - before + _of_children() - ended
        control = sum(map(_scheduled, loops)) - loops_before
        line = next((one for one in out.splitlines() if one.startswith("SUMMARY ")), "")
        if not line or line.split()[4] != "0":
            raise RuntimeError(f"wrk on {url}/{file}: {out[-500:]}")
        _, requests, duration, volume, _ = line.split()
        return Answered(int(requests), int(duration) / 1e6, int(volume), cpu, control)

    def forget(self) -> None:
        """Empty the tables of connections, so that no run meets what an earlier one left in them."""
        for where in (*NODES, CLIENT):
            subprocess.run(self.lab.command(where, ["conntrack", "-F"]), capture_output=True, check=False)

    def _who(self, source: str) -> str:
        with self.lab.inside(CLIENT):
            plain = socket.create_connection((self.farm.address, PORT), 5, (source, 0))
        with _trusting().wrap_socket(plain) if self._tls else plain as opened:
            opened.sendall(b"GET /small HTTP/1.0\r\n\r\n")
            got = b""
            while more := opened.recv(4096):
                got += more
        return got.split()[-1].decode()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _of_children() -> float:
    """CPU seconds of the children that have ended: getrusage(2), which Linux scales to what the scheduler counted."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _scheduled(pid: int) -> float:
    """CPU seconds of a process's threads (``/proc/PID/task/TID/schedstat``); 0 when it has ended."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _ksoftirqd() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().startswith("ksoftirqd/"):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found

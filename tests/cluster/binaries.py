"""Builds from Go modules what a machine without a container registry lacks: Kubernetes, etcd, CoreDNS, the tools.

Kubernetes takes 4-10 minutes when the build cache is empty and seconds afterwards.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster import stamp
from tests.cluster.command import run
from tests.cluster.topology import (
    BINARIES,
    CACHE,
    CRICTL_VERSION,
    HELM_VERSION,
    KIND_VERSION,
    KUBERNETES_VERSION,
)

SOURCES = Path(__file__).parent / "go"
NODE_BINARIES = CACHE / "node-bin"
"""Programs that go into the node image."""

_GO = {
    "GOMODCACHE": str(CACHE / "go" / "mod"),
    "GOCACHE": str(CACHE / "go" / "build"),
    "GOFLAGS": "-buildvcs=false -modcacherw",
    "CGO_ENABLED": "0",
}


def build_host_tools() -> None:
    """kind and helm, and the podman wrapper, into the directory that precedes PATH."""
    _install(f"sigs.k8s.io/kind@{KIND_VERSION}", BINARIES / "kind")
    _install(f"helm.sh/helm/v3/cmd/helm@{HELM_VERSION}", BINARIES / "helm")


def build_node_programs() -> None:
    """The multi-call Kubernetes binary, etcd, CoreDNS, pause and crictl."""
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    version = "k8s.io/component-base/version"
    flags = " ".join(
        f"-X {package}.{name}={value}"
        for package in (version, "k8s.io/client-go/pkg/version")
        for name, value in (
            ("gitVersion", KUBERNETES_VERSION),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
        )
    )
    _build("pause")
    _build("etcd")
    _build("coredns")
    _install(f"sigs.k8s.io/cri-tools/cmd/crictl@{CRICTL_VERSION}", NODE_BINARIES / "crictl")
    _build("kubernetes", flags)


def kind_files() -> Path:
    """kind's own node files (entrypoint, systemd units, containerd's configuration), from its Go module."""
    module = CACHE / "go" / "mod" / f"sigs.k8s.io/kind@{KIND_VERSION}"
    if not module.is_dir():
        run("go", "mod", "download", f"sigs.k8s.io/kind@{KIND_VERSION}", extra=_GO, cwd=SOURCES / "pause")
    return module / "images" / "base" / "files"


def _build(name: str, link_flags: str = "") -> None:
    target = NODE_BINARIES / name
    source = SOURCES / name

    def make() -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = f"-s -w {link_flags}".strip()
        run("nice", "go", "build", "-trimpath", "-ldflags", flags, "-o", target, ".", cwd=source, extra=_GO)

    title = f"build {name} from Go modules" + (" (minutes when cold)" if name == "kubernetes" else "")
    stamp.once(f"go-{name}", stamp.digest(source, link_flags), target.is_file, make, title)


def _install(package: str, target: Path) -> None:
    def make() -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        run(
            "nice",
            "go",
            "install",
            "-trimpath",
            "-ldflags",
            "-s -w",
            package,
            extra=_GO | {"GOBIN": str(target.parent)},
        )

    stamp.once(f"go-{target.name}", package, target.is_file, make, f"go install {package}")

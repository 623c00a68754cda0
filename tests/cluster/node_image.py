"""The kind node image and the images kubeadm asks for, made from Debian packages and our own Go builds.

kind builds its node image from downloads that need the open internet; this one has the same entrypoint and units
(taken from kind's Go module) on Debian's containerd.  The images of Kubernetes are loaded into containerd by a unit
at a node's first start: kubelet waits for it, and the build needs no running containerd.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.cluster import binaries, podman, rootfs, stamp
from tests.cluster.command import run
from tests.cluster.topology import CACHE, IMAGE_REPOSITORY, KUBERNETES_VERSION, NODE_IMAGE

PACKAGES = (
    "systemd", "dbus", "containerd", "containernetworking-plugins", "runc", "nftables", "iptables", "conntrack",
    "socat", "ethtool", "iproute2", "iputils-ping", "kmod", "util-linux", "mount", "e2fsprogs", "fuse3", "jq", "procps",
    "curl", "ca-certificates", "libseccomp2", "hostname",
)  # fmt: skip
_PRELOAD_UNIT = """\
[Unit]
Description=Load the images of Kubernetes into containerd
After=containerd.service
Requires=containerd.service
Before=kubelet.service
ConditionPathExists=!/var/lib/kubernetes-images-loaded

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ctr --namespace=k8s.io images import /kind/images.tar
ExecStart=/usr/bin/touch /var/lib/kubernetes-images-loaded

[Install]
WantedBy=multi-user.target
"""
_KUBELET_WAITS = "[Unit]\nAfter=preload-images.service containerd.service\nWants=preload-images.service\n"


def build() -> None:
    """Makes the node image in podman's storage, unless it is there and nothing it is made from has changed."""
    binaries.build_host_tools()
    binaries.build_node_programs()
    root = rootfs.with_packages("node", PACKAGES)
    value = stamp.digest(
        Path(__file__), KUBERNETES_VERSION, *PACKAGES, *sorted(binaries.NODE_BINARIES.iterdir())
    )
    stamp.once(
        "node-image",
        value,
        lambda: podman.exists(NODE_IMAGE),
        lambda: _make(root),
        "build the node image",
    )


def _make(debian: Path) -> None:
    work = CACHE / "node-image"
    shutil.rmtree(work, ignore_errors=True)
    root = work / "root"
    work.mkdir(parents=True)
    run("cp", "-a", "--reflink=auto", debian, root)
    _arrange(root)
    _make_kubernetes_images(debian, work / "kubernetes", root / "kind/images.tar")
    (work / "Containerfile").write_text(
        "FROM scratch\nCOPY root/ /\nENV container=podman\nSTOPSIGNAL SIGRTMIN+3\n"
        'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]\n'
    )
    podman.build(NODE_IMAGE, work)
    shutil.rmtree(work)


def _arrange(root: Path) -> None:
    """Turns a Debian with packages into a kind node: kind's files, systemd's units trimmed, our binaries."""
    shutil.copytree(binaries.kind_files(), root, dirs_exist_ok=True)
    for script in [*(root / "usr/local/bin").iterdir(), *(root / "kind/bin").iterdir()]:
        script.chmod(0o755)
    for pattern in (
        "lib/systemd/system/multi-user.target.wants/*",
        "etc/systemd/system/*.wants/*",
        "lib/systemd/system/local-fs.target.wants/*",
        "lib/systemd/system/sockets.target.wants/*udev*",
        "lib/systemd/system/sockets.target.wants/*initctl*",
        "lib/systemd/system/basic.target.wants/*",
        "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    ):
        for unit in root.glob(pattern):
            unit.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")
    units = root / "etc/systemd/system"
    # Raising limits needs CAP_SYS_RESOURCE, which a container in a restricted virtual machine does not have.
    service = units / "containerd.service"
    lines = service.read_text().replace("/usr/local/bin/containerd", "/usr/bin/containerd").splitlines()
    service.write_text("".join(f"{line}\n" for line in lines if not line.startswith(("Limit", "OOMScore"))))
    (units / "preload-images.service").write_text(_PRELOAD_UNIT)
    (units / "kubelet.service.d/20-preload.conf").write_text(_KUBELET_WAITS)
    config = root / "etc/containerd/config.toml"
    text = config.read_text()
    text = text.replace("SystemdCgroup = true", "SystemdCgroup = false")
    text = text.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
    pause = _kubeadm_image("pause")
    text = re.sub('sandbox_image = ".*"', f'sandbox_image = "{pause}"', text)
    config.write_text(text)
    (root / "etc/containerd/cri-base.json").write_text(_base_runtime_spec(root))
    for name in ("kubelet", "containerd", "undo-mount-hacks", "preload-images"):
        run("chroot", root, "systemctl", "enable", f"{name}.service")
    run("chroot", root, "systemctl", "mask", "systemd-binfmt.service")
    plugins = root / "opt/cni/bin"
    plugins.mkdir(parents=True, exist_ok=True)
    for plugin in ("ptp", "host-local", "loopback", "portmap"):
        shutil.copy2(root / "usr/lib/cni" / plugin, plugins / plugin)
    shutil.rmtree(root / "usr/lib/cni")
    shutil.copy2(binaries.NODE_BINARIES / "kubernetes", root / "usr/bin/kubelet")
    for name in ("kubeadm", "kubectl"):
        (root / "usr/bin" / name).symlink_to("kubelet")
    shutil.copy2(binaries.NODE_BINARIES / "crictl", root / "usr/local/bin/crictl")
    (root / "etc/kubernetes/manifests").mkdir(parents=True)
    (root / "kind/version").write_text(KUBERNETES_VERSION)
    (root / "etc/cni/net.d").mkdir(parents=True, exist_ok=True)
    init = root / "sbin/init"
    if not init.is_symlink():
        init.symlink_to("/usr/lib/systemd/systemd")


def _base_runtime_spec(root: Path) -> str:
    """containerd's default runtime spec as kind changes it: no rlimits, and kind's product-name hook."""
    spec = json.loads(run("chroot", root, "ctr", "oci", "spec"))
    spec["process"].pop("rlimits", None)
    hooks = spec.setdefault("hooks", {}).setdefault("createContainer", [])
    hooks.append({"path": "/kind/bin/mount-product-files.sh"})
    return json.dumps(spec)


def _kubeadm_images() -> list[str]:
    """Every image that this kubeadm will ask for, with its tag."""
    program = CACHE / "kubeadm" / "kubeadm"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.unlink(missing_ok=True)
    program.symlink_to(binaries.NODE_BINARIES / "kubernetes")
    listed = run(
        program, "config", "images", "list",
        "--image-repository", IMAGE_REPOSITORY, "--kubernetes-version", KUBERNETES_VERSION,
    )  # fmt: skip
    return listed.split()


def _kubeadm_image(name: str) -> str:
    return next(image for image in _kubeadm_images() if f"/{name}:" in image)


def _make_kubernetes_images(debian: Path, work: Path, archive: Path) -> None:
    """One layer with every program, under each name that kubeadm asks for; kube-proxy needs ``nft`` in it too."""
    programs = work / "root/usr/local/bin"
    programs.mkdir(parents=True)
    shutil.copy2(binaries.NODE_BINARIES / "kubernetes", programs / "kube-apiserver")
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        (programs / name).symlink_to("kube-apiserver")
    for name in ("etcd", "coredns", "pause"):
        shutil.copy2(binaries.NODE_BINARIES / name, programs / name)
    _copy_with_libraries(debian, "/usr/sbin/nft", work / "root")
    _copy_with_libraries(debian, "/usr/sbin/conntrack", work / "root")
    (work / "root/tmp").mkdir()
    images = _kubeadm_images()
    path = "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    layer = f"{IMAGE_REPOSITORY}/programs:latest"
    (work / "Containerfile").write_text(f"FROM scratch\nCOPY root/ /\n{path}")
    podman.build(layer, work)
    for image in images:
        name = image.rpartition("/")[2].partition(":")[0]
        entrypoint = f'ENTRYPOINT ["/usr/local/bin/{name}"]\n' if name in {"coredns", "pause"} else ""
        podman.build(image, work, stdin=f"FROM {layer}\n{entrypoint}")
    archive.unlink(missing_ok=True)
    run("podman", "save", "--quiet", "--multi-image-archive", "--output", archive, *images)
    run("podman", "rmi", "--force", layer, *images)


def _copy_with_libraries(debian: Path, program: str, target: Path) -> None:
    listing = run("chroot", debian, "ldd", program)
    files = {program} | {word for word in listing.split() if word.startswith("/")}
    for file in files:
        destination = target / file.lstrip("/")
        destination.parent.mkdir(parents=True, exist_ok=True)
        # Resolved inside the root file system: some of its links are absolute and would point into the host.
        real = run("chroot", debian, "readlink", "-f", file).strip()
        shutil.copy2(debian / real.lstrip("/"), destination)

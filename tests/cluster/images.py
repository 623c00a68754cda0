"""Builds the project's own image and the demo's PostgreSQL image, and loads images into the nodes."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cluster import kind, podman, rootfs, stamp
from tests.cluster.command import pipe, run, step
from tests.cluster.topology import (
    APP_IMAGE,
    APP_REPOSITORY,
    CACHE,
    HAPROXY_IMAGE,
    NODES,
    POSTGRES_IMAGE,
    REPOSITORY,
    Node,
)

BASE_PACKAGES = ("python3", "nftables", "iproute2", "fuse3", "util-linux", "procps", "ca-certificates")
"""The packages that the Dockerfile installs on an ordinary base image."""
BASE_IMAGE = "localhost/twinhull/base:bookworm"
CONTEXT = CACHE / "context"
"""The build context offline: the Dockerfile and what the host built."""

_POSTGRES = Path(__file__).parent / "postgres"
_ARTIFACTS_SCRIPT = Path(__file__).parent / "artifacts.sh"
_POSTGRES_ID = "999"
"""User and group of the official image, which templates name in ``runAsUser`` and ``fsGroup``."""


def build_twinhull() -> None:
    """Builds the project's image from the Dockerfile, with podman, online or offline."""
    kind.configure_podman()
    sources = [REPOSITORY / name for name in ("operator", "sidecar", "pyproject.toml", "Dockerfile")]
    stamp.once(
        "image-twinhull",
        stamp.digest(*sources, _ARTIFACTS_SCRIPT, *BASE_PACKAGES, str(kind.registry_answers())),
        lambda: podman.exists(APP_IMAGE),
        _make_twinhull,
        "build the twinhull image",
    )


def release_tag() -> str:
    """A tag of the built image that names its content, so that a changed image is never mistaken for the old one.

    Earlier ones are untagged, or every change of the code would leave an image behind.
    """
    tag = podman.identity(APP_IMAGE)[:12]
    for name in run("podman", "images", "--format={{.Repository}}:{{.Tag}}", APP_REPOSITORY).split():
        if name not in {APP_IMAGE, f"{APP_REPOSITORY}:{tag}"}:
            run("podman", "rmi", name)
    run("podman", "tag", APP_IMAGE, f"{APP_REPOSITORY}:{tag}")
    return tag


def build_postgres() -> None:
    """Builds the demo's PostgreSQL image from Debian's package, with the contract of the official image."""
    kind.configure_podman()
    version = stamp.digest(_POSTGRES, Path(__file__))
    root = rootfs.with_packages("postgres", ("postgresql-15",), _arrange_postgres, version)
    stamp.once(
        "image-postgres",
        version,
        lambda: podman.exists(POSTGRES_IMAGE),
        lambda: podman.import_root(POSTGRES_IMAGE, root, (
            'ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]',
            'CMD ["postgres"]',
            "ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENV PGDATA=/var/lib/postgresql/data",
            "ENV LANG=C.UTF-8",
            "EXPOSE 5432",
            "STOPSIGNAL SIGINT",
        )),
        "build the PostgreSQL image",
    )  # fmt: skip


def build_haproxy() -> None:
    """Builds an HAProxy image from Debian's package, with the contract of the official image."""
    kind.configure_podman()
    version = stamp.digest(Path(__file__))
    root = rootfs.with_packages("haproxy", ("haproxy",), version=version)
    stamp.once(
        "image-haproxy",
        version,
        lambda: podman.exists(HAPROXY_IMAGE),
        lambda: podman.import_root(HAPROXY_IMAGE, root, (
            'CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]',
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "STOPSIGNAL SIGUSR1",
        )),
        "build the HAProxy image",
    )  # fmt: skip


def load(image: str) -> None:
    """Copies an image from podman's storage into both nodes at once, unless they have that very image."""
    identity = "sha256:" + podman.identity(image)
    lacking = [node for node in NODES if _image_in(node, image) != identity]
    if not lacking:
        return
    with (
        step(f"load {image} into {', '.join(node.name for node in lacking)}"),
        TemporaryDirectory() as folder,
    ):
        archive = Path(folder) / "image.tar"
        run("podman", "save", "--quiet", "--output", archive, image)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: _import_into(node, archive), lacking))


def _import_into(node: Node, archive: Path) -> None:
    command = (
        "podman",
        "exec",
        "--interactive",
        node.name,
        "ctr",
        "--namespace=k8s.io",
        "images",
        "import",
        "-",
    )
    pipe(("cat", archive), command)


def _image_in(node: Node, image: str) -> str:
    """Identity of the image of that name in a node's containerd, or nothing."""
    listed = run("podman", "exec", node.name, "crictl", "images", "--output=json")
    for known in json.loads(listed)["images"]:
        if image in known["repoTags"]:
            return str(known["id"])
    return ""


def _make_twinhull() -> None:
    if kind.registry_answers():
        run("podman", "build", "--tag", APP_IMAGE, REPOSITORY)
        return
    root = rootfs.with_packages("base", BASE_PACKAGES)
    stamp.once(
        "image-base",
        stamp.digest(*BASE_PACKAGES),
        lambda: podman.exists(BASE_IMAGE),
        lambda: podman.import_root(BASE_IMAGE, root),
        "import the base image",
    )
    with step("build the wheel and the gate on the host"):
        run(
            "nice", "sh", _ARTIFACTS_SCRIPT, sys.executable, CONTEXT / "build/artifacts",
            cwd=REPOSITORY,
            extra={
                "MIRRORFS_TARGET_DIR": str(CACHE / "target-extension"),
                "GATE_TARGET_DIR": str(CACHE / "target-gate"),
            },
        )  # fmt: skip
    shutil.copy2(REPOSITORY / "Dockerfile", CONTEXT)
    podman.build(
        APP_IMAGE, CONTEXT, f"--build-arg=BASE={BASE_IMAGE}", f"--build-arg=BUILDER={BASE_IMAGE}",
        "--build-arg=ARTIFACTS=prebuilt", "--build-arg=PACKAGES=",
    )  # fmt: skip


def _arrange_postgres(root: Path) -> None:
    run("chroot", root, "groupmod", "--gid", _POSTGRES_ID, "postgres")
    run("chroot", root, "usermod", "--uid", _POSTGRES_ID, "postgres")
    for folder in ("var/lib/postgresql", "var/log/postgresql", "etc/postgresql", "run/postgresql"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        run("chown", "-R", f"{_POSTGRES_ID}:{_POSTGRES_ID}", root / folder)
    # The just-in-time compiler is half of the image, and a load on each node; PostgreSQL does without.
    for pattern in ("usr/lib/postgresql/15/lib/llvmjit*", "usr/lib/postgresql/15/lib/bitcode",
                    "usr/lib/x86_64-linux-gnu/libLLVM*", "usr/lib/llvm-*"):  # fmt: skip
        run("rm", "-rf", *root.glob(pattern))
    # Debian's package makes a database of its own at installation; this image makes one at its first start.
    shutil.rmtree(root / "var/lib/postgresql/15", ignore_errors=True)
    shutil.copy2(_POSTGRES / "docker-entrypoint.sh", root / "usr/local/bin/docker-entrypoint.sh")

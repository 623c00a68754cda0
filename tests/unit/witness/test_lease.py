"""The vote in the words of a Lease, and what a kubeconfig must hold."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from twinhull_sidecar.config import ConfigError
from twinhull_sidecar.witness import kubeconfig
from twinhull_sidecar.witness.ballot import Register, Write
from twinhull_sidecar.witness.lease import parse_lease, render_lease

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def test_what_is_written_is_what_is_read() -> None:
    lease = render_lease(Write("7", "a", "g1"), uid="u", transitions=2, now=NOW)
    assert lease["spec"] == {
        "holderIdentity": "a",
        "acquireTime": "2026-01-02T03:04:05.000000Z",
        "renewTime": "2026-01-02T03:04:05.000000Z",
        "leaseTransitions": 3,
    }
    assert parse_lease(lease) == Register("7", "a", "g1", "u")


def test_nobodys_vote_has_no_holder() -> None:
    lease = render_lease(Write(None, "", "g1"), uid="u", transitions=0, now=NOW)
    assert "holderIdentity" not in lease["spec"]
    assert "resourceVersion" not in lease["metadata"]


def config(**changes: Any) -> dict[str, Any]:
    cluster = {"server": "https://192.0.2.1:6443", **changes.pop("cluster", {})}
    user = changes.pop("user", {"token": "secret"})
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        **changes,
    }


def read(directory: Path, document: Any) -> kubeconfig.Access:
    path = directory / "site-c"
    path.write_text(yaml.safe_dump(document))
    return kubeconfig.read(path, "witnesses[0].kubeconfig")


def test_a_token_is_sent(tmp_path: Path) -> None:
    access = read(tmp_path, config())
    assert access.server == "https://192.0.2.1:6443"
    assert access.headers == {"Authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (config(user={"exec": {"command": "aws"}}), "exec needs what the sidecar has not"),
        (config(user={"client-certificate": "/a.crt"}), "client-certificate needs"),
        (config(cluster={"insecure-skip-tls-verify": True}), "insecure-skip-tls-verify is not taken"),
        (config(cluster={"certificate-authority": "/ca.crt"}), "names a file"),
        (config(cluster={"server": "http://192.0.2.1"}), "is not reached by https"),
        (config(cluster={"certificate-authority-data": "%"}), "unusable certificates"),
        (
            config(cluster={"certificate-authority-data": base64.b64encode(b"x").decode()}),
            "unusable certificates",
        ),
        (config(users=[]), "no complete kubeconfig"),
        ({"current-context": "c"}, "no complete kubeconfig"),
        ("words", "no complete kubeconfig"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, document)
    assert caught.value.field == "witnesses[0].kubeconfig"
    assert caught.value.mend


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"site-c cannot be read.*create the Secret"):
        kubeconfig.read(tmp_path / "site-c", "witnesses[0].kubeconfig")

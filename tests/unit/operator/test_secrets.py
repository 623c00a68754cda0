"""Certificates: the sidecar's own loader and a real TLS handshake accept them, and nobody else's."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path

import pytest
from cryptography import x509

from tests.unit.operator.samples import module
from twinhull_operator.render_secrets import (
    DamagedSecretError,
    read_secret,
    render_operator_secret,
    render_tls_secret,
)
from twinhull_sidecar import tls
from twinhull_sidecar.config import ConfigError

NOW = datetime.datetime.now(datetime.UTC)


def write(secret: dict[str, dict[str, str]], directory: Path) -> Path:
    """A Secret as a volume shows it."""
    directory.mkdir()
    for name, value in secret["data"].items():
        (directory / name).write_bytes(base64.b64decode(value))
    return directory


def test_both_nodes_and_the_operator_are_accepted_by_the_sidecars_loader(tmp_path: Path) -> None:
    made = module()
    operator = render_operator_secret(made, NOW)
    pods = write(render_tls_secret(made, read_secret(operator), NOW), tmp_path / "pods")
    own = write(operator, tmp_path / "own")
    for node in made.node_names:
        assert tls.load(pods, node, made.uid).name == f"{node}.{made.uid}.twinhull"
    assert tls.load(own, "operator", made.uid).key == tls.load(pods, "node-a", made.uid).key


def test_another_modules_certificate_is_refused(tmp_path: Path) -> None:
    made = module()
    pods = write(
        render_tls_secret(made, read_secret(render_operator_secret(made, NOW)), NOW), tmp_path / "pods"
    )
    with pytest.raises(ConfigError):
        tls.load(pods, "node-a", "another-uid")


def test_pods_get_no_key_that_signs_and_no_key_of_the_operator() -> None:
    made = module()
    secret = render_tls_secret(made, read_secret(render_operator_secret(made, NOW)), NOW)
    assert set(secret["data"]) == {"ca.crt", "key", "node-a.crt", "node-a.key", "node-b.crt", "node-b.key"}


def test_certificates_tolerate_a_clock_that_is_behind_and_their_authority_lasts_for_years() -> None:
    data = read_secret(render_operator_secret(module(), NOW))
    for name, days in (("operator.crt", 364), ("ca.crt", 3649)):
        certificate = x509.load_pem_x509_certificate(data[name])
        assert certificate.not_valid_before_utc < NOW - datetime.timedelta(hours=23)
        assert (certificate.not_valid_after_utc - NOW).days >= days


def test_a_secret_without_a_key_is_refused_by_name() -> None:
    secret = render_operator_secret(module(), NOW)
    del secret["data"]["ca.key"]
    with pytest.raises(DamagedSecretError, match=r"postgres-twinhull-operator has no ca\.key; delete"):
        read_secret(secret)


def test_a_damaged_authority_is_refused() -> None:
    operator = read_secret(render_operator_secret(module(), NOW)) | {"ca.key": b"junk"}
    with pytest.raises(DamagedSecretError, match="unreadable"):
        render_tls_secret(module(), operator, NOW)

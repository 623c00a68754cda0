"""Renewal of certificates over years of a simulated clock, and what is written to the API server."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from typing import Any, cast

import pytest
from cryptography import x509

from tests.unit.operator.samples import module
from twinhull_operator.apply_renewal import renew_certificates
from twinhull_operator.certificates import Lifetimes, is_signed_by
from twinhull_operator.kube import ApiError, Kube, Resource
from twinhull_operator.module import Object
from twinhull_operator.render_renewal import ends, renewed_operator, renewed_tls
from twinhull_operator.render_secrets import (
    decode_secret,
    read_secret,
    render_operator_secret,
    render_tls_secret,
    trusted,
)
from twinhull_operator.settings import SettingsError, read_settings

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
Data = Mapping[str, bytes]


def first(lifetimes: Lifetimes) -> tuple[Data, Data]:
    """Both Secrets as they are made."""
    operator = read_secret(render_operator_secret(module(), START, lifetimes))
    return operator, decode_secret(render_tls_secret(module(), operator, START, lifetimes))


def load(text: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text)


def is_accepted(leaf: bytes, bundle: bytes, now: datetime.datetime) -> bool:
    """Whether somebody who trusts the bundle accepts the certificate at this time."""

    def valid(certificate: x509.Certificate) -> bool:
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc

    return valid(load(leaf)) and any(
        valid(authority) and is_signed_by(load(leaf), authority)
        for authority in x509.load_pem_x509_certificates(bundle)
    )


@pytest.mark.parametrize(
    ("lifetimes", "step", "steps"),
    [
        (Lifetimes(), 10 * DAY, 900),
        # Lifetimes of a minute: the same in seconds.
        (
            Lifetimes(datetime.timedelta(seconds=60), datetime.timedelta(seconds=600)),
            datetime.timedelta(seconds=1),
            700,
        ),
    ],
    ids=["years", "minutes"],
)
def test_everybody_accepts_everybody_at_every_step(
    lifetimes: Lifetimes, step: datetime.timedelta, steps: int
) -> None:
    """Also who holds what was current a while ago: kubelet needs a minute to replace files, a sidecar some seconds.

    The time in between is a twelfth of a leaf's life, or a step before the overlap is over, whichever is less.
    """
    operator, pods = first(lifetimes)
    key = pods["key"]
    lag = max(1, min(lifetimes.leaf / 12, lifetimes.overlap - step) // step)
    history = [(operator, pods)]
    authorities, leaves = {operator["ca.crt"]}, {pods["node-a.crt"]}
    for number in range(1, steps):
        now = START + number * step
        operator = renewed_operator(module(), operator, now, lifetimes)
        pods = renewed_tls(module(), operator, pods, now, lifetimes)
        assert pods["key"] == operator["key"] == key
        late_operator, late_pods = history[-lag] if len(history) >= lag else history[0]
        for leaf in (pods["node-a.crt"], late_pods["node-a.crt"], operator["operator.crt"]):
            for bundle in (pods["ca.crt"], late_pods["ca.crt"], trusted(operator), trusted(late_operator)):
                assert is_accepted(leaf, bundle, now), now
        assert "ca.key" not in pods
        assert "next.key" not in pods
        assert len(x509.load_pem_x509_certificates(pods["ca.crt"])) <= 2
        history.append((operator, pods))
        authorities.add(operator["ca.crt"])
        leaves.add(pods["node-a.crt"])
    whole = steps * step
    assert 0.6 * whole / lifetimes.authority <= len(authorities) - 1 <= 1.6 * whole / lifetimes.authority
    # Every two thirds of a life, and once more with each authority.
    usual = whole / (lifetimes.leaf * 2 / 3)
    assert 0.9 * usual <= len(leaves) <= 1.2 * usual + len(authorities)


def test_nothing_changes_before_it_is_due() -> None:
    operator, pods = first(Lifetimes())
    now = START + 243 * DAY
    assert renewed_operator(module(), operator, now, Lifetimes()) == operator
    assert renewed_tls(module(), operator, pods, now, Lifetimes()) == pods
    later = START + 244 * DAY
    renewed = renewed_tls(module(), operator, pods, later, Lifetimes())
    assert {name for name in pods if renewed[name] != pods[name]} == {
        f"{node}.{end}" for node in module().node_names for end in ("crt", "key")
    }


def test_certificates_of_ten_years_from_an_earlier_release_stay_until_their_end_is_near() -> None:
    long = Lifetimes(leaf=3650 * DAY)
    operator, pods = first(long)
    now = START + 2000 * DAY
    assert renewed_tls(module(), operator, pods, now, Lifetimes()) == pods


def test_a_damaged_or_missing_certificate_is_made_anew() -> None:
    operator, pods = first(Lifetimes())
    damaged = dict(pods) | {"node-a.crt": b"junk"}
    del damaged["node-b.crt"]
    renewed = renewed_tls(module(), operator, damaged, START + DAY, Lifetimes())
    for node in module().node_names:
        assert is_accepted(renewed[f"{node}.crt"], renewed["ca.crt"], START + DAY)


def test_when_certificates_end() -> None:
    operator, pods = first(Lifetimes())
    assert set(ends(operator)) == {"ca", "operator"}
    assert ends(pods)["node-a"] == pytest.approx((START + 365 * DAY).timestamp())


class Server:
    """Secrets on an API server that checks versions."""

    def __init__(self, *secrets: Object) -> None:
        self.secrets = {secret["metadata"]["name"]: secret for secret in secrets}
        self.patches: list[str] = []
        self.error: ApiError | None = None
        for secret in secrets:
            secret["metadata"]["resourceVersion"] = "1"

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return self.secrets.get(name)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> None:
        if self.error is not None:
            raise self.error
        secret = self.secrets[name]
        assert patch["metadata"] == {"resourceVersion": secret["metadata"]["resourceVersion"]}
        self.patches.append(name)
        secret["metadata"]["resourceVersion"] += "1"
        data = secret["data"] | patch["data"]
        secret["data"] = {key: value for key, value in data.items() if value is not None}


@pytest.fixture
def server() -> Server:
    """With both Secrets of the module, made at START."""
    operator = render_operator_secret(module(), START)
    return Server(operator, render_tls_secret(module(), read_secret(operator), START))


async def renew(server: Server, now: datetime.datetime) -> Mapping[str, float] | None:
    return await renew_certificates(cast("Kube", server), module(), Lifetimes(), now)


async def test_only_what_is_due_is_written_and_only_once(server: Server) -> None:
    assert set(await renew(server, START + DAY) or {}) == {"ca", "operator", "node-a", "node-b"}
    assert server.patches == []
    found = await renew(server, START + 250 * DAY)
    assert server.patches == ["postgres-twinhull-operator", "postgres-twinhull-tls"]
    assert found is not None
    assert found["node-a"] == pytest.approx((START + 615 * DAY).timestamp())
    await renew(server, START + 251 * DAY)
    assert len(server.patches) == 2


async def test_a_replaced_authority_leaves_no_key_behind(server: Server) -> None:
    keys: set[Any] = set()
    for days in range(0, 3650, 30):
        await renew(server, START + days * DAY)
        keys |= {
            name for name in server.secrets["postgres-twinhull-operator"]["data"] if name.endswith(".key")
        }
    assert keys == {"ca.key", "operator.key", "next.key"}
    data = server.secrets["postgres-twinhull-operator"]["data"]
    assert "next.key" not in data
    assert (
        base64.b64decode(data["old.crt"]) in decode_secret(server.secrets["postgres-twinhull-tls"])["ca.crt"]
    )


async def test_what_hinders_a_renewal_hinders_nothing_else(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.error = ApiError(403, "Forbidden", "secrets is forbidden: cannot patch")
    assert await renew(server, START + 250 * DAY) is None
    assert "renewed later: secrets is forbidden" in caplog.text
    server.error = None
    server.secrets["postgres-twinhull-operator"]["data"]["ca.crt"] = base64.b64encode(b"junk").decode()
    assert await renew(server, START + 250 * DAY) is None
    assert "cannot be renewed" in caplog.text
    # A Secret of that name that belongs to somebody else is left alone.
    server.secrets["postgres-twinhull-tls"]["metadata"]["ownerReferences"] = []
    assert await renew(server, START + 250 * DAY) is None
    assert server.patches == []


def test_the_lifetime_from_the_chart() -> None:
    image = {"TWINHULL_SIDECAR_IMAGE": "x"}
    assert read_settings(image).lifetimes == Lifetimes()
    assert read_settings(image | {"TWINHULL_CERTIFICATE_LIFETIME": "60"}).lifetimes.leaf.seconds == 60
    for wrong in ("1y", "9", "-5", "999999999999"):
        with pytest.raises(SettingsError, match="TWINHULL_CERTIFICATE_LIFETIME"):
            read_settings(image | {"TWINHULL_CERTIFICATE_LIFETIME": wrong})

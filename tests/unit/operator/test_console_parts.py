"""Sessions, throttle, certificate and settings of the console."""

from __future__ import annotations

import base64
import datetime
import json
import re
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from tests.unit.operator.samples import ROOT
from twinhull_operator.console import sessions
from twinhull_operator.console.access import User
from twinhull_operator.console.certificate import GivenCertificate, make_certificate, own_context
from twinhull_operator.console.files import read_files
from twinhull_operator.console.sessions import Sessions, token_expiry
from twinhull_operator.console.settings import read_console_settings
from twinhull_operator.console.throttle import Throttle, address_key
from twinhull_operator.settings import SettingsError

NOW = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
STATIC = ROOT / "operator" / "twinhull_operator" / "console" / "static"


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def jwt(expires: float) -> str:
    """A token that says when it ends."""
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


def test_a_session_ends_after_a_working_day_whatever_is_open() -> None:
    clock = Clock()
    kept = Sessions(clock, clock)
    session = kept.begin(User("alice"), "opaque")
    session.streams = 1
    clock.now += sessions.LONGEST - 1
    assert kept.find(session.id) is session
    clock.now += 1
    assert kept.find(session.id) is None


def test_a_session_without_an_open_page_ends_earlier() -> None:
    clock = Clock()
    kept = Sessions(clock, clock)
    session = kept.begin(User("alice"), "opaque")
    clock.now += sessions.IDLE + 1
    assert kept.find(session.id) is None


def test_a_session_ends_with_its_token() -> None:
    clock = Clock()
    kept = Sessions(clock, clock)
    session = kept.begin(User("alice"), jwt(clock.now + 60))
    clock.now += 59
    assert kept.find(session.id) is session
    clock.now += 1
    assert kept.find(session.id) is None


def test_one_user_has_a_limited_number_of_sessions() -> None:
    kept = Sessions()
    opened = [kept.begin(User("alice"), "t") for _ in range(sessions.MOST_OF_ONE + 1)]
    assert kept.find(opened[0].id) is None
    assert kept.find(opened[-1].id) is opened[-1]


def test_neither_token_nor_csrf_token_is_in_what_a_log_would_show() -> None:
    session = Sessions().begin(User("alice"), "very-secret")
    assert "very-secret" not in repr(session)
    assert session.csrf not in repr(session)


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.e30.c", "a.W10.c", "..", jwt(5.0)])
def test_the_end_of_a_token_is_read_or_unknown(token: str) -> None:
    assert token_expiry(token) == (5.0 if token == jwt(5.0) else None)


def test_a_throttle_lets_a_burst_through_and_then_one_at_a_time() -> None:
    clock = Clock()
    throttle = Throttle(3, 10.0, clock)
    assert [throttle.wait("a") for _ in range(4)] == [0.0, 0.0, 0.0, 10.0]
    assert throttle.wait("b") == 0.0
    clock.now += 10
    assert throttle.wait("a") == 0.0
    assert throttle.wait("a") > 0


@pytest.mark.parametrize(
    ("remote", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_who_counts_as_one(remote: str | None, key: str) -> None:
    assert address_key(remote) == key


def test_the_made_certificate_is_for_the_consoles_names() -> None:
    certificate = x509.load_pem_x509_certificate(make_certificate(["localhost", "127.0.0.1"], NOW)[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert str(names.get_values_for_type(x509.IPAddress)[0]) == "127.0.0.1"
    assert own_context(["localhost"], NOW).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_given_certificate_is_read_anew_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    def write() -> None:
        certificate, key = make_certificate(["console.test"], datetime.datetime.now(datetime.UTC))
        (tmp_path / "tls.crt").write_bytes(certificate)
        (tmp_path / "tls.key").write_bytes(key)

    write()
    given = GivenCertificate(tmp_path)
    assert given.load() is False
    (tmp_path / "tls.key").write_text("broken")
    with pytest.raises(ssl.SSLError):
        given.load()
    write()
    assert given.load() is True


def test_the_console_is_off_unless_a_port_is_given() -> None:
    assert read_console_settings({}) is None
    found = read_console_settings(
        {"TWINHULL_CONSOLE_PORT": "8443", "TWINHULL_CONSOLE_NAMES": "a.test localhost"}
    )
    assert found is not None
    assert (found.port, found.certificate) == (8443, None)
    assert found.names == ("localhost", "127.0.0.1", "::1", "a.test")


@pytest.mark.parametrize(
    "environment",
    [
        {"TWINHULL_CONSOLE_PORT": "0"},
        {"TWINHULL_CONSOLE_PORT": "https"},
        {"TWINHULL_CONSOLE_PORT": "8443", "TWINHULL_CONSOLE_CERTIFICATE": "tls"},
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=list(environment)[-1]):
        read_console_settings(environment)


def test_the_page_loads_nothing_from_elsewhere_and_makes_no_markup_of_texts() -> None:
    files = read_files()
    assert set(files) == {path.name for path in STATIC.iterdir()}
    for name, file in files.items():
        text = file.body.decode()
        for address in re.findall(r"https?://[^\s\"']+", text):
            assert address == "http://www.w3.org/2000/svg", (name, address)
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\bon\w+=", text
        ), name
        assert not re.search(r"style=|<style|javascript:", text), name
    page = files["index.html"].body.decode()
    assert not re.search(r"<script(?![^>]*src=)", page)
    for name in re.findall(r"/static/([\w.]+)", " ".join(f.body.decode() for f in files.values())):
        assert name in files

"""The heartbeat on the wire: what comes back equals what was sent, and everything else is refused by kind."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinhull_sidecar.heartbeat.datagram import MAX_BYTES, Datagram, Echo, RefusedError, Sealer

KEY = bytes(range(32))
SENT = Datagram("a", "b", "lan", "0123", 17, Echo("4567", 9), {"role": "Primary", "history": ["x", "y"]})


def refusal(wire: bytes, sealer: Sealer | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        (sealer or Sealer("uid", KEY)).open(wire)
    return caught.value.kind


def test_what_was_sealed_is_opened_equal() -> None:
    sealer = Sealer("uid", KEY)
    assert sealer.open(sealer.seal(SENT)) == SENT


def test_another_key_is_forged_and_another_module_is_foreign() -> None:
    wire = Sealer("uid", KEY).seal(SENT)
    assert refusal(wire, Sealer("uid", KEY[::-1])) == "forged"
    assert refusal(wire, Sealer("other uid", KEY)) == "foreign"


def test_every_changed_byte_is_refused() -> None:
    wire = Sealer("uid", KEY).seal(SENT)
    for position in range(len(wire)):
        changed = bytearray(wire)
        changed[position] ^= 1
        assert refusal(bytes(changed)) in {"malformed", "version", "foreign", "forged"}


def test_an_unknown_version_names_both() -> None:
    wire = bytearray(Sealer("uid", KEY).seal(SENT))
    wire[4] = 9
    with pytest.raises(RefusedError, match="version 9, this sidecar speaks 1"):
        Sealer("uid", KEY).open(bytes(wire))


# No deadline: a busy machine may hold any single example up.
@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    assert refusal(noise) == "malformed"


@pytest.mark.parametrize(
    "change",
    [{"seq": "1"}, {"seq": True}, {"echo": ["x"]}, {"echo": ["x", "1"]}, {"from": 1}, {"payload": []}],
    ids=str,
)
def test_a_sealed_body_of_the_wrong_shape_is_malformed(change: dict[str, object]) -> None:
    sealer = Sealer("uid", KEY)
    wire = sealer.seal(SENT)
    body = json.dumps(json.loads(wire[45:]) | change).encode()
    head = wire[:13]
    assert refusal(head + sealer._mac(body) + body) == "malformed"


def test_a_message_too_long_for_a_datagram_is_the_senders_error() -> None:
    with pytest.raises(ValueError, match="longer than"):
        Sealer("uid", KEY).seal(Datagram("a", "b", "lan", "0", 1, None, {"text": "x" * MAX_BYTES}))

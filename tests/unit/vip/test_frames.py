"""Frames against bytes written down from the RFCs by hand, and the judgement of received ones."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from twinhull_sidecar.vip import frames

MAC = bytes.fromhex("02aabbccdd01")
OTHER = bytes.fromhex("02aabbccdd02")
VIP4 = IPv4Address("10.77.0.200")
VIP6 = IPv6Address("fd77::c8")


def test_gratuitous_arp_is_a_request_and_a_reply_for_the_own_address() -> None:
    request, reply = frames.gratuitous_arp(MAC, VIP4)
    head = "ffffffffffff 02aabbccdd01 0806 0001 0800 06 04"
    assert request == bytes.fromhex(f"{head} 0001 02aabbccdd01 0a4d00c8 000000000000 0a4d00c8")
    assert reply == bytes.fromhex(f"{head} 0002 02aabbccdd01 0a4d00c8 ffffffffffff 0a4d00c8")


def test_a_probe_has_no_sender_address() -> None:
    head = "ffffffffffff 02aabbccdd01 0806 0001 0800 06 04"
    probe = bytes.fromhex(f"{head} 0001 02aabbccdd01 00000000 000000000000 0a4d00c8")
    assert frames.arp_probe(MAC, VIP4) == probe


def test_a_neighbour_advertisement_overrides_and_is_sent_to_all_nodes() -> None:
    frame = frames.unsolicited_advertisement(MAC, VIP6, router=False)
    source, target = VIP6.packed.hex(), IPv6Address("ff02::1").packed.hex()
    assert frame[:54] == bytes.fromhex(
        f"333300000001 02aabbccdd01 86dd 60000000 0020 3a ff {source} {target}"
    )
    assert frame[54:56] == bytes.fromhex("8800")
    assert frame[58:] == bytes.fromhex(f"20000000 {source} 0201 02aabbccdd01")
    assert frames.unsolicited_advertisement(MAC, VIP6, router=True)[58] == 0xA0


def test_a_solicitation_goes_from_nobody_to_the_addresss_own_group() -> None:
    frame = frames.solicitation_probe(MAC, VIP6)
    group = IPv6Address("ff02::1:ff00:c8").packed.hex()
    assert frame[:6] == bytes.fromhex("3333ff0000c8")
    assert frame[22:54] == bytes.fromhex(f"{bytes(16).hex()} {group}")
    assert frame[58:] == bytes.fromhex(f"00000000 {VIP6.packed.hex()}")


@pytest.mark.parametrize(
    "frame", [frames.solicitation_probe(MAC, VIP6), frames.unsolicited_advertisement(MAC, VIP6, router=True)]
)
def test_the_checksum_verifies(frame: bytes) -> None:
    body = frame[54:]
    pseudo = frame[22:54] + len(body).to_bytes(4, "big") + bytes([0, 0, 0, 58])
    data = pseudo + body
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_an_answer_is_a_claim_and_a_foreign_probe_is_one_that_probes() -> None:
    reply = frames.gratuitous_arp(OTHER, VIP4)[1]
    assert frames.arp_claim(reply, MAC, VIP4) == frames.Claim(VIP4, OTHER, probing=False)
    probe = frames.arp_probe(OTHER, VIP4)
    assert frames.arp_claim(probe, MAC, VIP4) == frames.Claim(VIP4, OTHER, probing=True)
    advertisement = frames.unsolicited_advertisement(OTHER, VIP6, router=False)
    assert frames.neighbour_claim(advertisement, MAC, VIP6) == frames.Claim(VIP6, OTHER, probing=False)
    solicitation = frames.solicitation_probe(OTHER, VIP6)
    assert frames.neighbour_claim(solicitation, MAC, VIP6) == frames.Claim(VIP6, OTHER, probing=True)


def test_own_frames_other_addresses_forwarded_and_short_frames_are_no_claims() -> None:
    assert frames.arp_claim(frames.gratuitous_arp(MAC, VIP4)[0], MAC, VIP4) is None
    assert frames.arp_claim(frames.gratuitous_arp(OTHER, IPv4Address("10.77.0.1"))[0], MAC, VIP4) is None
    advertisement = frames.unsolicited_advertisement(OTHER, VIP6, router=False)
    assert frames.neighbour_claim(advertisement, OTHER, VIP6) is None
    assert frames.neighbour_claim(advertisement, MAC, IPv6Address("fd77::1")) is None
    forwarded = bytearray(advertisement)
    forwarded[21] = 254
    assert frames.neighbour_claim(bytes(forwarded), MAC, VIP6) is None
    for length in range(len(advertisement)):
        frames.neighbour_claim(advertisement[:length], MAC, VIP6)
        frames.arp_claim(frames.arp_probe(OTHER, VIP4)[:length], MAC, VIP4)


def test_a_clients_question_for_the_address_is_no_claim() -> None:
    question = bytearray(frames.arp_probe(OTHER, VIP4))
    question[28:32] = IPv4Address("10.77.0.100").packed
    assert frames.arp_claim(bytes(question), MAC, VIP4) is None

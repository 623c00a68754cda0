"""ICMP echo, byte by byte."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Raw

from twinhull_sidecar.witness.probe import checksum, echo_request, is_reply

TOKEN = b"0123456789abcdef"


def test_the_request_is_an_echo_request_with_a_right_checksum() -> None:
    parsed = ICMP(echo_request(4, TOKEN))
    assert (parsed.type, parsed.code, bytes(parsed[Raw])) == (8, 0, TOKEN)
    assert checksum(echo_request(4, TOKEN)) == 0
    assert ICMPv6EchoRequest(echo_request(6, TOKEN)).type == 128


def test_only_the_answer_to_this_request_counts() -> None:
    reply = bytes(IP(src="192.0.2.1", dst="192.0.2.2") / ICMP(type=0) / Raw(TOKEN))
    assert is_reply(4, reply, TOKEN)
    assert not is_reply(4, reply, b"another token...")
    assert not is_reply(4, bytes(IP() / ICMP(type=8) / Raw(TOKEN)), TOKEN)
    assert not is_reply(4, b"", TOKEN)
    assert not is_reply(4, reply[:22], TOKEN)
    assert is_reply(6, bytes(ICMPv6EchoReply(data=TOKEN)), TOKEN)
    assert not is_reply(6, bytes(ICMPv6EchoRequest(data=TOKEN)), TOKEN)

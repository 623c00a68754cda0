"""Signs of life: only a datagram that echoes this process, newer than all before it, counts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinhull_sidecar.heartbeat.datagram import Datagram, Echo, RefusedError
from twinhull_sidecar.heartbeat.session import Answer, ReceivedMessage, Session

FRESH = 3.0


def node(name: str, incarnation: str, started_at: float = 100.0) -> Session:
    return Session(name, "b" if name == "a" else "a", incarnation, started_at, FRESH)


def introduced(now: float = 100.0) -> tuple[Session, Session]:
    """Two sessions that have accepted each other on link ``lan``."""
    a, b = node("a", "A", now), node("b", "B", now)
    answer = b.receive(a.outgoing("lan", {}, now), "lan", now)
    assert isinstance(answer, Answer)
    accepted = a.receive(b.outgoing("lan", {}, now, answer.echo), "lan", now)
    assert isinstance(accepted, ReceivedMessage)
    assert isinstance(b.receive(a.outgoing("lan", {}, now), "lan", now), ReceivedMessage)
    return a, b


def kind(session: Session, datagram: Datagram, link: str, now: float) -> str:
    with pytest.raises(RefusedError) as caught:
        session.receive(datagram, link, now)
    return caught.value.kind


def test_the_first_datagram_only_gets_an_answer_and_the_answer_counts() -> None:
    a, b = node("a", "A"), node("b", "B")
    answer = b.receive(a.outgoing("lan", {}, 100.1), "lan", 100.1)
    assert isinstance(answer, Answer)
    assert b.heard_at("lan") is None
    assert isinstance(a.receive(b.outgoing("lan", {}, 100.2, answer.echo), "lan", 100.2), ReceivedMessage)
    assert a.heard_at("lan") == 100.2
    accepted = b.receive(a.outgoing("lan", {"role": "Primary"}, 100.3), "lan", 100.3)
    assert isinstance(accepted, ReceivedMessage)
    assert accepted.newest
    assert accepted.payload["role"] == "Primary"


def test_what_was_lost_is_counted_by_link_when_the_next_one_comes() -> None:
    a, b = introduced()
    for number in range(5):
        beat = b.outgoing("lan", {}, 101.0 + number)
        other = b.outgoing("direct", {}, 101.0 + number)
        a.receive(other, "direct", 101.0 + number)
        if number not in (1, 2):
            a.receive(beat, "lan", 101.0 + number)
    assert (a.lost("lan"), a.lost("direct"), a.lost("never")) == (2, 0, 0)
    # Lost ones are not known before something comes; what was overtaken counts as lost and is not taken back.
    overtaken, last = b.outgoing("lan", {}, 107.0), b.outgoing("lan", {}, 108.0)
    assert a.lost("lan") == 2
    a.receive(last, "lan", 108.0)
    assert kind(a, overtaken, "lan", 108.1) == "replayed"
    assert a.lost("lan") == 3


def test_a_new_process_of_the_peer_counts_anew_and_one_of_an_older_release_not_at_all() -> None:
    a, b = introduced()
    for _ in range(50):
        b.outgoing("lan", {}, 101.0)
    again = node("b", "B2", 110.0)
    answer = a.receive(again.outgoing("lan", {}, 110.0), "lan", 110.0)
    assert isinstance(answer, Answer)
    told = again.receive(a.outgoing("lan", {}, 110.1, answer.echo), "lan", 110.1)
    assert isinstance(told, ReceivedMessage)
    assert isinstance(a.receive(again.outgoing("lan", {}, 110.2), "lan", 110.2), ReceivedMessage)
    assert a.lost("lan") == 0
    again.outgoing("lan", {}, 110.3)
    a.receive(replace(again.outgoing("lan", {}, 110.4), count=None), "lan", 110.4)
    assert a.lost("lan") == 0


def test_what_was_accepted_is_counted_by_link_and_what_was_lost_is_not() -> None:
    a, b = introduced()
    before = a.accepted("lan")
    for number in range(5):
        lost = number == 3
        beat = b.outgoing("lan", {}, 101.0 + number)
        if not lost:
            a.receive(beat, "lan", 101.0 + number)
    assert (a.accepted("lan") - before, a.accepted("direct")) == (4, 0)


def test_hears_ms_is_the_age_of_the_last_sign_of_life_over_any_link() -> None:
    a, _ = introduced()
    assert a.outgoing("direct", {}, 100.25).payload["hears_ms"] == 250.0
    assert node("a", "A").outgoing("lan", {}, 101.0).payload["hears_ms"] is None


def test_acknowledged_at_is_when_the_echoed_datagram_was_sent() -> None:
    a, b = introduced()
    b.receive(a.outgoing("lan", {}, 101.5), "lan", 101.6)
    accepted = a.receive(b.outgoing("lan", {}, 105.0), "lan", 105.1)
    assert isinstance(accepted, ReceivedMessage)
    assert accepted.acknowledged_at == pytest.approx(101.5)
    assert accepted.received_at == 105.1


def test_a_replay_counts_for_nothing_also_on_another_link() -> None:
    a, b = introduced()
    recorded = b.outgoing("lan", {}, 101.0)
    a.receive(recorded, "lan", 101.0)
    assert kind(a, recorded, "lan", 109.0) == "replayed"
    assert kind(a, recorded, "direct", 109.0) == "misdirected"
    assert a.heard_at("lan") == 101.0


def test_an_own_datagram_that_comes_back_is_refused() -> None:
    a, _ = introduced()
    assert kind(a, a.outgoing("lan", {}, 101.0), "lan", 101.0) == "misdirected"


def test_of_two_links_only_the_newer_datagram_says_how_the_peer_is() -> None:
    a, b = introduced()
    early = b.outgoing("lan", {}, 101.0)
    late = b.outgoing("direct", {}, 101.0)
    second = a.receive(late, "direct", 101.1)
    first = a.receive(early, "lan", 101.2)
    assert isinstance(second, ReceivedMessage)
    assert isinstance(first, ReceivedMessage)
    assert (second.newest, first.newest) == (True, False)
    assert a.heard_at("lan") == 101.2


def test_a_restarted_peer_must_introduce_itself_and_retires_its_old_life() -> None:
    a, b = introduced()
    unheard = b.outgoing("lan", {}, 101.0)
    reborn = node("b", "B2", 102.0)
    answer = a.receive(reborn.outgoing("lan", {}, 102.0), "lan", 102.0)
    assert isinstance(answer, Answer)
    reborn.receive(a.outgoing("lan", {}, 102.0, answer.echo), "lan", 102.0)
    assert isinstance(a.receive(reborn.outgoing("lan", {}, 102.3), "lan", 102.3), ReceivedMessage)
    assert kind(a, unheard, "lan", 102.4) == "replayed"


def test_a_recording_of_an_earlier_own_life_introduces_nobody() -> None:
    _, b = introduced()
    recorded = b.outgoing("lan", {}, 101.0)
    again = node("a", "A2", 103.0)
    assert isinstance(again.receive(recorded, "lan", 103.1), Answer)
    assert again.heard_at("lan") is None


def test_an_unknown_incarnation_with_an_old_echo_introduces_nobody() -> None:
    a = node("a", "A")
    echo = Echo("A", a.outgoing("lan", {}, 101.0).seq)
    stale = Datagram("b", "a", "lan", "B", 5, echo, {})
    assert isinstance(a.receive(stale, "lan", 101.0 + FRESH + 0.1), Answer)


def test_an_echo_of_what_was_never_sent_is_malformed() -> None:
    a, b = introduced()
    datagram = b.outgoing("lan", {}, 101.0)
    assert datagram.echo is not None
    future = replace(datagram, echo=Echo("A", datagram.echo.seq + 10**9))
    assert kind(a, future, "lan", 101.0) == "malformed"


@given(st.lists(st.tuples(st.sampled_from(["lan", "direct"]), st.integers(0, 30)), max_size=60))
def test_whatever_is_replayed_in_whatever_order_a_datagram_counts_once(plan: list[tuple[str, int]]) -> None:
    a, b = introduced()
    sent = [b.outgoing(link, {}, 101.0 + n / 10) for n in range(16) for link in ("lan", "direct")]
    counted: list[tuple[str, int]] = []
    for (link, index), step in zip(plan, itertools.count(), strict=False):
        try:
            judged = a.receive(sent[index], link, 110.0 + step)
        except RefusedError:
            continue
        assert isinstance(judged, ReceivedMessage)
        counted.append((link, judged.seq))
    assert len(set(counted)) == len(counted)
    for link in ("lan", "direct"):
        numbers = [seq for name, seq in counted if name == link]
        assert numbers == sorted(numbers)

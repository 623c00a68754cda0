"""A primary acknowledges nothing while its peer may have taken over unheard (DESIGN.md R1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.role.scene import FOLLOWING, PRIMARY, RECORD, SERVING, START, Scene, T, heard
from twinhull_sidecar.role.model import Decision, GoAlone, Record, RenewLease

NOW = START + 10.0
#: The peer's newest word answers what this node sent then.
KNOWN = NOW - 0.2
#: An old acknowledgement has just come on the stream.
LATE = replace(SERVING, heard_at=NOW + T + 0.2)


def lease(decision: Decision) -> RenewLease:
    """The lease that it gives."""
    return next(effect for effect in decision.effects if isinstance(effect, RenewLease))


def doubting() -> Scene:
    """A primary whose peer has been silent for longer than the detection timeout."""
    scene = Scene().serving()
    scene.see(NOW + T - 0.3, **PRIMARY, **heard(NOW, FOLLOWING))
    scene.see(NOW + T + 0.1, **PRIMARY, **heard(NOW, FOLLOWING))
    assert scene.state.doubted_since == NOW + T + 0.1
    return scene


def test_a_heard_peer_shortens_no_lease() -> None:
    scene = Scene().serving()
    assert lease(scene.see(NOW + 0.4, **PRIMARY, **heard(NOW, FOLLOWING))).writes_until is None


def test_writes_end_with_the_timeout_though_application_and_address_go_on() -> None:
    scene = Scene().serving()
    given = lease(scene.see(NOW + T - 0.3, **PRIMARY, **heard(NOW, FOLLOWING)))
    assert given == RenewLease(NOW + T - 0.3 + T / 2, writes_until=KNOWN + T)
    assert given.acknowledging_until == KNOWN + T


def test_once_it_has_ended_it_is_not_renewed() -> None:
    scene = doubting()
    given = lease(scene.see(NOW + T + 0.2, **PRIMARY, **heard(NOW, FOLLOWING)))
    assert given.acknowledging_until <= KNOWN + T


def test_what_comes_on_the_stream_may_be_old_and_proves_nothing() -> None:
    scene = doubting()
    seen = scene.see(NOW + T + 0.3, **{**PRIMARY, "engine": LATE}, **heard(NOW, FOLLOWING))
    assert lease(seen).acknowledging_until <= KNOWN + T
    assert seen.code == "WaitingForPeer"


def test_an_old_datagram_proves_nothing_either() -> None:
    scene = doubting()
    old = heard(NOW + T + 0.2, FOLLOWING)
    assert old["peer"].acknowledged_at < (scene.state.doubted_since or 0.0)
    assert scene.see(NOW + T + 0.2, **PRIMARY, **old).state.doubted_since is not None


def test_the_peers_word_ends_the_doubt() -> None:
    scene = doubting()
    seen = scene.see(NOW + T + 0.4, **PRIMARY, **heard(NOW + T + 0.4, FOLLOWING))
    assert seen.state.doubted_since is None
    assert lease(seen) == RenewLease(NOW + T + 0.4 + T / 2)
    assert seen.code == "InSync"


@pytest.mark.parametrize("said", [{"serving": True}, {"claiming": True}])
def test_the_word_of_a_peer_that_serves_or_is_about_to_does_not(said: dict[str, bool]) -> None:
    # Of the preferred node and with the same data, so that this node goes on and the peer yields.
    scene = doubting()
    message = replace(FOLLOWING, in_sync=False, **said)  # type: ignore[arg-type]
    seen = scene.see(NOW + T + 0.4, **PRIMARY, **heard(NOW + T + 0.4, message))
    assert seen.state.serving
    assert seen.state.doubted_since is not None
    assert lease(seen).acknowledging_until <= KNOWN + T


def test_without_a_word_it_goes_on_alone_like_any_other_although_the_stream_is_there() -> None:
    scene = doubting()
    engine = replace(SERVING, heard_at=NOW + 4.5)
    seen = scene.see(NOW + 4.6, **{**PRIMARY, "engine": engine}, **heard(NOW, FOLLOWING))
    assert seen.effects[-1] == GoAlone("s1")


def test_alone_there_is_no_doubt() -> None:
    scene = doubting()
    alone: Record = replace(RECORD, alone=True, last_role="primary")
    engine = replace(SERVING, alone=True, connected=False, in_sync=False, disconnected_at=NOW + 4.5)
    seen = scene.see(NOW + 4.8, **{**PRIMARY, "record": alone, "engine": engine}, **heard(NOW, FOLLOWING))
    assert seen.state.doubted_since is None
    assert lease(seen) == RenewLease(NOW + 4.8 + T / 2)

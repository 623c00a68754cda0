"""Builders for one node's situation: node ``a`` of the pair ``a``, ``b``, with a detection timeout of 3 s."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twinhull_sidecar.role import decide as role
from twinhull_sidecar.role.model import (
    Decision,
    EngineView,
    LinkView,
    Observation,
    PeerMessage,
    PeerView,
    Persisted,
    Phase,
    Record,
    Settings,
    State,
    WorkloadView,
)

START = 100.0
T = 3.0
IN_SYNC = EngineView(mode="secondary", connected=True, in_sync=True, stream="s1")
LOST = replace(IN_SYNC, connected=False, disconnected_at=START + 10.0)
SERVING = EngineView(mode="primary", connected=True, in_sync=True, stream="s1")
RUNNING = WorkloadView(Phase.RUNNING, epoch=1)
RECORD = Record(fresh=False, has_data=True, generation="g1", last_role="secondary")


def settings(**changes: Any) -> Settings:
    """Node a's settings."""
    base = Settings(node="a", peer="b", nodes=("a", "b"), uid="u", detection_timeout=T)
    return replace(base, **changes)


def says(**fields: Any) -> PeerMessage:
    """What b says; by default that it serves generation g1 on stream s1."""
    base: dict[str, Any] = {
        "fresh": False,
        "generation": "g1",
        "serving": True,
        "stream": "s1",
        "role": "Primary",
    }
    return PeerMessage(node="b", uid="u", **{**base, **fields})


def heard(at: float, message: PeerMessage | None = None, **fields: Any) -> dict[str, Any]:
    """Observation fields: b was heard at ``at``, by an echo of what was sent a moment earlier."""
    view = PeerView(message if message is not None else says(**fields), at, at - 0.2, "i1")
    return {"peer": view, "links": (LinkView("link", at), LinkView("other", at - 0.05))}


class Scene:
    """Calls the decision over and over, with a state of its own."""

    def __init__(self, *, persisted: Persisted | None = None, **changes: Any) -> None:
        self.state: State = role.begin(settings(**changes), START, persisted or Persisted())
        self.last: Decision | None = None

    def see(self, now: float, **fields: Any) -> Decision:
        """One call at ``now``; as the control loop does, it is called often enough not to look frozen."""
        if self.state.last_tick is not None and now > self.state.last_tick:
            self.state = self.state.having(last_tick=max(self.state.last_tick, now - 0.1))
            peer: PeerView | None = fields.get("peer")
            if self.state.doubted_since is None and peer is not None and now - peer.acknowledged_at < T:
                self.state = self.state.having(writes_until=None)  # it was renewed in between
        return self.jump(now, **fields)

    def jump(self, now: float, **fields: Any) -> Decision:
        """One call at ``now``, with nothing in between: the process stood still."""
        given = {"record": RECORD, "engine": EngineView(), **fields}
        self.last = role.decide(self.state, Observation(now=now, **given))
        self.state = self.last.state
        return self.last

    def serving(self, now: float = START + 10.0, **fields: Any) -> Scene:
        """Make this node the primary, in sync with b."""
        self.state = self.state.having(serving=True, serving_since=now - 5.0, last_tick=now - 0.1, epoch=1)
        self.see(now, **{**PRIMARY, **heard(now, FOLLOWING), **fields})
        return self


#: Observation fields of a healthy primary, and what its secondary says.
PRIMARY: dict[str, Any] = {
    "engine": SERVING,
    "record": replace(RECORD, last_role="primary"),
    "workload": RUNNING,
    "vip_held": True,
}
FOLLOWING = says(serving=False, in_sync=True, role="Secondary")

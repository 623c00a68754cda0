"""One history: two nodes, a list of faults, and the invariants checked after every event."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from tests.simulation.faults import Fault, inject, mend, timeout_of
from tests.simulation.network import LINKS, STREAM, Network
from tests.simulation.node import Node
from tests.simulation.witnesses import Witnesses
from tests.simulation.world import T, World
from twinhull_sidecar.role.model import Phase, Role, Settings

QUIET = 14 * T
#: Reasons that are a legitimate end of a history although the module does not run with two nodes.
SETTLED_CODES = {"SplitBrain", "ApplicationFailedOnBoth"}


class ViolationError(Exception):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Plan:
    """Everything that determines a history."""

    seed: int
    faults: tuple[Fault, ...]
    without_witness: str = "Continue"
    preferred: str | None = None
    #: Each node's detection timeout, as a share of T, the longest.
    timeouts: tuple[float, float] = (1.0, 1.0)
    has_vip: bool = True
    failover: str = "Automatic"
    failback: str = "Manual"
    #: As a share of T.
    startup: float = 0.0
    #: The two nodes' configurations differ, as in a rollout: each is preferred by its own.
    disagree: bool = False
    #: Numbers of deciding witnesses and of tests; whether the nodes can power each other off.
    votes: int = 0
    tests: int = 0
    fencing: bool = False

    @property
    def decided(self) -> bool:
        """Something sees to it that only one goes on, whatever is cut."""
        return self.votes > 0 or self.fencing

    def shortest(self) -> float:
        """The shortest detection timeout that any process may have."""
        later = [timeout_of(fault) for fault in self.faults if fault.kind == "reconfigure"]
        return min(*(share * T for share in self.timeouts), *later, T)


@dataclass
class Result:
    """How a history went."""

    plan: Plan
    violation: str | None = None
    acknowledged: int = 0
    promotions: int = 0
    log: list[str] = field(default_factory=list)


class History:
    """Runs one plan."""

    def __init__(self, plan: Plan, *, trace: bool = False) -> None:
        self.plan = plan
        self.world = World(plan.seed)
        self.network = Network(self.world)
        self.witnesses = Witnesses(self.world, plan.votes)
        self.trace: list[str] | None = [] if trace else None
        self._ops = itertools.count(1)
        self.required: dict[int, float] = {}  # acknowledged operations that must survive: number -> when
        self.lost: dict[int, set[int]] = {0: set(), 1: set()}
        self.at_risk: dict[int, set[int]] = {0: set(), 1: set()}  # lost by that node's power cut
        self.acknowledged_count = 0
        self.promotion_count = 0
        self.no_path_since: float | None = None
        self.no_path: list[tuple[float, float]] = []
        self.forced_until = 0.0
        #: A promotion was decided in a total partition: both may serve until a link passes both ways for a while.
        self.split = False
        self.whole_since: float | None = None
        #: Since when datagrams surely pass on some link, in each direction.
        self.clear_since: list[float | None] = [None, None]
        self.shortest = plan.shortest()
        #: Datagrams that a frozen process's kernel keeps; the newer ones are dropped.
        self.receive_buffer = self.world.random.choice((3, 12, 90))
        self.mending = False
        self.nodes: list[Node] = []
        for index, name in enumerate("ab"):
            settings = Settings(
                node=name,
                peer="ba"[index],
                nodes=("a", "b"),
                uid="u",
                detection_timeout=plan.timeouts[index] * T,
                has_vip=plan.has_vip,
                without_witness=plan.without_witness,  # type: ignore[arg-type]
                preferred_node=name if plan.disagree else plan.preferred,
                failover=plan.failover,  # type: ignore[arg-type]
                failback=plan.failback,  # type: ignore[arg-type]
                failback_after=1.5 * T,
                startup_timeout=plan.startup * T,
                votes=plan.votes,
                tests=plan.tests,
                fencing=plan.fencing,
                stop_grace=0.5,
                max_restarts=1,
                restart_window=4 * T,
            )
            self.nodes.append(Node(self, index, settings))

    def run(self) -> Result:
        """The whole history: start, faults, mending, quiet, liveness."""
        result = Result(self.plan)
        try:
            self._run()
        except ViolationError as violation:
            result.violation = str(violation)
        except Exception as error:  # a crash of the decision itself is a finding like any other
            result.violation = f"{type(error).__name__}: {error}"
            if self.trace is not None:
                raise
        result.acknowledged, result.promotions = self.acknowledged_count, self.promotion_count
        result.log = self.trace or []
        return result

    def _run(self) -> None:
        for node in self.nodes:
            self.world.after(self.world.random.random() * T, node.boot)
        start = self.world.now + 4 * T
        last = start
        for fault in self.plan.faults:
            at = start + fault.at
            last = max(last, at)
            self.world.at(at, lambda fault=fault: inject(self, fault))  # type: ignore[misc]
        # Some histories go on for a while without new faults: what a fault sets going takes its time.
        rest = self.world.random.choice((0.5, 0.5, 4.0)) * T
        self.world.run(last + rest, each=self._after_event)
        self.mending = True
        mend(self)
        settled_since: list[float | None] = [None]
        next_look = [0.0]

        def each() -> bool:
            self._after_event()
            if self.world.now < next_look[0]:
                return False
            next_look[0] = self.world.now + 0.1 * T
            if self._unsettled():
                settled_since[0] = None
                return False
            if settled_since[0] is None:
                settled_since[0] = self.world.now
            return self.world.now - (settled_since[0] or 0.0) > 1.5 * T

        self.world.run(self.world.now + QUIET, each=each)
        why = self._unsettled()
        if why:
            raise ViolationError(f"liveness: {why}")

    def log(self, node: Node | None, text: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            name = node.settings.node if node is not None else "-"
            self.trace.append(f"{(self.world.now - 1000) / T:8.3f}T {name} {text}")

    # ------------------------------------------------------------------------------------ the judge

    def next_op(self) -> int:
        """Number of the next operation."""
        return next(self._ops)

    def unused_op(self) -> None:
        """A blocked call: its number is skipped."""

    def _path(self) -> bool:
        """At least one path between the nodes works now, or needs none (the precondition of R1)."""
        if self.plan.decided:
            return True
        network, nodes = self.network, self.nodes
        both_awake = not (nodes[0].frozen or nodes[1].frozen)
        for path in LINKS:
            a, b = network.up(path, 0), network.up(path, 1)
            if (a and b) or (both_awake and (a or b)):
                return True
        if network.whole(STREAM) and all(node.engine.connection is not None for node in nodes):
            return True
        return network.lan_up and any(node.vip_until > self.world.now for node in nodes)

    def _after_event(self) -> bool:
        now, network = self.world.now, self.network
        if any(network.whole(link) for link in LINKS) and not (self.nodes[0].frozen or self.nodes[1].frozen):
            self.whole_since = now if self.whole_since is None else self.whole_since
        else:
            self.whole_since = None
        for sender in (0, 1):
            clear = not network.loss and any(network.up(link, sender) for link in LINKS)
            self.clear_since[sender] = (self.clear_since[sender] or now) if clear else None
        if self._path():
            if self.no_path_since is not None:
                self.no_path.append((self.no_path_since, now))
                self.no_path_since = None
        elif self.no_path_since is None:
            self.no_path_since = now
        return False

    def _excused(self) -> bool:
        """Two may serve now: R1 says nothing about total partitions and administrators' force."""
        now = self.world.now
        if self.split and self.whole_since is not None and now - self.whole_since > 2 * T:
            self.split = False
        return self.split or now < self.forced_until or self.cut_off(now)

    def cut_off(self, when: float) -> bool:
        """The nodes were separated completely around ``when``, so long that both may have gone on alone."""
        stretches = list(self.no_path)
        if self.no_path_since is not None:
            stretches.append((self.no_path_since, self.world.now))
        return any(
            end - begin >= 0.3 * self.shortest and begin <= when <= end + 3 * T for begin, end in stretches
        )

    def acknowledged(self, node: Node, op: int) -> None:
        """R1, R3 and M2 at the moment of an acknowledgement."""
        now, peer = self.world.now, node.peer
        self.acknowledged_count += 1
        if node.frozen or node.engine.lease_until <= now:
            raise ViolationError(f"R5: {node.settings.node} acknowledged {op} without a lease")
        excused = self._excused()
        other = peer.engine
        able = peer.alive and other.mode == "primary" and other.leased() and not peer.frozen
        # A late answer of the peer from before its promotion may still arrive: then it holds the write.
        rival = able and (peer.disk.record.alone or other.free)
        if rival and not excused:
            raise ViolationError(
                f"R1: {node.settings.node} acknowledged {op} while {peer.settings.node} may acknowledge too"
            )
        record = node.disk.record
        seen_by_peer = op in peer.disk.data or op in self.lost[peer.index]
        fit = peer.disk.record.consistent and not peer.disk.record.fresh
        if fit and not (record.alone or seen_by_peer or excused):
            raise ViolationError(
                f"R3: {node.settings.node} acknowledged {op} without a durable note that the peer is outdated"
            )
        if not self.split:
            self.required[op] = now
        self._complete(node, "acknowledging")

    def _complete(self, node: Node, doing: str, *, strictly: bool = False) -> None:
        """M2: this node is about to be the module's data."""
        missing = self.required.keys() - set(node.disk.data)
        if not missing:
            return
        excused_now = self._excused()
        for op in missing:
            if strictly or not (excused_now or self.cut_off(self.required[op])):
                raise ViolationError(
                    f"M2: {node.settings.node}, {doing}, lacks the acknowledged operation {op}"
                )
        for op in missing:
            del self.required[op]

    def promotes(self, node: Node, alone: bool) -> None:
        """M1 and M2 at the moment a node becomes primary."""
        self.promotion_count += 1
        just_now = bool(self.no_path) and self.world.now - self.no_path[-1][1] < 0.3 * self.shortest
        promotion, peer = node.state.promotion, node.peer
        by_silence = promotion is not None and promotion.by_silence
        unasked = promotion is not None and promotion.code in ("PeerLost", "PeerStopped")
        held = node.disk.persisted.held and promotion is not None and promotion.since > node.held_since
        if unasked and (held or self.plan.failover == "Manual") and node.state.forced is None:
            raise ViolationError(f"hold: {node.settings.node} takes over unasked")
        if by_silence and not peer.alive and not self.split and self.world.now >= self.forced_until:
            # Even a total partition excuses nothing here: the primary is dead, and must not have gone alone before.
            self._complete(node, "promoted", strictly=True)
        elif (self.no_path_since is not None or just_now) and peer.alive:
            self.split = True
        if by_silence:
            self._over(peer)
            self._tested(node)
        if node.state.forced is not None:
            self.forced_until = self.world.now + 5 * T
            self.log(node, "forced")
        if node.disk.mixed and self.world.now >= self.forced_until:
            raise ViolationError(f"M1: {node.settings.node} is promoted in the middle of a resynchronisation")
        if alone:
            self._complete(node, "promoted")

    def goes_alone(self, node: Node) -> None:
        """R4 at the moment a primary goes on alone because its peer is silent."""
        if node.code == "GoingAlone":
            self._tested(node)

    def _tested(self, node: Node) -> None:
        """A node that loses its peer goes on only while a test of its own network answers."""
        dark = self.witnesses.dark_since.get(node.index)
        if self.plan.tests and dark is not None and self.world.now - dark > 1.5 * T:
            raise ViolationError(f"R4: {node.settings.node} goes on alone though no test answers it")

    def _over(self, old: Node) -> None:
        """R5: the node whose silence ``old`` is promoted for has no lease left, if it was heard up to its stop."""
        stopped, clear = old.stopped_at, self.clear_since[old.index]
        if stopped is None or clear is None or stopped - max(clear, old.awake_since) < 0.3 * T:
            return
        if old.leased_until() > self.world.now:
            raise ViolationError(f"R5: promoted while {old.settings.node}, which stopped, has a lease")

    def applied(self, node: Node) -> None:
        """M1: the secondary holds a prefix of the primary's order."""
        mine, theirs = node.disk.data, node.peer.disk.data
        if len(mine) > len(theirs) or mine[-1] != theirs[len(mine) - 1]:
            primary = node.peer.engine
            if node.peer.alive and primary.mode == "primary" and primary.stream == node.engine.stream:
                raise ViolationError(
                    f"M1: {node.settings.node} does not hold a prefix: {mine[-3:]} of {theirs[-5:]}"
                )

    def secondary_in_sync(self, node: Node) -> None:
        """After a resynchronisation both hold the same."""
        self.at_risk = {0: set(), 1: set()}

    def power_lost(self, node: Node, lost: list[int]) -> None:
        """Unflushed operations are gone here: POSIX lets them go where no other node was in sync."""
        peer = node.peer
        in_order = peer.alive and not peer.terminating and not node.disk.record.alone
        stopped = in_order and peer.state.kept is not None
        follows = stopped or (peer.engine.mode == "secondary" and peer.engine.in_sync)
        promised = in_order and peer.engine.stream in peer.state.distrusted  # never to be promoted on it
        held = set(peer.disk.data) if in_order and follows and not promised and not peer.disk.mixed else set()
        self.lost[node.index].update(lost)
        for op in lost:
            if op not in held:
                self.required.pop(op, None)
            else:
                self.at_risk[node.index].add(op)

    def peer_process_lost(self, node: Node) -> None:
        """A process that alone still held what a power cut took from the other is gone: a double failure."""
        other = 1 - node.index
        for op in self.at_risk[other]:
            self.required.pop(op, None)
        self.at_risk[other] = set()

    # ---------------------------------------------------------------------------------- what happens

    def crash(self, node: Node, *, power: bool) -> None:
        """A crash, with its bookkeeping."""
        self.log(node, "loses power" if power else "crashes")
        self.peer_process_lost(node)
        node.crash(power=power)

    def crash_at_step(self, node: Node) -> None:
        """An armed crash in the middle of an effect."""
        self.crash(node, power=self.world.random.random() < 0.5)
        self.world.after(self.world.random.uniform(0.1, 4) * T, node.boot)

    def left(self, node: Node) -> None:
        """An orderly exit; kubelet starts the next process."""
        self.log(node, "exits")
        self.peer_process_lost(node)
        node.crash(power=False)
        self.world.after(self.world.random.uniform(0.2, 2) * T, node.boot)

    def resume_streams(self) -> None:
        """Frames that waited for a path or a receiver go on."""
        for node in self.nodes:
            connection = node.engine.connection
            if connection is not None:
                connection.deliver(0)
                if node.engine.connection is connection:
                    connection.deliver(1)

    def _unsettled(self) -> str:  # noqa: PLR0911 (a table: one return per row)
        """Empty when the module serves as it should after everything is mended."""
        a, b = self.nodes
        if not (a.alive and b.alive):
            return "a node is down"
        if (
            a.disk.persisted.held != b.disk.persisted.held
            or a.disk.persisted.stopped != b.disk.persisted.stopped
        ):
            return f"the nodes disagree about what is ordered: {a.disk.persisted}, {b.disk.persisted}"
        roles = {a.state.role, b.state.role}
        if a.disk.persisted.stopped and b.disk.persisted.stopped:
            return "" if roles == {Role.STOPPED} else f"stopped by order, but {self._what()}"
        if "ApplicationFailedOnBoth" in (a.code, b.code) and roles <= {Role.WAITING, Role.SECONDARY}:
            return ""
        if self.plan.failover == "Manual" and "FailoverHeld" in (a.code, b.code):
            return ""
        for node in self.nodes:
            other = node.peer
            if not node.state.serving or other.state.serving:
                continue
            if node.phase is not Phase.RUNNING or self.world.now - node.last_ack > T:
                return f"{node.settings.node} serves but acknowledges nothing: {self._what()}"
            whole = node.state.role is Role.PRIMARY and other.state.role is Role.SECONDARY
            if whole and any(register.holder for register in self.witnesses.registers):
                return "both nodes are in sync, and one still has a vote"
            if whole and other.engine.in_sync and node.engine.in_sync:
                return ""
            if other.code == "SplitBrain" and self.split_brain_is_real():
                return ""
        return self._what()

    def split_brain_is_real(self) -> bool:
        """Neither lineage contains the other."""
        one, two = (node.disk.record for node in self.nodes)
        return (
            one.generation not in two.history
            and two.generation not in one.history
            and one.generation != two.generation
        )

    def _what(self) -> str:
        return "; ".join(
            f"{n.settings.node} is {n.state.role.value} {n.code}: {n.reason}" for n in self.nodes
        )

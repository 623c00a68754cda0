"""What a farm's holder does to the kernel: placements, tables, leased elements and addresses. Blocking calls."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import socket
import struct
from collections.abc import Collection, Mapping, Sequence

from twinhull_sidecar.farm import devices, elements, leased, nft, requirements, tracked
from twinhull_sidecar.farm.plan import Plan, find, plan, remote_targets
from twinhull_sidecar.farm.ruleset import render, render_removal
from twinhull_sidecar.farm.settings import FarmSettings
from twinhull_sidecar.farm.ways import Way
from twinhull_sidecar.vip import addresses, conntrack, lan
from twinhull_sidecar.vip.holder import AddressState, kernel_lifetime
from twinhull_sidecar.vip.placement import Network, Placement, Problem, Target

log = logging.getLogger(__name__)

_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40  # linux/sockios.h, linux/if.h
_IFREQ = struct.Struct("=16sH22x")


class Kernel:
    """The kernel's side of one farm. Not for two threads at once, but for :meth:`forget`."""

    def __init__(self, settings: FarmSettings, pod_ip: str | None) -> None:
        self._settings = settings
        self._pod_ip = pod_ip
        self._lifetime = kernel_lifetime(settings.lease, settings.detection_timeout)
        self._network = Network((), ())
        self._placements: list[Placement] = []
        self._problems: list[Problem] = []
        self._plan: Plan | None = None
        self._remote: tuple[Target, ...] = ()
        self._peer_macs: dict[str, str] = {}
        #: Addresses that this node has now, as far as known.
        self._assigned: list[Placement] = []
        self._cleaned = False
        self.capable = True
        self.lan = True
        #: Whether conntrack still sends connections to an earlier pod: :meth:`forget` mends it.
        self.stale = False

    def check(self) -> list[Problem]:
        """Look at network and kernel; what is wrong."""
        try:
            self._place()
            found = requirements.missing(nft.check)
            bonds = devices.unsuitable_bonds(devices.devices(), self._placements)
        except OSError as error:
            mend = "run the sidecar privileged, in the node's network namespace"
            return [Problem("virtual_ips", f"the node's network cannot be read ({error})", mend)]
        self.capable = found is None and not bonds
        self.look()
        return [*self._problems, *([] if found is None else [found]), *bonds]

    def look(self) -> None:
        """Whether every interface has a carrier now. Raises OSError."""
        names = {one.interface.name for one in self._placements}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            self.lan = bool(names) and all(_running(asked, name) for name in names)

    def macs(self) -> dict[str, str]:
        """See FarmHolder."""
        return {str(one.address): one.interface.mac.hex(":") for one in self._placements}

    def pods(self) -> dict[str, str]:
        """See FarmHolder."""
        targets = [target for one in self._placements for target in one.targets]
        return {str(one.address.version): str(one.target) for one in targets if one.target != one.address}

    def states(self, held: bool) -> list[AddressState]:
        """Every configured address."""
        have = {str(one.address) for one in self._assigned} if held else set()
        names = {str(one.address): one.interface.name for one in self._placements}
        found = []
        for number, virtual in enumerate(self._settings.addresses):
            prefix = f"virtual_ips[{number}]"
            wrong = [f"{one.message}; {one.mend}" for one in self._problems if one.field.startswith(prefix)]
            name = names.get(virtual.address, virtual.interface or "")
            found.append(
                AddressState(virtual.address, name, virtual.address in have, wrong[0] if wrong else "")
            )
        return found

    def prepare(self, peer_macs: Mapping[str, str], peer_pods: Mapping[str, str]) -> None:
        """Bring the table up to date. Raises OSError."""
        self._place()
        # What the peer once said stays true while it is silent.
        self._peer_macs.update(peer_macs)
        wanted = plan(
            self._settings,
            self._placements,
            self._network,
            self._peer_macs,
            ports=devices.bridge_ports(devices.devices()),
            capable=self.capable,
        )
        if not wanted.services:
            raise OSError(errno.EADDRNOTAVAIL, "; ".join(map(str, self._problems)) or "no address has a port")
        if wanted != self._plan:
            self._install(wanted)
        if peer_pods:
            self._remote = remote_targets(wanted.services, peer_pods)

    def lease(self, way: Way | None, announce: bool, hold: bool, seconds: float) -> None:
        """Let everything be as said for ``seconds`` from now. Raises OSError."""
        if self._plan is None:
            return
        found = leased.contents(self._plan, way, announce, self._own(), self._remote)
        try:
            elements.write(self._plan.table, found, seconds)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            # Somebody flushed the ruleset (a firewall's restart does).
            log.warning("the tables %s are gone and made anew", self._plan.table)
            self._install(self._plan)
            elements.write(self._plan.table, found, seconds)
        if not hold:
            self._unassign()
            return
        for one in self._placements:
            addresses.lease(one.interface.index, one.address, one.prefix, self._lifetime)
        self._assigned = list(self._placements)

    def drop(self) -> None:
        """End everything leased, now. Raises OSError."""
        errors = []
        try:
            self._unassign()
        except OSError as error:
            errors.append(error)
        if self._plan is not None:
            names = [name for name, _ in leased.contents(self._plan, None, False, (), ())]
            try:
                elements.empty(self._plan.table, names)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    errors.append(error)
        if errors:
            raise errors[0]

    def probing(self, peer_macs: Collection[str]) -> lan.Probe:
        """A probe for the addresses, see FarmHolder. Raises OSError."""
        self._place()
        return _StrangerProbe(self._placements, peer_macs)

    def announce(self) -> None:
        """Announce what the kernel has at this very moment, and nothing else. Raises OSError."""
        here = {(one.index, one.address) for one in addresses.assigned()}
        lan.announce([one for one in self._placements if (one.interface.index, one.address) in here])

    def forget(self) -> None:
        """Let conntrack forget the connections of the addresses: the application that had them is gone."""
        self.stale = False
        for one in self._placements:
            with contextlib.suppress(OSError):
                conntrack.forget(one.address)

    def uninstall(self) -> None:
        """Remove the tables. Raises OSError."""
        self._plan = None
        nft.run(render_removal(self._settings.table))

    def _place(self) -> None:
        virtual = {one.address for one in self._settings.addresses}
        assigned = addresses.assigned()
        if not self._cleaned:
            # What an earlier life of the module left. Its tables stay: they know connections.
            for one in assigned:
                if str(one.address) in virtual and not one.permanent:
                    addresses.remove(one.index, one.address, one.prefix)
            self._cleaned = True
        # An address with an end is one that this module has put there.
        assigned = [one for one in assigned if one.permanent or str(one.address) not in virtual]
        self._network = Network(addresses.interfaces(), assigned)
        self._placements, self._problems = find(self._settings, self._pod_ip, self._network)

    def _install(self, wanted: Plan) -> None:
        remembers = elements.exists(wanted.table)
        script = render(wanted)
        if remembers and not elements.exists(wanted.table, wanted.marker):
            # The connections that it knows were an earlier pod's.
            script = render_removal(wanted.table) + script
            self.stale = True
        nft.run(script)
        self._plan = wanted
        if not remembers and wanted.capable:
            self._restore(wanted)

    def _restore(self, wanted: Plan) -> None:
        """Before anything is leased: until then packets of connections are dropped, and sent again."""
        try:
            count, foreign = tracked.restore(wanted.table, wanted.services, wanted.pods)
        except OSError as error:
            log.warning("the tracked connections cannot be read: %s", error)
            return
        self.stale |= foreign
        if count:
            log.info("%d connections of this node are known from connection tracking", count)

    def _own(self) -> list[Target]:
        return [target for one in self._placements for target in one.targets]

    def _unassign(self) -> None:
        for one in self._assigned:
            addresses.remove(one.interface.index, one.address, one.prefix)
        self._assigned = []


class _StrangerProbe(lan.Probe):
    """A probe that does not hear the peer: it may well have the address."""

    def __init__(self, placements: Sequence[Placement], peer_macs: Collection[str]) -> None:
        super().__init__(placements)
        self._peer_macs = {bytes.fromhex(one.replace(":", "")) for one in peer_macs}

    def _judge(self, key: tuple[int, int], frame: bytes) -> None:
        if frame[6:12] not in self._peer_macs:
            super()._judge(key, frame)


def _running(asked: socket.socket, name: str) -> bool:
    request = _IFREQ.pack(name.encode(), 0)
    try:
        answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, request)
    except OSError:
        return False
    flags: int = _IFREQ.unpack(answer)[1]
    return flags & _IFF_RUNNING != 0

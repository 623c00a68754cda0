"""Keeps one module: from the resource to objects and rollout, from the sidecars to status and events.

Two loops. *Reconcile* runs when the resource changed, when a sidecar's role changed and every half minute, and does
nothing where nothing is different; it is level-triggered, so whatever was missed is caught up, and it may be
interrupted anywhere. *Publish* writes
status and events when a sidecar said something new. Neither is needed for a failover.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio

from twinhull_operator.apply_module import apply_module, has_daemonset, read_operator_secret
from twinhull_operator.apply_renewal import renew_certificates
from twinhull_operator.constants import LABEL_MODULE, Kind
from twinhull_operator.kinds import KINDS
from twinhull_operator.kube import CONFIG_MAPS, EVENTS, MODULES, PODS, ApiError, Kube
from twinhull_operator.metrics.own import RECONCILE, STATUS_WRITES
from twinhull_operator.metrics.view import FailoverCounter, ModuleView
from twinhull_operator.module import Module, Object, read_module
from twinhull_operator.neighbours import Look, Neighbours
from twinhull_operator.ports import NoFreePortError, allot_base_port, rendered_base_port
from twinhull_operator.problem import InvalidModuleError, Problem
from twinhull_operator.render_config import render_config
from twinhull_operator.render_event import render_event, render_new_events
from twinhull_operator.render_secrets import trusted
from twinhull_operator.report import Drain, Facts, NodeReport, by_name
from twinhull_operator.rollout import Pod, Step, read_pod
from twinhull_operator.settings import Settings
from twinhull_operator.status_farm import read_drain, render_drain
from twinhull_operator.status_module import Findings, read_findings, render_status, status_patch
from twinhull_operator.validate_module import check_module, node_addresses
from twinhull_operator.watch_sidecar import SidecarWatch, retry_delay
from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb

log = logging.getLogger(__name__)

PERIOD = 30.0
LOOK_AGE = 20.0
"""Seconds; a look of this age will do where nothing says that something changed."""
FULL_PERIOD = 600.0
"""Seconds after which everything is applied anew: somebody may have changed one of the module's objects."""
ROLLOUT_PERIOD = 3.0
PUBLISH_INTERVAL = 0.5
EVENT_WINDOW = 3600.0
"""Seconds; older events are not published: Kubernetes forgets them in this time too."""


class ModuleReconciler:
    """The two loops of one module. ``allotment`` is held by the one module that chooses a base port."""

    def __init__(
        self,
        kube: Kube,
        settings: Settings,
        kind: Kind,
        *,
        namespace: str,
        name: str,
        allotment: asyncio.Lock,
        neighbours: Neighbours,
        term: Callable[[], int] = lambda: 1,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._kind = kind
        self._resource = MODULES[kind]
        self._namespace = namespace
        self._name = name
        self._allotment = allotment
        self._neighbours = neighbours
        self._term = term
        #: The term in which what is known was read: it is written in no other.
        self._read_in = 0
        #: The next look must not be an older one: the resource is new or was changed.
        self._fresh = True
        self._done: tuple[Any, ...] | None = None
        self._due = 0.0
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._module: Module | None = None
        self._findings = Findings()
        self._status: Object = {}
        self._watches: dict[str, SidecarWatch] = {}
        self._roles: tuple[Any, ...] = ()
        self._ordered: str | None = None
        self._drained: Drain | None = None
        self._failovers = FailoverCounter()
        self._certificates: Mapping[str, float] = {}
        self._renewal = 0.0
        self._tasks = [
            asyncio.create_task(self._reconcile_loop(), name=f"reconcile {namespace}/{name}"),
            asyncio.create_task(self._publish_loop(), name=f"publish {namespace}/{name}"),
        ]

    def wake(self) -> None:
        """The resource may have changed, or another one that it waited for."""
        self._fresh = True
        self._wake.set()

    def view(self) -> ModuleView | None:
        """What the metrics show; None before the resource was read."""
        if self._module is None:
            return None
        return ModuleView(
            module=self._module,
            reports=self._reports(self._module),
            status=self._status,
            failovers=dict(self._failovers.counts),
            findings=self._findings,
            certificates=self._certificates,
        )

    async def order(
        self, node: str, action: str, user: str, identifier: str, *, discard_peer: bool
    ) -> pb.OrderReply:
        """Pass an administrator's order on to a node's sidecar. Raises LookupError when there is none that is
        listened to, grpc.aio.AioRpcError when it cannot be asked.
        """
        return await self._watches[node].order(action, user, identifier, discard_peer=discard_peer)

    async def close(self) -> None:
        """Stop; the module's pods are not touched."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for watch in self._watches.values():
            await watch.close()
        self._watches.clear()

    async def _reconcile_loop(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            delay = min(PERIOD, self._settings.lifetimes.check_period)
            result, started = "success", time.monotonic()
            try:
                await self._reconcile()
                failures = 0
                if self._findings.rollout is not None and not self._findings.problems:
                    delay = ROLLOUT_PERIOD
            except ApiError as error:
                result = "api_error"
                failures += 1
                delay = retry_delay(failures, 1.0)
                log.warning("%s/%s: tried again in %.1f s: %s", self._namespace, self._name, delay, error)
            except Exception:
                # A defect must not end the loop: the other modules and this one's status go on.
                result = "error"
                failures += 1
                delay = max(retry_delay(failures, 1.0), 5.0)
                log.exception("%s/%s: unexpected error", self._namespace, self._name)
            RECONCILE.labels(self._kind, result).observe(time.monotonic() - started)
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _reconcile(self) -> None:
        """Look, and do it all anew only where something is different, is to be done, or was not looked at for long."""
        fresh, self._fresh = self._fresh, False
        look = await self._neighbours.look(0.0 if fresh else LOOK_AGE)
        if not self._term():
            await self._look_on(look)
            return
        inputs = self._inputs(look)
        now = time.monotonic()
        unfinished = self._findings.rollout is not None or bool(self._findings.problems)
        if (
            inputs is not None
            and self._read_in == self._term()
            and inputs == self._done
            and not unfinished
            and now < min(self._due, self._renewal)
        ):
            return
        self._done = None
        await self._reconcile_fully(look)
        # A spread: modules that came together shall not always be looked at together.
        self._done, self._due = inputs, time.monotonic() + FULL_PERIOD * random.uniform(0.75, 1.0)

    async def _look_on(self, look: Look) -> None:
        """Another operator acts: know what it knows, and listen to the sidecars, for the console and to take over."""
        self._read_in = 0
        resource = look.resources.get((self._kind, self._namespace, self._name))
        module = look.modules.get((self._kind, self._namespace, self._name))
        if resource is None or module is None:
            return
        if len(self._watches) < len(module.node_names) or time.monotonic() >= self._renewal:
            await self._watch(module, look.nodes)
            self._renewal = time.monotonic() + self._settings.lifetimes.check_period
        self._module, self._status = module, dict(resource.get("status") or {})
        self._findings = read_findings(self._status)

    def _inputs(self, look: Look) -> tuple[Any, ...] | None:
        """All that the module's objects and its rollout follow from, and others may change; None: not there."""
        key = (self._kind, self._namespace, self._name)
        module = look.modules.get(key)
        if module is None:
            return None
        return (
            *(module.uid, module.generation, module.roll_unprotected),
            *(look.nodes.get(name, {}).get("status", {}).get("addresses") for name in module.node_names),
            check_module(module, look.nodes, look.modules.values()),
            look.pods.get((self._namespace, self._name)),
        )

    async def _reconcile_fully(self, look: Look) -> None:
        term = self._term()
        resource = await self._kube.get(self._resource, self._namespace, self._name)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            return
        stored = resource.get("status") or {}
        if self._read_in != term or not self._status or "conditions" not in stored:
            self._status = dict(stored)
            self._failovers.begin(stored)
            self._drained = read_drain(stored)
            self._renewal = self._renewal if self._read_in == term else 0.0
            self._read_in = term
        try:
            module = read_module(resource)
        except (ValueError, KeyError) as error:
            log.error("%s/%s: cannot be read: %s", self._namespace, self._name, error)
            return
        nodes = look.nodes
        problems = check_module(module, nodes, look.modules.values())
        template_hash = ""
        try:
            if problems:
                raise InvalidModuleError(*problems)
            module, port = await self._allot(module)
            config = render_config(module, nodes, port)
            template_hash = await apply_module(self._kube, module, config, self._settings)
        except InvalidModuleError as error:
            problems = error.problems
        await self._renew(module)
        await self._watch(module, nodes)
        pods = await self._pods(module)
        step = Step("wait", "waits for a valid specification; the pods stay as they are")
        if template_hash:
            step = await self._roll(module, template_hash, pods)
        elif self._drained is not None:
            await self._roll(module, "", pods)
        await self._conclude(module, problems, step, pods)

    async def _allot(self, module: Module) -> tuple[Module, int]:
        """The module with its base port, recorded in its status before anything is made with it."""
        if module.base_port is not None:
            return module, module.base_port
        async with self._allotment:
            others = (await self._neighbours.look(0.0)).modules.values()
            # A status that was lost (restored from a backup, say) must not change the port of running pods.
            existing = await self._kube.list(CONFIG_MAPS, module.namespace, f"{LABEL_MODULE}={module.name}")
            try:
                port = rendered_base_port(module, existing) or allot_base_port(module, others)
            except NoFreePortError as error:
                mend = "delete a module that is no longer needed"
                raise InvalidModuleError(Problem("spec.nodes", str(error), mend)) from error
            await self._kube.merge_status(self._resource, module.namespace, module.name, {"basePort": port})
        return replace(module, base_port=port), port

    async def _renew(self, module: Module) -> None:
        """Certificates are renewed whether the specification is valid or not: the pods run on."""
        if time.monotonic() < self._renewal:
            return
        lifetimes = self._settings.lifetimes
        now = datetime.datetime.now(datetime.UTC)
        found = await renew_certificates(self._kube, module, lifetimes, now)
        if found is not None:
            self._certificates = found
            self._renewal = time.monotonic() + lifetimes.check_period

    async def _watch(self, module: Module, nodes: Mapping[str, Object]) -> None:
        """Listen to both sidecars, as soon as there is something to listen to, valid specification or not."""
        if module.base_port is None:
            return
        operator = await read_operator_secret(self._kube, module)
        if operator is None:
            return
        identity = tls.Identity(
            name=tls.dns_name(tls.OPERATOR, module.uid),
            directory=Path(),
            ca=trusted(operator),
            certificate=operator["operator.crt"],
            private_key=operator["operator.key"],
            key=b"",
        )
        for name in module.node_names:
            dedicated = (link.addresses[name] for link in module.links)
            addresses = tuple(dict.fromkeys((*node_addresses(module, nodes, name), *dedicated)))
            watch = self._watches.get(name)
            if watch is not None:
                watch.renew(identity)
            if watch is not None and addresses and watch.target != (addresses, module.base_port):
                await self._watches.pop(name).close()
                watch = None
            if watch is None and addresses:
                self._watches[name] = SidecarWatch(
                    node=name,
                    addresses=addresses,
                    port=module.base_port,
                    identity=identity,
                    uid=module.uid,
                    on_change=self._on_report,
                )

    def _on_report(self) -> None:
        self._changed.set()
        for watch in self._watches.values():
            self._failovers.see(watch.report)
        roles = tuple(
            (r.node, r.reachable, r.current.role, r.current.in_sync) if r.current else (r.node, r.reachable)
            for r in (watch.report for watch in self._watches.values())
        )
        if roles != self._roles:
            self._roles = roles
            self._wake.set()

    async def _pods(self, module: Module) -> list[Pod]:
        if not await has_daemonset(self._kube, module):
            # Pods of that name are those of another module, or of one that was deleted.
            return []
        found = await self._kube.list(PODS, module.namespace, f"{LABEL_MODULE}={module.name}")
        return [read_pod(pod) for pod in found]

    def _reports(self, module: Module) -> list[NodeReport]:
        return [
            self._watches[name].report if name in self._watches else NodeReport(name)
            for name in module.node_names
        ]

    async def _roll(self, module: Module, template_hash: str, pods: list[Pod]) -> Step:
        facts = Facts(module, self._reports(module), self._status, time.time(), drained=self._drained)
        step = KINDS[module.kind].next_step(template_hash, pods, facts)
        if step.drained != self._drained:
            # Recorded before the order: an operator that starts anew must know whom it has to resume.
            record = {"rolloutDrain": render_drain(step.drained)}
            await self._kube.merge_status(self._resource, module.namespace, module.name, record)
            self._drained = step.drained
        if step.pod is None or step.action in ("none", "wait"):
            return step
        if step.action == "delete":
            log.info("%s: rollout deletes pod %s: %s", module.key, step.pod.name, step.reason)
            await self._kube.delete(PODS, module.namespace, step.pod.name, step.pod.uid)
        elif (watch := self._watches.get(step.pod.node)) is not None:
            await self._order(module, watch, step.action)
        return step

    async def _order(self, module: Module, watch: SidecarWatch, action: str) -> None:
        status = watch.report.current
        if status is None or (status.last_order.id == self._ordered and status.last_order.state == "running"):
            return
        self._ordered = uuid.uuid4().hex
        try:
            reply = await watch.order(action, "operator (rollout)", self._ordered)
        except grpc.aio.AioRpcError as error:
            node, why = watch.report.node, error.details()
            log.warning("%s: %s cannot be given the order to %s: %s", module.key, node, action, why)
            return
        answer = reply.message or ("accepted" if reply.accepted else "refused")
        log.info("%s: rollout orders %s of %s: %s", module.key, action, watch.report.node, answer)

    async def _conclude(
        self, module: Module, problems: tuple[Problem, ...], step: Step, pods: list[Pod]
    ) -> None:
        before = self._findings.problems
        missing = {
            name: f"there is no pod; 'kubectl describe daemonset {module.child()}' says why"
            for name in module.node_names
            if name not in {pod.node for pod in pods}
        }
        found = {pod.node: pod.problem for pod in pods if pod.problem}
        self._module = module
        self._findings = Findings(
            problems=problems,
            rollout=None if step.action == "none" else step.reason,
            pods={pod.node: pod.name for pod in pods},
            pod_problems={} if problems and not pods else missing | found,
            drained=self._drained,
        )
        self._changed.set()
        if problems and problems != before:
            message = "; ".join(map(str, problems))
            event = render_event(
                module,
                kind="Warning",
                reason="InvalidSpecification",
                message=message,
                time=time.time(),
                once_per=f"generation {module.generation}",
            )
            await self._post(event)

    async def _publish_loop(self) -> None:
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._publish()
                failures = 0
                await asyncio.sleep(PUBLISH_INTERVAL)
            except ApiError as error:
                failures += 1
                if error.status != 404:
                    self._changed.set()
                delay = retry_delay(failures, 1.0)
                log.warning(
                    "%s/%s: status is written in %.1f s: %s", self._namespace, self._name, delay, error
                )
                await asyncio.sleep(delay)
            except Exception:
                failures += 1
                log.exception("%s/%s: unexpected error", self._namespace, self._name)
                await asyncio.sleep(max(retry_delay(failures, 1.0), 5.0))

    async def _publish(self) -> None:
        module = self._module
        if module is None or not self._read_in or self._read_in != self._term():
            return
        reports = self._reports(module)
        if any(not watch.asked for watch in self._watches.values()):
            # Just started: what an earlier operator wrote is better than what this one does not know yet.
            return
        now = time.time()
        await self._publish_events(module, reports, now)
        status = render_status(module, reports, self._findings, self._status, now)
        status = {key: value for key, value in status.items() if value is not None}
        if status != self._status:
            patch = status_patch(self._status, status)
            await self._kube.merge_status(self._resource, module.namespace, module.name, patch)
            self._status = status
            STATUS_WRITES.labels(self._kind).inc()

    async def _publish_events(self, module: Module, reports: list[NodeReport], now: float) -> None:
        known = by_name(self._status.get("nodes"))
        for report in reports:
            after = known.get(report.node, {}).get("lastEventTime", "")
            for event in render_new_events(module, report, after=after, oldest=now - EVENT_WINDOW):
                await self._post(event)

    async def _post(self, event: Object) -> None:
        try:
            await self._kube.create(EVENTS, event)
        except ApiError as error:
            # An event is worth one attempt; the same words stand in the status.
            log.warning("%s/%s: an event is lost: %s", self._namespace, self._name, error)

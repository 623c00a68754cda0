"""A vote kept in a coordination.k8s.io Lease of another cluster: read it, replace it by compare-and-swap.

The resourceVersion is the version of the register: the API server refuses a write that names an older one (409). The
spec says it in the words of a Lease (holderIdentity, acquireTime, leaseTransitions), the annotations say what a Lease
has no field for.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from twinhull_sidecar.witness.ballot import Register, Write
from twinhull_sidecar.witness.kubeconfig import Access

UID: Final = "twinhull.dev/module-uid"
GENERATION: Final = "twinhull.dev/generation"
_API = "apis/coordination.k8s.io/v1/namespaces"
_LONGEST_ANSWER = 300


class WitnessError(Exception):
    """No answer, or a useless one; the text says why."""


class LeaseVote:
    """One Lease. A request takes ``timeout`` seconds at most."""

    def __init__(self, access: Access, namespace: str, name: str, uid: str, timeout: float) -> None:
        self._access, self._uid = access, uid
        self._namespace, self._name = namespace, name
        self._collection = f"{access.server.rstrip('/')}/{_API}/{namespace}/leases"
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._transitions = 0

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def read(self) -> Register:
        """The register. Raises WitnessError."""
        status, body = await self._request("GET", f"{self._collection}/{self._name}", None)
        if status == 404:
            return Register()
        if status != 200:
            raise WitnessError(_refusal(status, body))
        try:
            register = parse_lease(body)
            self._transitions = int((body.get("spec") or {}).get("leaseTransitions") or 0)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WitnessError(f"its answer is no Lease ({error})") from error
        return register

    async def write(self, write: Write, now: datetime.datetime) -> bool:
        """Replace the register if its version is still ``write.version``; False: it is not. Raises WitnessError."""
        lease = render_lease(write, uid=self._uid, transitions=self._transitions, now=now)
        lease["metadata"] |= {"namespace": self._namespace, "name": self._name}
        if write.version is None:
            status, body = await self._request("POST", self._collection, lease)
        else:
            status, body = await self._request("PUT", f"{self._collection}/{self._name}", lease)
        if status in (200, 201):
            return True
        if status == 409 or (status == 404 and write.version is not None):
            return False
        raise WitnessError(_refusal(status, body))

    async def _request(self, method: str, url: str, body: Mapping[str, Any] | None) -> tuple[int, Any]:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._access.context, limit=2)
            headers = {"Accept": "application/json", **self._access.headers}
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=self._timeout)
        try:
            name = self._access.server_name
            async with self._session.request(
                method, url, json=body, server_hostname=name, allow_redirects=False
            ) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if text else {}
        except TimeoutError:
            raise WitnessError(f"no answer within {self._timeout.total:g} s") from None
        # Before ValueError: aiohttp's certificate errors are ValueErrors as well.
        except (aiohttp.ClientError, OSError) as error:
            raise WitnessError(str(error) or type(error).__name__) from error
        except ValueError as error:
            raise WitnessError(f"its answer is not JSON ({error})") from error


def parse_lease(body: Mapping[str, Any]) -> Register:
    """The register that a Lease holds. Raises KeyError, TypeError, AttributeError for what is none."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    return Register(
        version=str(metadata["resourceVersion"]),
        holder=str(spec.get("holderIdentity") or ""),
        generation=str(annotations.get(GENERATION) or ""),
        uid=str(annotations.get(UID) or ""),
    )


def render_lease(write: Write, *, uid: str, transitions: int, now: datetime.datetime) -> dict[str, Any]:
    """The Lease that holds what ``write`` says, without its name; ``transitions``: how often it changed before."""
    stamp = now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    metadata: dict[str, Any] = {"annotations": {UID: uid, GENERATION: write.generation}}
    if write.version is not None:
        metadata["resourceVersion"] = write.version
    spec: dict[str, Any] = {"leaseTransitions": transitions + 1, "renewTime": stamp}
    if write.holder:
        spec |= {"holderIdentity": write.holder, "acquireTime": stamp}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def _refusal(status: int, body: Any) -> str:
    said = body.get("message") if isinstance(body, dict) else None
    return f"it answered {status} {said or ''}".strip()[:_LONGEST_ANSWER]

"""A thin client of the Kubernetes API: the few verbs that the operator needs, over kopf's credentials.

Every call has a deadline, so a frozen API server delays work and never stops it.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import kopf

from twinhull_operator.constants import FIELD_MANAGER, GROUP, PLURALS, VERSION, Kind
from twinhull_operator.metrics.own import REQUESTS
from twinhull_operator.module import Object

_DEADLINE: Final = aiohttp.ClientTimeout(total=15, connect=5)
_TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class Resource:
    """A kind of object: its API path, and whether it lives in a namespace."""

    api: str
    plural: str
    namespaced: bool = True

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """The URL path of a collection, an object or its subresource."""
        parts = [self.api]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(parts)


CONFIG_MAPS: Final = Resource("api/v1", "configmaps")
SECRETS: Final = Resource("api/v1", "secrets")
SERVICES: Final = Resource("api/v1", "services")
PODS: Final = Resource("api/v1", "pods")
LEASES: Final = Resource("apis/coordination.k8s.io/v1", "leases")
EVENTS: Final = Resource("api/v1", "events")
NODES: Final = Resource("api/v1", "nodes", namespaced=False)
DAEMON_SETS: Final = Resource("apis/apps/v1", "daemonsets")
ENDPOINT_SLICES: Final = Resource("apis/discovery.k8s.io/v1", "endpointslices")
TOKEN_REVIEWS: Final = Resource("apis/authentication.k8s.io/v1", "tokenreviews", namespaced=False)
ACCESS_REVIEWS: Final = Resource("apis/authorization.k8s.io/v1", "subjectaccessreviews", namespaced=False)
MODULES: Final[Mapping[Kind, Resource]] = {
    kind: Resource(f"apis/{GROUP}/{VERSION}", plural) for kind, plural in PLURALS.items()
}


class ApiError(Exception):
    """The API server refused a request, or could not be asked (``status`` 0)."""

    def __init__(
        self, status: int, reason: str, message: str, causes: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        """Pairs of field and message, where the server gave them."""


class NotLeadingError(ApiError):
    """Nothing was asked of the API server: another operator acts."""

    def __init__(self) -> None:
        super().__init__(0, "NotLeading", "another operator acts now")


def read_error(status: int, body: bytes) -> ApiError:
    """The error in an answer of the API server (a meta/v1 Status, or any text)."""
    try:
        answer = json.loads(body)
        details = answer.get("details") or {}
        causes = tuple((c.get("field", ""), c.get("message", "")) for c in details.get("causes") or ())
        return ApiError(status, answer.get("reason", ""), answer.get("message", ""), causes)
    except (ValueError, AttributeError):
        return ApiError(status, "", body[:300].decode(errors="replace"))


class Kube:
    """One session with the API server. Close it when done.

    ``may_act`` is asked at the moment of each request that changes something; NotLeadingError if it may not.
    """

    def __init__(self, connection: kopf.ConnectionInfo, may_act: Callable[[], bool] = lambda: True) -> None:
        self._may_act = may_act
        self._server = connection.server.rstrip("/")
        self._connection = connection
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_tls(connection)), timeout=_DEADLINE, trust_env=False
        )

    async def close(self) -> None:
        """End the session."""
        await self._session.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """The object, or None when there is none. Raises ApiError."""
        try:
            return await self._request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> list[Object]:
        """The objects of a kind (of all namespaces when None), by label selector. Raises ApiError."""
        query = {"labelSelector": labels} if labels else {}
        answer = await self._request("GET", resource.path(namespace), query=query)
        return answer.get("items") or []

    async def create(self, resource: Resource, body: Object) -> bool:
        """Create an object; False when one of that name exists already. Raises ApiError."""
        query = {"fieldManager": FIELD_MANAGER}
        try:
            await self._request("POST", resource.path(body["metadata"]["namespace"]), body, query=query)
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return False
            raise
        return True

    async def apply(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply. Our fields win, those of others stay. Raises ApiError."""
        metadata = body["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        path = resource.path(metadata["namespace"], metadata["name"])
        # JSON is YAML; before 1.34 the server took no other name for it.
        return await self._request(
            "PATCH", path, body, content_type="application/apply-patch+yaml", query=query
        )

    async def merge_status(self, resource: Resource, namespace: str, name: str, status: Object) -> None:
        """Replace fields of an object's status (None removes one). Raises ApiError."""
        path = resource.path(namespace, name, "status")
        await self._request("PATCH", path, {"status": status}, content_type="application/merge-patch+json")

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> None:
        """JSON merge patch; with ``metadata.resourceVersion`` only of that version. Raises ApiError."""
        path = resource.path(namespace, name)
        await self._request("PATCH", path, patch, content_type="application/merge-patch+json")

    async def review(self, resource: Resource, body: Object) -> Object:
        """Ask a question that is no object (who has this token, may they do that). Raises ApiError."""
        return await self._request("POST", resource.path(), body)

    async def version(self) -> Object:
        """The API server's version: whether it answers. Raises ApiError."""
        return await self._request("GET", "/version")

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str | None = None) -> None:
        """Delete the object (only the one with this uid); one that is gone is fine. Raises ApiError."""
        body = {"preconditions": {"uid": uid}} if uid else None
        try:
            await self._request("DELETE", resource.path(namespace, name), body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        if method != "GET" and not self._may_act():
            raise NotLeadingError
        headers = {"Accept": "application/json", "Content-Type": content_type, **self._authorization()}
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._session.request(
                method, self._server + path, data=data, headers=headers, params=query
            ) as response:
                content = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            REQUESTS.labels(method, "0").inc()
            raise ApiError(
                0, "Unreachable", f"the API server does not answer ({error or type(error).__name__})"
            ) from error
        REQUESTS.labels(method, str(response.status)).inc()
        if response.status >= 400:
            raise read_error(response.status, content)
        answer: Any = json.loads(content)
        return dict(answer)

    def _authorization(self) -> dict[str, str]:
        # The kubelet replaces a service account's token within the hour, so it is read each time.
        if self._connection.token and _TOKEN_FILE.exists():
            return {"Authorization": f"Bearer {_TOKEN_FILE.read_text().strip()}"}
        return dict(self._connection.as_http_headers())


def _tls(connection: kopf.ConnectionInfo) -> ssl.SSLContext | bool:
    return True if connection.server.startswith("http://") else connection.as_ssl_context()

"""kopf's view of the operator: which handlers there are, and that none of them can hold a deletion up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import kopf
import pytest
from kopf.testing import KopfRunner

from tests.unit.operator.samples import ROOT, resource
from twinhull_operator import handle_login_operator, main
from twinhull_operator.handle_event_module import observe
from twinhull_operator.kube import MODULES, NODES, ApiError, Resource
from twinhull_operator.modules import Modules
from twinhull_operator.neighbours import read_look
from twinhull_operator.settings import Settings, SettingsError, read_settings


class Recorder:
    """Takes the place of Modules."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def observe(self, *arguments: Any) -> None:
        """See Modules."""
        self.calls.append(("observe", *arguments))

    async def forget(self, *arguments: Any) -> None:
        """See Modules."""
        self.calls.append(("forget", *arguments))


def event(kind: str | None) -> dict[str, Any]:
    """A watch event as kopf hands it on."""
    metadata = {"namespace": "db", "name": "pg", "uid": "u", "generation": 4}
    return {"type": kind, "object": {"metadata": metadata}}


async def test_first_listing_changes_and_deletions_are_passed_on() -> None:
    memo = kopf.Memo(modules=Recorder())
    for kind in (None, "MODIFIED", "DELETED"):
        await observe("FarmModule", event(kind), memo)
    assert memo.modules.calls == [
        ("observe", "FarmModule", "db", "pg", "u", 4),
        ("observe", "FarmModule", "db", "pg", "u", 4),
        ("forget", "FarmModule", "db", "pg"),
    ]


def test_no_handler_needs_a_finalizer_or_annotations() -> None:
    registry = kopf.get_default_registry()
    assert main.mirrormodule is not None
    assert [h.id for h in registry._watching.get_all_handlers()] == ["mirrormodule", "farmmodule"]
    assert registry._changing.get_all_handlers() == []
    assert registry._spawning.get_all_handlers() == []


def test_kopf_runs_the_operator_and_names_a_missing_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf's own runner; the operator ends by itself because nobody told it the sidecar's image."""
    monkeypatch.delenv("TWINHULL_SIDECAR_IMAGE", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    source = ROOT / "operator" / "twinhull_operator" / "main.py"
    with KopfRunner(["run", "--all-namespaces", "--standalone", str(source)], reraise=False) as runner:
        pass
    assert "TWINHULL_SIDECAR_IMAGE is not set; set it to the image of the sidecar" in runner.output


def test_main_only_says_which_handler_answers_what() -> None:
    source = (ROOT / "operator" / "twinhull_operator" / "main.py").read_text()
    assert source.count("@kopf.on.") == 5
    assert "await " in source
    assert "render" not in source


@pytest.mark.parametrize(
    ("host", "server"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_in_a_pod_the_api_server_is_addressed_without_dns(
    host: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: dataclasses.replace(account))
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    assert handle_login_operator.login(environment).server == server


def test_without_credentials_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: None)
    monkeypatch.setattr(kopf, "login_with_kubeconfig", lambda **_: None)
    with pytest.raises(kopf.LoginError, match="set KUBECONFIG"):
        handle_login_operator.login({})


class QuietKube:
    """An API server that knows no module."""

    async def list(self, *_: Any) -> list[dict[str, Any]]:
        """See kube.Kube."""
        return []

    async def get(self, *_: object) -> None:
        """See kube.Kube."""

    async def close(self) -> None:
        """See kube.Kube."""


async def test_a_module_that_was_made_again_gets_a_new_reconciler() -> None:
    kept = Modules(QuietKube(), Settings(sidecar_image="i"))  # type: ignore[arg-type]
    await kept.observe("MirrorModule", "db", "pg", "first", 1)
    first = kept._kept["MirrorModule", "db", "pg"].reconciler
    await kept.observe("MirrorModule", "db", "pg", "first", 2)
    assert kept._kept["MirrorModule", "db", "pg"].reconciler is first
    await kept.observe("MirrorModule", "db", "pg", "second", 1)
    assert kept._kept["MirrorModule", "db", "pg"].reconciler is not first
    await kept.forget("MirrorModule", "db", "pg")
    await kept.forget("MirrorModule", "db", "pg")
    assert not kept._kept
    await kept.close()


class OldCluster(QuietKube):
    """An API server that was given the definition of mirrors only."""

    async def list(self, kind: Resource, *_: object) -> list[dict[str, Any]]:
        """See kube.Kube."""
        if kind is NODES:
            return []
        if kind is MODULES["FarmModule"]:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return [resource()]


async def test_mirrors_go_on_where_farms_are_not_defined_yet() -> None:
    """Helm leaves a chart's definitions alone when it upgrades."""
    look = await read_look(OldCluster(), ())  # type: ignore[arg-type]
    assert [module.key for module in look.modules.values()] == ["db/postgres"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TWINHULL_SIDECAR_IMAGE", ""),
        ("TWINHULL_CRI_SOCKET", "relative.sock"),
        ("TWINHULL_SIDECAR_RESOURCES", "{"),
        ("TWINHULL_SIDECAR_RESOURCES", "[]"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        read_settings({"TWINHULL_SIDECAR_IMAGE": "i", variable: value})


def test_settings() -> None:
    found = read_settings(
        {
            "TWINHULL_SIDECAR_IMAGE": "i",
            "TWINHULL_IMAGE_PULL_SECRETS": "a b",
            "TWINHULL_SIDECAR_RESOURCES": '{"limits": {"memory": "1Gi"}}',
        }
    )
    assert found.image_pull_secrets == ("a", "b")
    assert found.sidecar_resources == {"limits": {"memory": "1Gi"}}

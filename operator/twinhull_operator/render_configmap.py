"""The ConfigMap with the sidecars' configuration."""

from __future__ import annotations

from twinhull_operator.constants import CONFIG_FILE
from twinhull_operator.module import Module, Object
from twinhull_operator.render_metadata import render_metadata
from twinhull_sidecar.config import ModuleConfig, digest, render


def configmap_suffix(config: ModuleConfig) -> str:
    """Part of the ConfigMap's name: each configuration has a ConfigMap of its own.

    A pod therefore keeps the configuration that it was made with, even when its sidecar starts again before
    the pod's turn in a rollout comes.
    """
    return f"config-{digest(config)[:10]}"


def render_configmap(module: Module, config: ModuleConfig) -> Object:
    """The immutable ConfigMap of this configuration."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": render_metadata(module, configmap_suffix(config)),
        "immutable": True,
        "data": {CONFIG_FILE: render(config)},
    }

"""The DaemonSet of a module: one pod on each of its two nodes."""

from __future__ import annotations

import hashlib
import json

from twinhull_operator.constants import ANNOTATION_TEMPLATE, LABEL_MODULE
from twinhull_operator.module import Module, Object
from twinhull_operator.render_metadata import render_metadata
from twinhull_operator.render_pod import render_pod_template
from twinhull_operator.settings import Settings
from twinhull_sidecar.config import ModuleConfig


def render_daemonset(module: Module, config: ModuleConfig, settings: Settings) -> Object:
    """The DaemonSet. Its pods are replaced by the rollout only, hence OnDelete.

    The pod template carries its own hash, by which the rollout tells a pod that is out of date.
    """
    template = render_pod_template(module, config, settings)
    template["metadata"]["annotations"][ANNOTATION_TEMPLATE] = template_hash(template)
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": render_metadata(module),
        "spec": {
            "selector": {"matchLabels": {LABEL_MODULE: module.name}},
            "updateStrategy": {"type": "OnDelete"},
            "template": template,
        },
    }


def template_hash(template: Object) -> str:
    """A short name of this exact pod template."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]

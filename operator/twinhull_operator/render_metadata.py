"""Metadata common to all objects of a module."""

from __future__ import annotations

from collections.abc import Mapping

from twinhull_operator.constants import API_VERSION, LABEL_MANAGED_BY, LABEL_MODULE, LABEL_PART_OF
from twinhull_operator.module import Module, Object


def render_labels(module: Module) -> dict[str, str]:
    """Labels by which a module's objects and pods are found."""
    return {LABEL_MANAGED_BY: "twinhull", LABEL_PART_OF: "twinhull", LABEL_MODULE: module.name}


def render_metadata(module: Module, suffix: str = "", annotations: Mapping[str, str] | None = None) -> Object:
    """Metadata of an object that belongs to the module and is deleted with it by the garbage collector."""
    metadata: Object = {
        "name": module.child(suffix),
        "namespace": module.namespace,
        "labels": render_labels(module),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": module.kind,
                "name": module.name,
                "uid": module.uid,
                "controller": True,
                # Deleting a module never waits for its children in the foreground.
                "blockOwnerDeletion": False,
            }
        ],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return metadata

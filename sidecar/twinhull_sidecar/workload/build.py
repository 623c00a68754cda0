"""Chooses the adapter that a module's configuration names."""

from __future__ import annotations

from pathlib import Path

from twinhull_sidecar.config import Application
from twinhull_sidecar.workload.adapter import OnChange, Workload
from twinhull_sidecar.workload.pod import PodWorkload
from twinhull_sidecar.workload.process import ProcessWorkload


def build_workload(
    application: Application,
    *,
    gate_dir: Path,
    gate_binary: Path,
    cri_socket: Path,
    on_change: OnChange = lambda: None,
) -> Workload:
    """The workload of this node; to be opened, and closed at the end."""
    if application.adapter == "pod":
        return PodWorkload(application.containers, gate_dir, cri_socket, on_change=on_change)
    return ProcessWorkload(
        application.argv, gate_binary, env=application.env, cwd=application.cwd, on_change=on_change
    )

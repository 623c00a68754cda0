"""The application, as the role logic sees it: start, stop, lease, state.

Two adapters: *pod* (the gates of this pod) and *process* (a plain command under a gate).
"""

from twinhull_sidecar.workload.adapter import OnChange, Phase, Workload, WorkloadError, WorkloadState
from twinhull_sidecar.workload.build import build_workload

__all__ = ["OnChange", "Phase", "Workload", "WorkloadError", "WorkloadState", "build_workload"]

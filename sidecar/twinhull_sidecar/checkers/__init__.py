"""Checks of the application, made by the sidecar: a node that does not pass them gets no new connections."""

from twinhull_sidecar.checkers.runner import NOT_RUNNING, Checkers, CheckState

__all__ = ["NOT_RUNNING", "CheckState", "Checkers"]

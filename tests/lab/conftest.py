"""Fixtures that every laboratory test may ask for."""

from tests.lab.gate_harness import server, start
from tests.lab.netns import lab

__all__ = ["lab", "server", "start"]

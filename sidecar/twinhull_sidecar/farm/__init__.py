"""The data path of a farm: two nodes hold one address and divide its clients (docs/farm.md)."""

from twinhull_sidecar.farm.decide import Application, Decision, Memory, Own, Peer, decide
from twinhull_sidecar.farm.holder import NOTHING, FarmError, FarmHolder, Wanted
from twinhull_sidecar.farm.message import FarmMessage, Phase, read
from twinhull_sidecar.farm.settings import Affinity, FarmSettings

__all__ = [
    "NOTHING",
    "Affinity",
    "Application",
    "Decision",
    "FarmError",
    "FarmHolder",
    "FarmMessage",
    "FarmSettings",
    "Memory",
    "Own",
    "Peer",
    "Phase",
    "Wanted",
    "decide",
    "read",
]

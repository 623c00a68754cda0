"""Names that the operator gives to things: the API group, labels, annotations, mount points, conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

GROUP: Final = "twinhull.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
Kind = Literal["MirrorModule", "FarmModule"]
MIRROR: Final = "MirrorModule"
FARM: Final = "FarmModule"
PLURALS: Final[Mapping[Kind, str]] = {MIRROR: "mirrormodules", FARM: "farmmodules"}

FIELD_MANAGER: Final = "twinhull-operator"
EVENT_COMPONENT: Final = "twinhull"

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MODULE: Final = "twinhull.dev/module"
ANNOTATION_CONFIG: Final = "twinhull.dev/config-hash"
ANNOTATION_TEMPLATE: Final = "twinhull.dev/template-hash"
ANNOTATION_UNPROTECTED: Final = "twinhull.dev/roll-unprotected"
"""On a module, its value a generation: roll that one out even while no node could take over."""
OWN_PREFIX: Final = "twinhull-"

SIDECAR_CONTAINER: Final = "twinhull"
INSTALL_CONTAINER: Final = "twinhull-install-gate"
VOLUME_CONFIG: Final = "twinhull-config"
VOLUME_BASE: Final = "twinhull-base"
VOLUME_PROC: Final = "twinhull-proc"
VOLUME_CRI: Final = "twinhull-cri"

BASE_DIRECTORY: Final = "/var/lib/twinhull"
CONFIG_DIRECTORY: Final = "/etc/twinhull"
CONFIG_FILE: Final = "module.json"
WITNESS_DIRECTORY: Final = f"{CONFIG_DIRECTORY}/witness"
FENCING_DIRECTORY: Final = f"{CONFIG_DIRECTORY}/fencing"
HOST_PROC: Final = "/host/proc"

LINK_NODES: Final = "nodes"

FIRST_BASE_PORT: Final = 7400
LAST_BASE_PORT: Final = 7998
PORT_STEP: Final = 2

AVAILABLE: Final = "Available"
IN_SYNC: Final = "InSync"
DEGRADED: Final = "Degraded"
WITNESSES_ANSWER: Final = "WitnessesAnswer"
CHECKERS_PASS: Final = "CheckersPass"
CONFIGURATION_VALID: Final = "ConfigurationValid"
UP_TO_DATE: Final = "UpToDate"
SIDECARS_REACHABLE: Final = "SidecarsReachable"

"""The virtual addresses of a module: probed, held under a lease of the kernel, announced."""

from twinhull_sidecar.vip.holder import AddressState, VipError, VipHolder
from twinhull_sidecar.vip.placement import Problem

__all__ = ["AddressState", "Problem", "VipError", "VipHolder"]

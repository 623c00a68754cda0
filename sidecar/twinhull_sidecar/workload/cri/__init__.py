"""The container runtime interface, as far as one image's configuration needs it."""

from twinhull_sidecar.workload.cri.image_config import ImageConfig, ImageConfigs, merge_command

__all__ = ["ImageConfig", "ImageConfigs", "merge_command"]

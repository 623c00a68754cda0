"""A real two-node Kubernetes cluster (kind on podman) for the end-to-end tests and the demo.

Run as ``python -m tests.cluster``; needs root, Debian's podman and nothing from a container registry.
"""

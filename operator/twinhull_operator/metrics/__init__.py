"""Prometheus metrics of all modules, from what their sidecars tell the operator, and of the operator itself."""

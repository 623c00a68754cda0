"""The role decision: one pure function of what a node knows; see :func:`twinhull_sidecar.role.decide.decide`."""

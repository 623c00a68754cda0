"""The sidecar of a twinhull module: role decision, heartbeats, virtual IP, workload, replication."""

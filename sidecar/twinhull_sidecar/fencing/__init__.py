"""What ends a node for certain: its own watchdog, and the peer's baseboard management controller (docs/fencing.md)."""

"""The witnesses of a module: what answers beside the peer, asked beside the control loop (docs/witnesses.md)."""

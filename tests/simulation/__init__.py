"""A deterministic simulation of two nodes' role decisions under crashes, partitions, freezes and delays."""

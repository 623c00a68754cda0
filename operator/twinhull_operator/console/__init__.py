"""The web console: what the operator knows, live, and orders by one click."""

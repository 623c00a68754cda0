"""The demo: ``python -m tests.demo``."""

"""Benchmarks: twinhull beside its peers, all in one run, as ratios (``make bench``)."""

"""Power cuts of a replicated pair under real applications, each case drawn from a seed."""

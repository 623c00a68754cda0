"""The control loop: gathers what is, lets ``role.decide`` say what to do, carries it out, and tells."""

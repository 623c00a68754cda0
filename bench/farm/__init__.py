"""The farm's part of ``python -m bench``: how clients are divided, what the way costs, how long a failover takes."""

"""``kubectl twinhull``: shows modules and gives orders to their sidecars. The standard library only, Python 3.10."""

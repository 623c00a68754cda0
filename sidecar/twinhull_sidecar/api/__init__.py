"""The control interface (``sidecar.proto``): generated messages and stubs, the server and the clients.

The generated files are committed; ``regenerate.sh`` makes them anew after a change of the proto file.
"""

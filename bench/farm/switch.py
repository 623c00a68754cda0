"""Cuts a node off at the laboratory's switch in one transaction and without the time that starting a program takes."""

from __future__ import annotations

import ctypes
import itertools

from tests.lab.netns import CLIENT, NODES, Lab


class Switch:
    """Talks to the kernel through libnftables (libnftables.h)."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._library = library = ctypes.CDLL("libnftables.so.1")
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        with lab.inside("switch"):
            # It keeps its socket, which stays in this namespace.
            self._context = library.nft_ctx_new(0)

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.nft_ctx_free(self._context)

    def cut(self, node: str) -> None:
        """Drop all frames from and to the node from now on. Raises RuntimeError."""
        self._run("add", node)

    def heal(self, node: str) -> None:
        """Undo :meth:`cut`. Raises RuntimeError."""
        self._run("delete", node)

    def _run(self, verb: str, node: str) -> None:
        members = {"lan": [*NODES, CLIENT], "direct": [*NODES]}
        pairs = [
            f'"{link}-{source}" . "{link}-{target}"'
            for link, names in members.items()
            for source, target in itertools.permutations(names, 2)
            if node in (source, target)
        ]
        command = f"{verb} element bridge lab cut {{ {', '.join(pairs)} }}"
        if self._library.nft_run_cmd_from_buffer(self._context, command.encode()) != 0:
            raise RuntimeError(f"nft {command}")

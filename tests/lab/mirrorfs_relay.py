"""A TCP relay that can cut connections, refuse new ones, stand still, and corrupt what passes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Relay:
    """Listens on ``port`` and passes everything on to ``target`` on loopback, both ways."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.open = True
        self.stalled = False
        self.passed = 0
        self.answered = 0
        self.corrupted = 0
        self._corrupt_at: int | None = None
        self._cut_at: int | None = None
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.open:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 2)
            except OSError:
                near.close()
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {near, far}
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, forward: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                while self.stalled:
                    time.sleep(0.01)
                if not forward:
                    self.answered += len(data)
                sink.sendall(self._through(bytearray(data)) if forward else data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                with self._lock:
                    self._sockets.discard(one)
                one.close()

    def _through(self, data: bytearray) -> bytearray:
        with self._lock:
            start, self.passed = self.passed, self.passed + len(data)
            if self._corrupt_at is not None and start <= self._corrupt_at < self.passed:
                data[self._corrupt_at - start] ^= 0x40
                self._corrupt_at = None
                self.corrupted += 1
            if self._cut_at is not None and self._cut_at < self.passed:
                kept = max(self._cut_at - start, 0)
                self._cut_at = None
                raise_after = data[:kept]
                # Half a frame arrives, then the connection ends.
                for one in list(self._sockets):
                    one.shutdown(socket.SHUT_RD)
                return raise_after
        return data

    def corrupt_after(self, count: int) -> None:
        """Flip one bit of the stream to the target, ``count`` bytes from now."""
        with self._lock:
            self._corrupt_at = self.passed + count

    def cut_after(self, count: int) -> None:
        """End the connection in the middle, ``count`` bytes from now."""
        with self._lock:
            self._cut_at = self.passed + count

    def cut(self) -> None:
        """End every connection now; new ones are still taken unless ``open`` is False."""
        with self._lock:
            for one in list(self._sockets):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        self.cut()

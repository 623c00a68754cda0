"""A TCP relay that can cut connections, refuse new ones, stand still, be slow, and corrupt, lose or reorder bytes."""

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
        #: Connections that were passed on.
        self.accepted = 0
        self.lost = 0
        self.swapped = 0
        #: Seconds that each piece (at most 64 KiB) takes, and bytes a second; 0: no limit.
        self.delay = 0.0
        self.rate = 0.0
        self._corrupt_at: int | None = None
        self._corrupt_answer = False
        self._lose_at: int | None = None
        self._lose_count = 0
        self._swap = False
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
                self.accepted += 1
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, forward: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                while self.stalled:
                    time.sleep(0.01)
                if self.delay or self.rate:
                    time.sleep(self.delay + (len(data) / self.rate if self.rate else 0))
                if forward:
                    sink.sendall(self._through(bytearray(data)))
                else:
                    self.answered += len(data)
                    sink.sendall(self._back(bytearray(data)))
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                with self._lock:
                    self._sockets.discard(one)
                one.close()

    def _back(self, data: bytearray) -> bytearray:
        with self._lock:
            if self._corrupt_answer and data:
                data[len(data) // 2] ^= 0x10
                self._corrupt_answer = False
                self.corrupted += 1
        return data

    def _through(self, data: bytearray) -> bytearray:
        with self._lock:
            start, self.passed = self.passed, self.passed + len(data)
            if self._corrupt_at is not None and start <= self._corrupt_at < self.passed:
                data[self._corrupt_at - start] ^= 0x40
                self._corrupt_at = None
                self.corrupted += 1
            if self._lose_at is not None and start <= self._lose_at < self.passed:
                at = self._lose_at - start
                del data[at : at + self._lose_count]
                self._lose_at = None
                self.lost += 1
            if self._swap and len(data) > 1:
                middle = len(data) // 2
                data = data[middle:] + data[:middle]
                self._swap = False
                self.swapped += 1
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

    def corrupt_answer(self) -> None:
        """Flip one bit of the next piece that comes back."""
        with self._lock:
            self._corrupt_answer = True

    def lose_after(self, count: int, length: int) -> None:
        """Leave ``length`` bytes out of the stream to the target, ``count`` bytes from now."""
        with self._lock:
            self._lose_at, self._lose_count = self.passed + count, length

    def swap(self) -> None:
        """Change the order of the two halves of the next piece to the target."""
        with self._lock:
            self._swap = True

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

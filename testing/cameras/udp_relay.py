"""A relay of UDP before whoever listens, which loses datagrams, or parts of them, when a test says so."""

import contextlib
import socket
import threading

from testing.ports import free_port


class UdpRelay:
    """Takes what comes to a port of loopback, and hands it on to another, ``port``."""

    def __init__(self, listens_on: int) -> None:
        self.port = free_port()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", listens_on))
        self._to_lose: list[int] = []
        threading.Thread(target=self._hand_on, daemon=True).start()

    def lose(self, kept_bytes: int = 0) -> None:
        """Let only so many bytes of the next datagram through."""
        self._to_lose.append(kept_bytes)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _hand_on(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65_536):
                if self._to_lose:
                    data = data[: self._to_lose.pop(0)]
                if data:
                    self._socket.sendto(data, ("127.0.0.1", self.port))

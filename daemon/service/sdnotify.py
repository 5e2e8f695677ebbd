"""The conversation with the service manager, as sd_notify(3) and sd_watchdog_enabled(3) have it."""

import os
import socket
import time


class ServiceManager:
    """Tells systemd how the program is. Outside systemd every call does nothing."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s: float | None = int(usec) / 1e6 if usec.isdigit() and mine else None

    def ready(self) -> None:
        """Say that the model has answered its warm-up."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that a stop has begun."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Say that a reload has begun; :meth:`ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send("STATUS=" + " ".join(text.split()))

    def extend(self, by_s: float) -> None:
        """Ask for this much time from now on, while a model loads or a stop drains."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(by_s * 1e6)}")

    def alive(self) -> None:
        """Say that there is progress, or nothing to do."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.connect(address)
                channel.sendall(message.encode())
            except OSError:
                return  # a service manager that is gone is no reason to stop captioning

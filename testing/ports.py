"""Ports for the servers that tests start."""

import secrets
import socket

BELOW_THE_KERNELS_OWN = range(10_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nothing listens on.

    None is of those that the kernel gives to outgoing connections: a server that is stopped and started again finds
    its port still free.
    """
    found: set[int] = set()
    while len(found) < count:
        port = secrets.choice(BELOW_THE_KERNELS_OWN)  # tests that run beside this one seed `random` alike
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return list(found)


def free_port() -> int:
    """Return one port of loopback that nothing listens on."""
    return free_ports(1)[0]

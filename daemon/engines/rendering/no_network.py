"""The end of a process's way to the network: a filter of system calls under which it makes local sockets alone."""

import ctypes
import platform
import socket

from connectors.cage.seccomp import ALLOW, EQUAL, RETURN, Numbers, Step, install, one_of, only_own_numbers

_SOCKET = Numbers(41, 198)
_NO_NEW_PRIVILEGES = 38  # prctl(2)


def leave_the_network() -> None:
    """Install the filter for good; :class:`OSError` where the kernel has none, ``AttributeError`` on another processor.

    A refused call fails with ``EPERM``.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(2)")
    install(_program(platform.machine()))


def _program(machine: str) -> list[Step]:
    of_local_sockets = one_of(0, (int(socket.AF_UNIX),))
    judged = (EQUAL, 0, len(of_local_sockets), getattr(_SOCKET, machine))
    return [*only_own_numbers(machine), judged, *of_local_sockets, (RETURN, 0, 0, ALLOW)]

"""The filter of a decoder's system calls: whatever is not on the list is refused, on every thread."""

import os
import platform

from connectors.cage.seccomp import (
    ALLOW,
    AND,
    ANY_BIT,
    AT_LEAST,
    EQUAL,
    LOAD,
    REFUSE,
    RETURN,
    UNKNOWN,
    Step,
    install,
    low,
    one_of,
    only_own_numbers,
)
from connectors.cage.system_calls import ALLOWED, ALLOWED_WITH_DEVICES, CONDITIONAL

_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_MAKING = os.O_CREAT | os.O_TRUNC
_DRIVER_TYPE = ord("F") << 8  # of NVIDIA's numbers for ioctl; its memory manager's have none and are below 256
_DRIVER_STARTS = (0x30000001, 0x30000002)  # its memory manager's begin and end
_PR_SET_NAME = 15  # codecs name their threads
# F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC F_GET_SEALS: F_SETOWN and its kin would send signals to others
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030, 1034)


def filter_system_calls(*, devices: bool = False) -> None:
    """Install the filter for good; :class:`OSError` where the kernel refuses, ``AttributeError`` on another processor.

    With ``devices`` the calls that the driver of a graphics card needs are allowed too; which files they reach is
    Landlock's to say.
    """
    install(program(platform.machine(), devices=devices))


def program(machine: str, *, devices: bool = False) -> list[Step]:
    """Return the filter for a processor; the calls that decoding makes most come first."""
    steps = only_own_numbers(machine)
    allowed = {**ALLOWED, **ALLOWED_WITH_DEVICES} if devices else ALLOWED
    for numbers in allowed.values():
        number = getattr(numbers, machine)
        if number >= 0:
            steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    for name, judge in _conditions(devices=devices).items():
        steps += [(EQUAL, 0, len(judge), getattr(CONDITIONAL[name], machine)), *judge]
    return [*steps, (RETURN, 0, 0, REFUSE)]


def _conditions(*, devices: bool) -> dict[str, list[Step]]:
    """Return how each conditional call is judged."""
    return {
        **({"ioctl": _of_drivers()} if devices else {}),
        "mmap": _without_bits(2, _PROT_EXEC),
        "mprotect": _without_bits(2, _PROT_EXEC),
        "openat": _without_bits(2, _MAKING if devices else _WRITING),
        "fcntl": one_of(1, _FCNTL_COMMANDS),
        "prctl": one_of(0, (_PR_SET_NAME,)),
        "prlimit64": _reads_own_limits(),
        "clone": [(LOAD, 0, 0, low(0)), (ANY_BIT, 1, 0, _CLONE_THREAD), (RETURN, 0, 0, REFUSE), _allow()],
        # its arguments lie in memory, out of the filter's sight; C libraries fall back to clone
        "clone3": [(RETURN, 0, 0, UNKNOWN)],
    }


def _allow() -> Step:
    return (RETURN, 0, 0, ALLOW)


def _without_bits(argument: int, bits: int) -> list[Step]:
    return [(LOAD, 0, 0, low(argument)), (ANY_BIT, 0, 1, bits), (RETURN, 0, 0, REFUSE), _allow()]


def _reads_own_limits() -> list[Step]:
    """Allow prlimit64 on this process (0) without new limits (a null pointer)."""
    zeros = (low(0), low(2), low(2) + 4)
    steps: list[Step] = []
    for at in zeros:
        steps += [(LOAD, 0, 0, at), (EQUAL, 1, 0, 0), (RETURN, 0, 0, REFUSE)]
    return [*steps, _allow()]


def _of_drivers() -> list[Step]:
    """Allow ioctl with the numbers of NVIDIA's drivers, and none of a terminal, a socket or a file."""
    steps: list[Step] = [(LOAD, 0, 0, low(1)), (AT_LEAST, 1, 0, 256), _allow()]
    for number in _DRIVER_STARTS:
        steps += [(EQUAL, 0, 1, number), _allow()]
    return [*steps, (AND, 0, 0, 0xFF00), (EQUAL, 0, 1, _DRIVER_TYPE), _allow(), (RETURN, 0, 0, REFUSE)]

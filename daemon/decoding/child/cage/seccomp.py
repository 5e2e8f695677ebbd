"""The filter of system calls: whatever is not on the list is refused, on every thread.

The filter is a program for the kernel's BPF machine, see seccomp(2). A refused call fails with ``EPERM``, so that
libraries take their other way where they have one.
"""

import ctypes
import os
import platform
import struct

from daemon.decoding.child.cage.system_calls import ALLOWED, ALLOWED_WITH_DEVICES, AUDIT_ARCHITECTURE, CONDITIONAL

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld [k], jeq, jge, jset, ret
_AND = 0x54
_X32_CALLS = 0x40000000  # a second numbering on x86-64, which would pass the table by
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data

_PROT_EXEC = 4
_CLONE_THREAD = 0x10000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_MAKING = os.O_CREAT | os.O_TRUNC
_DRIVER_TYPE = ord("F") << 8  # of NVIDIA's numbers for ioctl; its memory manager's have none and are below 256
_DRIVER_STARTS = (0x30000001, 0x30000002)  # its memory manager's begin and end
_PR_SET_NAME = 15  # codecs name their threads
# F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC F_GET_SEALS: F_SETOWN and its kin would send signals to others
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030, 1034)

Step = tuple[int, int, int, int]  # code, steps to skip when true, steps to skip when false, operand


def filter_system_calls(*, devices: bool = False) -> None:
    """Install the filter for good; :class:`OSError` where the kernel refuses, ``KeyError`` on another processor.

    With ``devices`` the calls that the driver of a graphics card needs are allowed too; which files they reach is
    Landlock's to say.
    """
    machine = platform.machine()
    steps = program(machine, devices=devices)
    code = b"".join(struct.pack("<HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(buffer))
    block = ctypes.create_string_buffer(header, len(header))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SECCOMP[machine], _SET_MODE_FILTER, _ALL_THREADS, block) != 0:
        raise OSError(ctypes.get_errno(), "seccomp(2)")


def program(machine: str, *, devices: bool = False) -> list[Step]:
    """Return the filter for a processor; the calls that decoding makes most come first."""
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, getattr(AUDIT_ARCHITECTURE, machine)),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32_CALLS),
        (_RETURN, 0, 0, _REFUSE),
    ]
    allowed = {**ALLOWED, **ALLOWED_WITH_DEVICES} if devices else ALLOWED
    for numbers in allowed.values():
        number = getattr(numbers, machine)
        if number >= 0:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for name, judge in _conditions(devices=devices).items():
        steps += [(_EQUAL, 0, len(judge), getattr(CONDITIONAL[name], machine)), *judge]
    return [*steps, (_RETURN, 0, 0, _REFUSE)]


def _conditions(*, devices: bool) -> dict[str, list[Step]]:
    """Return how each conditional call is judged."""
    return {
        **({"ioctl": _of_drivers()} if devices else {}),
        "mmap": _without_bits(2, _PROT_EXEC),
        "mprotect": _without_bits(2, _PROT_EXEC),
        "openat": _without_bits(2, _MAKING if devices else _WRITING),
        "fcntl": _one_of(1, _FCNTL_COMMANDS),
        "prctl": _one_of(0, (_PR_SET_NAME,)),
        "prlimit64": _reads_own_limits(),
        "clone": [(_LOAD, 0, 0, _low(0)), (_ANY_BIT, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, _REFUSE), _allow()],
        # its arguments lie in memory, out of the filter's sight; C libraries fall back to clone
        "clone3": [(_RETURN, 0, 0, _UNKNOWN)],
    }


def _low(argument: int) -> int:
    """Return where the lower half of an argument lies in the filter's data."""
    return _ARGUMENTS_AT + 8 * argument


def _allow() -> Step:
    return (_RETURN, 0, 0, _ALLOW)


def _without_bits(argument: int, bits: int) -> list[Step]:
    return [(_LOAD, 0, 0, _low(argument)), (_ANY_BIT, 0, 1, bits), (_RETURN, 0, 0, _REFUSE), _allow()]


def _one_of(argument: int, values: tuple[int, ...]) -> list[Step]:
    steps: list[Step] = [(_LOAD, 0, 0, _low(argument))]
    for value in values:
        steps += [(_EQUAL, 0, 1, value), _allow()]
    return [*steps, (_RETURN, 0, 0, _REFUSE)]


def _reads_own_limits() -> list[Step]:
    """Allow prlimit64 on this process (0) without new limits (a null pointer)."""
    zeros = (_low(0), _low(2), _low(2) + 4)
    steps: list[Step] = []
    for at in zeros:
        steps += [(_LOAD, 0, 0, at), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE)]
    return [*steps, _allow()]


def _of_drivers() -> list[Step]:
    """Allow ioctl with the numbers of NVIDIA's drivers, and none of a terminal, a socket or a file."""
    steps: list[Step] = [(_LOAD, 0, 0, _low(1)), (_AT_LEAST, 1, 0, 256), _allow()]
    for number in _DRIVER_STARTS:
        steps += [(_EQUAL, 0, 1, number), _allow()]
    return [*steps, (_AND, 0, 0, 0xFF00), (_EQUAL, 0, 1, _DRIVER_TYPE), _allow(), (_RETURN, 0, 0, _REFUSE)]

"""Filters of system calls: programs for the kernel's BPF machine, installed for good. See seccomp(2).

A refused call fails with ``EPERM``, so that libraries take their other way where they have one.
"""

import ctypes
import platform
import struct
from typing import NamedTuple

# of BPF: ld [k], jeq, jge, jset, and, ret
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
_KILL = 0x80000000
_X32_CALLS = 0x40000000  # a second numbering on x86-64, which would pass a table by
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
_SET_MODE_FILTER, _ALL_THREADS = 1, 1

Step = tuple[int, int, int, int]  # code, steps to skip when true, steps to skip when false, operand


class Numbers(NamedTuple):
    """A number of the kernel's on each processor."""

    x86_64: int
    aarch64: int


_SECCOMP = Numbers(317, 277)
_AUDIT_ARCHITECTURE = Numbers(0xC000003E, 0xC00000B7)  # the processors' names in a filter's data (AUDIT_ARCH_*)


def install(steps: list[Step]) -> None:
    """Install a filter for good, on every thread; the process must not be able to gain privileges.

    :class:`OSError` where the kernel refuses, ``AttributeError`` on another processor.
    """
    code = b"".join(struct.pack("<HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(buffer))
    block = ctypes.create_string_buffer(header, len(header))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(getattr(_SECCOMP, platform.machine()), _SET_MODE_FILTER, _ALL_THREADS, block) != 0:
        raise OSError(ctypes.get_errno(), "seccomp(2)")


def only_own_numbers(machine: str) -> list[Step]:
    """Return the begin of a filter, which loads a call's number: no other numbering of calls passes it by."""
    return [
        (LOAD, 0, 0, _ARCHITECTURE_AT),
        (EQUAL, 1, 0, getattr(_AUDIT_ARCHITECTURE, machine)),
        (RETURN, 0, 0, _KILL),
        (LOAD, 0, 0, _NUMBER_AT),
        (AT_LEAST, 0, 1, _X32_CALLS),
        (RETURN, 0, 0, REFUSE),
    ]


def low(argument: int) -> int:
    """Return where the lower half of a call's argument lies in the filter's data."""
    return _ARGUMENTS_AT + 8 * argument


def one_of(argument: int, values: tuple[int, ...]) -> list[Step]:
    """Return the judgement of a call that is allowed with these values of an argument alone."""
    steps: list[Step] = [(LOAD, 0, 0, low(argument))]
    for value in values:
        steps += [(EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*steps, (RETURN, 0, 0, REFUSE)]

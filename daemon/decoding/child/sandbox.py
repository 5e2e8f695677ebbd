"""The sandbox of a decoding child, which gives up memory, files, network, programs and privileges before it reads.

Each measure stands on its own; what the kernel or the container refuses is reported, not fatal. CPU time has no limit
here: the parent ends a child that passes its deadline.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld [k], jeq, jge, jset, ret
_X32_CALLS = 0x40000000  # a second numbering on x86-64, which would pass the table by
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
_MAX_OPEN_FILES = 1024  # one descriptor a clip, two while it is read, one a window
_OOM_SCORE = 900  # the kernel ends a decoder before it ends the program
_CLONE_THREAD = 0x10000
_CLONE3 = 435  # its arguments lie in memory, out of the filter's sight; C libraries fall back to clone
_OPENAT_FLAGS, _OPEN_FLAGS = 2, 1  # which argument holds the flags
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True, slots=True)
class _SystemCalls:
    """The system calls of one architecture by number: those to refuse, and those that are looked into.

    ``open_number`` is None where there is ``openat`` alone.
    """

    architecture: int
    clone: int
    openat: int
    open_number: int | None
    refused: tuple[int, ...]  # they reach the network, start programs, change files or look into other processes


_CALLS = {
    "x86_64": _SystemCalls(
        architecture=0xC000003E,
        clone=56,
        openat=257,
        open_number=2,
        # socket connect accept bind listen socketpair execve ptrace rename mkdir rmdir creat link unlink symlink
        # chmod chown mount umount2 kill tkill
        refused=(
            *(41, 42, 43, 49, 50, 53, 59, 101, 82, 83, 84, 85, 86, 87, 88, 90, 92, 165, 166, 62, 200),
            # openat2 io_uring_setup execveat bpf userfaultfd process_vm_readv process_vm_writev unlinkat renameat
            # renameat2 mkdirat
            *(437, 425, 322, 321, 323, 310, 311, 263, 264, 316, 258),
            # linkat symlinkat fchmodat fchownat accept4 truncate fchmod fchown setxattr pidfd_open pidfd_getfd fork
            # vfork
            *(265, 266, 268, 260, 288, 76, 91, 93, 188, 434, 438, 57, 58),
        ),
    ),
    "aarch64": _SystemCalls(
        architecture=0xC00000B7,
        clone=220,
        openat=56,
        open_number=None,
        # socket socketpair bind listen accept connect execve ptrace mount umount2 kill tkill openat2 io_uring_setup
        refused=(
            *(198, 199, 200, 201, 202, 203, 221, 117, 40, 39, 129, 130, 437, 425),
            # execveat bpf userfaultfd process_vm_readv/writev unlinkat renameat renameat2 mkdirat linkat symlinkat
            *(281, 280, 282, 270, 271, 35, 38, 276, 34, 37, 36),
            # fchmodat fchownat accept4 truncate fchmod fchown setxattr pidfd_open pidfd_getfd
            *(53, 54, 242, 45, 52, 55, 5, 434, 438),
        ),
    ),
}


def confine(memory_bytes: int, parent: int) -> list[str]:
    """Confine this process for good and return the names of the measures that could not be taken.

    ``memory_bytes`` bounds its address space; ``parent`` is the process whose death ends it.
    """
    measures = {
        "oom_score_adj": lambda: Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE)),
        "rlimits": lambda: _limit(memory_bytes),
        "parent_death_signal": lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        "no_new_privileges": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "seccomp": _filter_system_calls,
    }
    refused = []
    for name, measure in measures.items():
        try:
            measure()
        except (OSError, ValueError, KeyError):
            refused.append(name)
    if os.getppid() != parent:  # it died before its death could be a signal
        raise SystemExit(0)
    return refused


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))


def _prctl(option: int, argument: int, pointer: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    call = libc.prctl
    call.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if call(option, argument, pointer, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _filter_system_calls() -> None:
    """Refuse the system calls above with EPERM, new processes, and opening any file for writing."""
    program = _program(_CALLS[platform.machine()])
    code = b"".join(struct.pack("<HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    block = ctypes.create_string_buffer(header, len(header))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(block))


def _program(calls: _SystemCalls) -> list[tuple[int, int, int, int]]:
    """Return the filter as BPF steps ``(code, jump when true, jump when false, operand)``; threads may be started."""
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, calls.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32_CALLS),
        (_RETURN, 0, 0, _REFUSE),
    ]
    steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN)]
    steps += [
        (_EQUAL, 0, 4, calls.clone),
        (_LOAD, 0, 0, _ARGUMENTS_AT),
        (_ANY_BIT, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for refused in calls.refused:
        steps += [(_EQUAL, 0, 1, refused), (_RETURN, 0, 0, _REFUSE)]
    for number, argument in ((calls.openat, _OPENAT_FLAGS), (calls.open_number, _OPEN_FLAGS)):
        if number is not None:
            steps += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),
                (_ANY_BIT, 0, 1, _WRITING),
                (_RETURN, 0, 0, _REFUSE),
                (_RETURN, 0, 0, _ALLOW),
            ]
    return [*steps, (_RETURN, 0, 0, _ALLOW)]

"""Whatever a process gives up of itself, for good, before it sees a byte from outside."""

import ctypes
import os
import resource
import signal
import site
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION = 0x20080522


def library_folders(*packages: str) -> list[str]:
    """Return the folders that Python's modules are read from; these packages of ours and nothing beside them."""
    ours = Path(__file__).resolve().parents[2]
    paths = sysconfig.get_paths()
    folders = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()}
    return sorted({*folders, *(str(ours / name) for name in packages), f"{sys.base_prefix}/lib"})


def confirm_one_thread() -> None:
    """Raise :class:`OSError` where a thread runs that would stay outside the cage."""
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise OSError(0, f"{threads} threads run before the cage is closed")


def die_with_parent() -> None:
    """End when the parent does, whatever ends it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_memory() -> None:
    """Let no other process of this user look into this one's memory."""
    _prctl(_PR_SET_DUMPABLE, 0)


def forgo_privileges() -> None:
    """Gain no privileges from here on."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def limit_files_and_tasks(files: int, more_tasks: int) -> None:
    """Open no more files than these, start no more threads than these, and leave no core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    tasks = _tasks_of_this_user() + more_tasks  # the kernel counts those of the whole user
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    tasks = tasks if hard == resource.RLIM_INFINITY else min(tasks, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))


def _tasks_of_this_user() -> int:
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it went away
            if process.stat().st_uid == os.getuid():
                count += len(os.listdir(process / "task"))
    return count


def _prctl(option: int, argument: int) -> None:
    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if call(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _has_capabilities() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    sets = dict(line.split(":\t", 1) for line in lines if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb")))
    return any(int(bits, 16) for bits in sets.values())


def drop_capabilities() -> None:
    """Drop every capability: root's too, where the daemon runs as root. Units may refuse the call to all others."""
    if not _has_capabilities():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

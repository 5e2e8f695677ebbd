"""The cage: all that a decoder gives up, for good, before it sees a byte from outside.

Its layers are independent, so that one fault in one of them lets nothing out:

* one thread when the cage closes, so that no thread is left outside it;
* rlimits: address space, no files written, no core, a bounded number of tasks;
* no privileges, none to be gained, and no look into its memory;
* Landlock: only the folders of Python's libraries can be read, no TCP, no signals and abstract sockets to others;
* a filter of system calls that allows what decoding needs and refuses the rest, on every thread.

CPU time has no limit here: the parent ends a child that passes its deadline.
"""

import ctypes
import os
import resource
import signal
import site
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from daemon.decoding.child.cage.landlock import restrict
from daemon.decoding.child.cage.seccomp import filter_system_calls

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION = 0x20080522
_MAX_OPEN_FILES = 1024  # one descriptor a clip, two while it is read, one a window
_MAX_MORE_TASKS = 512  # threads beside what this user runs when the cage closes: codecs start a few for each core
_OOM_SCORE = 900  # the kernel ends a decoder before it ends the program

OPTIONAL = frozenset({"oom_score_adj"})
"""Layers that make the machine kinder and hold nothing in: some containers refuse them."""


def confine(memory_bytes: int, parent: int, devices: Sequence[str] = (), facts: Sequence[str] = ()) -> dict[str, str]:
    """Confine this process for good and return every layer, with the reason where it could not be had, else nothing.

    ``memory_bytes`` bounds its address space; ``parent`` is the process whose death ends it. ``devices`` are files that
    the driver of a graphics card uses, and ``facts`` what it reads: the cage is as much wider, and the address space,
    of which such drivers reserve more than any machine has, is not bounded but what is written of it.
    """
    layers: dict[str, Callable[[], object]] = {
        "one_thread": _confirm_one_thread,
        "oom_score_adj": lambda: Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE)),
        "rlimits": lambda: _limit(memory_bytes, resource.RLIMIT_DATA if devices else resource.RLIMIT_AS),
        "parent_death_signal": lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        "not_dumpable": lambda: _prctl(_PR_SET_DUMPABLE, 0),
        "no_capabilities": _drop_capabilities,
        "no_new_privileges": lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "landlock": lambda: restrict([*library_folders(), *facts], devices),
        "seccomp": lambda: filter_system_calls(devices=bool(devices)),
    }
    outcome = dict.fromkeys(layers, "")
    for name, layer in layers.items():
        try:
            layer()
        except (OSError, ValueError, KeyError, AttributeError) as error:
            outcome[name] = str(getattr(error, "strerror", None) or error) or "refused"
    if os.getppid() != parent:  # it died before its death could be a signal
        raise SystemExit(0)
    return outcome


def library_folders() -> list[str]:
    """Return the folders that Python's modules are read from; the daemon's own packages and nothing beside them."""
    ours = Path(__file__).resolve().parents[4]
    paths = sysconfig.get_paths()
    folders = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()}
    return sorted({*folders, *(str(ours / name) for name in ("daemon", "connectors")), f"{sys.base_prefix}/lib"})


def _confirm_one_thread() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise OSError(0, f"{threads} threads run before the cage is closed")


def _limit(memory_bytes: int, kind: int) -> None:
    resource.setrlimit(kind, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    tasks = _tasks_of_this_user() + _MAX_MORE_TASKS  # the kernel counts those of the whole user
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


def _drop_capabilities() -> None:
    """Drop every capability: root's too, where the daemon runs as root. Units may refuse the call to all others."""
    if not _has_capabilities():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

"""The cage: all that a decoder gives up, for good, before it sees a byte from outside.

Its layers are independent, so that one fault in one of them lets nothing out:

* one thread when the cage closes, so that no thread is left outside it;
* rlimits: address space, no longer files than that, no core, a bounded number of tasks;
* no privileges, none to be gained, and no look into its memory;
* Landlock: only the folders of Python's libraries can be read, no TCP, no signals and abstract sockets to others;
* a filter of system calls that allows what decoding needs and refuses the rest, on every thread.

CPU time has no limit here: the parent ends a child that passes its deadline.
"""

import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

from connectors.cage.landlock import restrict
from connectors.cage.process import (
    confirm_one_thread,
    die_with_parent,
    drop_capabilities,
    forgo_privileges,
    hide_memory,
    library_folders,
    limit_files_and_tasks,
)
from daemon.decoding.child.cage.seccomp import filter_system_calls

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
        "one_thread": confirm_one_thread,
        "oom_score_adj": lambda: Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE)),
        "rlimits": lambda: _limit(memory_bytes, resource.RLIMIT_DATA if devices else resource.RLIMIT_AS),
        "parent_death_signal": die_with_parent,
        "not_dumpable": hide_memory,
        "no_capabilities": drop_capabilities,
        "no_new_privileges": forgo_privileges,
        "landlock": lambda: restrict([*library_folders("daemon", "connectors"), *facts], devices),
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


def _limit(memory_bytes: int, kind: int) -> None:
    resource.setrlimit(kind, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))
    limit_files_and_tasks(_MAX_OPEN_FILES, _MAX_MORE_TASKS)

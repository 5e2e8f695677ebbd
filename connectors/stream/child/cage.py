"""The recorder's cage: it reaches the network, and of this machine its own folder and what name resolution reads.

It has no other process to signal, starts none, listens to nobody over TCP, makes no executable memory and no file
outside its folder. Closed before the first byte from outside comes.
"""

import os
import platform
import resource
import socket
import ssl
from collections.abc import Callable

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
from connectors.cage.seccomp import (
    ALLOW,
    ANY_BIT,
    EQUAL,
    LOAD,
    REFUSE,
    RETURN,
    UNKNOWN,
    Numbers,
    Step,
    install,
    low,
    one_of,
    only_own_numbers,
)
from connectors.cage.system_calls import ALLOWED, CONDITIONAL

_MEMORY_BYTES = 2 * 2**30  # of address space, of which the libraries take a third
_MAX_FILE_BYTES = 256 * 2**20
_MAX_OPEN_FILES, _MAX_MORE_TASKS = 256, 64
_RESOLVER = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services"),
    *("/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf"),  # and not the private keys beside them
    *("/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust"),
    *("/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/run/systemd/resolve", "/dev/urandom"),
)
_PROT_EXEC, _CLONE_THREAD, _PR_SET_NAME = 4, 0x10000, 15
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC
_FAMILIES = (int(socket.AF_INET), int(socket.AF_INET6))
_FIONREAD, _FIONBIO = 0x541B, 0x5421

_FOR_NETWORK = {
    "connect": Numbers(42, 203),
    "bind": Numbers(49, 200),
    "getsockname": Numbers(51, 204),
    "getpeername": Numbers(52, 205),
    "setsockopt": Numbers(54, 208),
    "getsockopt": Numbers(55, 209),
    "shutdown": Numbers(48, 210),
    "sendmmsg": Numbers(307, 269),
    "recvmmsg": Numbers(299, 243),
    "select": Numbers(23, -1),
    "pselect6": Numbers(270, 72),
}
_FOR_FILES = {
    "open": Numbers(2, -1),
    "openat": Numbers(257, 56),
    "ftruncate": Numbers(77, 46),
    "unlink": Numbers(87, -1),
    "unlinkat": Numbers(263, 35),
    "rename": Numbers(82, -1),
    "renameat": Numbers(264, 38),
    "renameat2": Numbers(316, 276),
    "stat": Numbers(4, -1),
    "lstat": Numbers(6, -1),
    "access": Numbers(21, -1),
    "faccessat": Numbers(269, 48),
    "flock": Numbers(73, 32),
}
_SOCKET, _IOCTL = Numbers(41, 198), Numbers(16, 29)


def confine(folder: str, authorities: str, *, outlives: bool) -> list[str]:
    """Confine this process for good; return the layers that could not be had.

    ``authorities`` is a file of certificates to trust beside the system's; empty where there is none.
    """
    layers: dict[str, Callable[[], object]] = {
        "one_thread": confirm_one_thread,
        "rlimits": _limit,
        **({} if outlives else {"parent_death_signal": die_with_parent}),
        "not_dumpable": hide_memory,
        "no_capabilities": drop_capabilities,
        "no_new_privileges": forgo_privileges,
        "landlock": lambda: restrict([*_readable(), *filter(None, [authorities])], (), [folder], connects=True),
        "seccomp": lambda: install(program(platform.machine())),
    }
    missing = []
    for name, layer in layers.items():
        try:
            layer()
        except (OSError, ValueError, KeyError, AttributeError):
            missing.append(name)
    return missing


def _readable() -> list[str]:
    authorities = ssl.get_default_verify_paths()
    found = [path for path in (authorities.cafile, authorities.capath) if path is not None]
    return [*library_folders("connectors"), *_RESOLVER, *found]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    limit_files_and_tasks(_MAX_OPEN_FILES, _MAX_MORE_TASKS)


def program(machine: str) -> list[Step]:
    """Return the filter for a processor."""
    steps = only_own_numbers(machine)
    for numbers in {**ALLOWED, **_FOR_NETWORK, **_FOR_FILES}.values():
        number = getattr(numbers, machine)
        if number >= 0:
            steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    for numbers, judge in _conditions():
        steps += [(EQUAL, 0, len(judge), getattr(numbers, machine)), *judge]
    return [*steps, (RETURN, 0, 0, REFUSE)]


def _conditions() -> list[tuple[Numbers, list[Step]]]:
    threads: list[Step] = [
        *((LOAD, 0, 0, low(0)), (ANY_BIT, 1, 0, _CLONE_THREAD), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW))
    ]
    return [
        (_SOCKET, one_of(0, _FAMILIES)),
        (_IOCTL, one_of(1, (_FIONREAD, _FIONBIO))),
        (CONDITIONAL["mmap"], _without(2, _PROT_EXEC)),
        (CONDITIONAL["mprotect"], _without(2, _PROT_EXEC)),
        (CONDITIONAL["fcntl"], one_of(1, _FCNTL_COMMANDS)),
        (CONDITIONAL["prctl"], one_of(0, (_PR_SET_NAME,))),
        (CONDITIONAL["clone"], threads),
        (CONDITIONAL["clone3"], [(RETURN, 0, 0, UNKNOWN)]),
    ]


def _without(argument: int, bits: int) -> list[Step]:
    return [(LOAD, 0, 0, low(argument)), (ANY_BIT, 0, 1, bits), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]


def load_what_comes_late() -> None:
    """Let the C library load what it resolves names with while it may: behind the cage it can't."""
    try:
        socket.getaddrinfo("localhost", 80)
    except OSError:
        return
    finally:
        os.environ.pop("LD_LIBRARY_PATH", None)

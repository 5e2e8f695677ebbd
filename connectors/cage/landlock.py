"""Landlock: which files a process may open, and that it reaches nothing outside itself (landlock(7))."""

import ctypes
import os
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_ASK_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_FOLDER, _CONTROL_DEVICE = 1 << 1, 1 << 2, 1 << 3, 1 << 15
_USE_DEVICE = _READ_FILE | _WRITE_FILE
_OF_FILES = _USE_DEVICE | _CONTROL_DEVICE  # the rights that a rule about a single file may give
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_OF_FOLDERS = _USE_DEVICE | _READ_FOLDER | _REMOVE_FILE | _MAKE_FILE
_TCP_BIND, _TCP_BIND_AND_CONNECT, _ABSTRACT_SOCKETS_AND_SIGNALS = 1, 3, 3
# how many rights over files each version knows: 2 adds linking between folders, 3 truncation, 5 devices
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHTS = 16
_TRUNCATION_SINCE, _NETWORK_SINCE, _CONTROL_SINCE, _SCOPES_SINCE = 3, 4, 5, 6


def version() -> int:
    """Return the kernel's version of Landlock; 0 where there is none, or where it is off."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(int(libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)), 0)


def restrict(
    readable: Iterable[str], devices: Iterable[str] = (), writable: Iterable[str] = (), *, connects: bool = False
) -> int:
    """Allow reading beneath the given folders, all use of the given devices, and nothing else; return the version.

    Beneath ``writable`` folders files may be made, written, renamed and deleted too, but no links and devices. With
    ``connects`` the process may connect to others over TCP, and listen to none.

    The process must not be able to gain privileges (``PR_SET_NO_NEW_PRIVS``). Descriptors that are open stay usable.
    :class:`OSError` where the kernel has no Landlock.
    """
    known = version()
    if known < 1:
        raise OSError(ctypes.get_errno(), "the kernel has no Landlock, or it is off")
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = _attributes(known, _TCP_BIND if connects else _TCP_BIND_AND_CONNECT)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, *attributes, 0), "landlock_create_ruleset")
    try:
        for folder in readable:
            _allow(libc, ruleset, folder, _READ_FILE | _READ_FOLDER)
        for folder in writable:
            _allow(libc, ruleset, folder, _OF_FOLDERS | (_TRUNCATE if known >= _TRUNCATION_SINCE else 0))
        for device in devices:
            _allow(libc, ruleset, device, _USE_DEVICE | (_CONTROL_DEVICE if known >= _CONTROL_SINCE else 0))
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return known


def _attributes(known: int, network: int) -> tuple[bytes, int]:
    """Return ``struct landlock_ruleset_attr`` with all that this version can refuse, and its size."""
    fields = [(1 << _FILE_RIGHTS.get(known, _NEWEST_FILE_RIGHTS)) - 1]
    fields += [network] if known >= _NETWORK_SINCE else []
    fields += [_ABSTRACT_SOCKETS_AND_SIGNALS] if known >= _SCOPES_SINCE else []
    packed = struct.pack(f"={len(fields)}Q", *fields)
    return packed, len(packed)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no rule
    try:
        rights &= _OF_FILES if not os.path.isdir(path) else rights
        rule = struct.pack("=Qi", rights, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), "landlock_add_rule")
    finally:
        os.close(descriptor)


def _checked(result: int, call: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), call)
    return result

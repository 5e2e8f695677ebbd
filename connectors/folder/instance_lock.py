"""The lock by which an instance's claims are known to be held: it lives as long as the program, and no longer."""

import fcntl
import os
from pathlib import Path

LOCK = ".lock"
_held_locks: set[int] = set()


def _forget_locks() -> None:
    """Close inherited locks: a child that outlives a killed daemon must not keep its claims."""
    while _held_locks:
        os.close(_held_locks.pop())


os.register_at_fork(after_in_child=_forget_locks)


def try_lock(path: Path, *, create: bool = False) -> int:
    """Return a descriptor that holds the lock; -1 where someone else does or it is not there."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    _held_locks.add(descriptor)
    return descriptor


def unlock(descriptor: int) -> None:
    """Let a lock go, which is held."""
    if descriptor in _held_locks:
        _held_locks.remove(descriptor)
        os.close(descriptor)

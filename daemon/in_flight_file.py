"""The file of the clips in flight: what a program that ends unforeseen leaves behind about them.

``state_dir/in-flight/<n>`` belongs to one daemon, the one that holds its lock. A clip's record is written in place when
the clip comes into flight and blanked when it leaves, one write each and no sync: that outlives the process, and no
more is asked, for a machine that went down says nothing about a clip.
"""

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from connectors.contract import Clip
from daemon.in_flight_records import BLANK, MAX_BYTES, RECORD_BYTES, Content, Ended, State, both, head, key_of
from daemon.in_flight_records import merged as merge
from daemon.in_flight_records import read as read_records
from daemon.in_flight_records import record as record_of

log = logging.getLogger(__name__)

_FOLDER, _SLOTS = "in-flight", 64  # daemons that share a state_dir; more would be a mistake in the unit
_MAX_ENDED = 1024  # clips that have not come again yet; the oldest are forgotten first
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block it
_locked: set[int] = set()


def _forget_locks() -> None:
    """Close inherited locks: a child that outlives a killed daemon must not keep its file."""
    while _locked:
        os.close(_locked.pop())


os.register_at_fork(after_in_child=_forget_locks)


class InFlightFile:
    """The file of this daemon, over at most ``capacity`` clips in flight.

    What keeps it from being written is said once, and captioning goes on without it.
    """

    def __init__(self, state_dir: Path, capacity: int) -> None:
        self._state_dir, self._capacity = state_dir, capacity
        self._file, self._boot = -1, ""
        self._held: dict[int, str] = {}  # the clips in flight, by the numbers of their records
        self._fresh: dict[str, set[int]] = {}  # of these, by key, of which nothing became durable yet
        self._free: list[int] = []
        self._ended: dict[str, tuple[int, State]] = {}  # the clips to blame, with the numbers of their records

    def open(self) -> None:
        """Take a file, and take over what daemons that are gone left in it and in others."""
        try:
            self._boot = _boot_id()
            self._state_dir.mkdir(parents=True, exist_ok=True)
            folder = _open_folder(self._state_dir)
            try:
                self._take(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._give_up(error)

    def _take(self, folder: int) -> None:
        files: list[int] = []
        ended: Ended = {}
        try:
            for file, content in _unlocked_files(folder):
                files.append(file)
                ended = merge(ended, content.ended(self._boot))
            if not files:
                raise OSError(errno.EBUSY, f"{_SLOTS} daemons have one there")
            self._begin(files[0], ended)
            for other in files[1:]:  # only now that what they say stands here
                os.ftruncate(other, 0)
            self._file = files.pop(0)
        finally:
            for file in files:
                _unlock(file)

    def _begin(self, file: int, ended: Ended) -> None:
        """Write the head, the clips to blame, and room for those that come into flight."""
        kept = list(ended.items())[-_MAX_ENDED:]
        self._ended = {key: (number, state) for number, (key, state) in enumerate(kept, 1)}
        self._free = list(range(len(kept) + self._capacity, len(kept), -1))
        data = b"".join([head(self._boot), *(record_of(*one) for one in kept), *[BLANK] * self._capacity])
        if os.pwrite(file, data, 0) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(file, len(data))

    def enter(self, clip: Clip) -> int:
        """Note that a clip comes into flight, and return the number of its record."""
        number = self._free.pop() if self._free else len(self._held) + len(self._ended) + 1
        self._held[number] = key = key_of(clip)
        self._fresh.setdefault(key, set()).add(number)
        self._write(number, record_of(key, State.HELD))
        return number

    def advance(self, clip: Clip) -> None:
        """Note that something of a clip in flight became durable, so that no earlier end counts against it."""
        key = key_of(clip)
        self.forget(clip)
        for number in self._fresh.pop(key, ()):
            self._write(number, record_of(key, State.ADVANCED))

    def leave(self, number: int) -> None:
        """Note that a clip is not in flight any more, however it left."""
        self._let_go(number)
        self._blank(number)

    def _let_go(self, number: int) -> tuple[str, bool]:
        """Forget a record, and return its key and whether nothing of its clip became durable."""
        key = self._held.pop(number)
        fresh = self._fresh.get(key, set())
        was_fresh = number in fresh
        fresh.discard(number)
        if not fresh:
            self._fresh.pop(key, None)
        return key, was_fresh

    def blame(self, number: int) -> None:
        """Note that what happened within this clip's own task ends the program, whatever is beside it."""
        key, was_fresh = self._let_go(number)
        state = State.ALONE if was_fresh else State.BESIDE
        if (before := self._ended.get(key)) is not None:
            state = both(before[1], state)
            self._blank(before[0])
        self._ended[key] = number, state
        self._write(number, record_of(key, state))

    def stopping(self) -> None:
        """Note that the program is about to end for a reason of its own: no clip in flight is to blame any more."""
        self._write(0, head(self._boot, stopping=True))

    def ended(self, clip: Clip) -> State | None:
        """Return how the program ended with a clip in flight; None where it did not, or that is forgotten."""
        return self._ended.get(key_of(clip), (0, None))[1] if self._ended else None

    def forget(self, clip: Clip) -> None:
        """Forget that a clip is to blame."""
        if not self._ended:
            return
        number, _ = self._ended.pop(key_of(clip), (0, None))
        if number:
            self._blank(number)

    def close(self) -> None:
        """Let go. The file is empty then, but for clips to blame that have not come again."""
        try:
            if self._file >= 0 and not self._ended:
                os.ftruncate(self._file, 0)
        except OSError as error:
            self._give_up(error)
        self.abandon()

    def abandon(self) -> None:
        """Let go as a killed program does: what the file says stays."""
        if self._file >= 0:
            _unlock(self._file)
            self._file = -1

    def _blank(self, number: int) -> None:
        self._free.append(number)
        self._write(number, BLANK)

    def _write(self, number: int, data: bytes) -> None:
        if self._file < 0:
            return
        try:
            os.pwrite(self._file, data, number * RECORD_BYTES)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        place, reason = self._state_dir / _FOLDER, error.strerror or str(error)
        log.warning("%s can't be written, so clips that end the program are not found: %s.", place, reason)
        self.abandon()


def _boot_id() -> str:
    """Return what names this run of the machine; empty where the kernel does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _open_folder(state_dir: Path) -> int:
    above = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):  # what it is shows next
            os.mkdir(_FOLDER, 0o700, dir_fd=above)
        return os.open(_FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlocked_files(folder: int) -> Iterator[tuple[int, Content]]:
    """Lock and read the first file that nobody holds, made if need be, then every other that is there."""
    found = False
    for name in map(str, range(_SLOTS)):
        if found and not _is_there(folder, name):
            continue
        taken = _lock_and_read(folder, name)
        if taken is not None:
            found = True
            yield taken


def _lock_and_read(folder: int, name: str) -> tuple[int, Content] | None:
    """Return a file, locked, and its content; None where another daemon holds it.

    What is no file of this user, or can't be understood, is set aside, and the file is made anew.
    """
    try:
        file = _lock(folder, name)
    except (OSError, ValueError) as error:
        os.rename(name, f"{name}.set-aside", src_dir_fd=folder, dst_dir_fd=folder)
        reason = error.strerror if isinstance(error, OSError) else error
        log.warning("%s/%s is set aside, and blames no clip: %s.", _FOLDER, name, reason)
        file = _lock(folder, name)
    return file


def _lock(folder: int, name: str) -> tuple[int, Content] | None:
    file = os.open(name, _OPEN, 0o600, dir_fd=folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise ValueError("it is no file of this user")
        os.fchmod(file, 0o600)
        content = read_records(os.pread(file, MAX_BYTES + 1, 0))
    except BlockingIOError:
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    _locked.add(file)
    return file, content


def _unlock(file: int) -> None:
    if file in _locked:
        _locked.remove(file)
        os.close(file)

"""Names like another name, which a file system takes: for clips that end where one of their name lies already."""

import contextlib
import hashlib
import itertools
import logging
import os
import stat
from collections.abc import Iterator

from connectors.files.durable import rename_to_free_name

log = logging.getLogger(__name__)

_LONGEST_NAME_BYTES = 250  # of the 255 a file system takes


def names_like(name: str) -> Iterator[str]:
    """Yield the name itself, then the same with a number: ``clip.mp4``, ``clip.1.mp4``, ``clip.2.mp4``."""
    yield name
    stem, dot, suffix = name.rpartition(".")
    if not (dot and stem):
        stem, suffix = name, ""
    for number in itertools.count(1):
        yield _fitting(stem, f".{number}{dot if suffix else ''}{suffix}")


def rename_to_like_name(folder: int, name: str) -> str:
    """Give what lies in a folder (a descriptor) the first free name that is like its own, and return that."""
    for other in itertools.islice(names_like(name), 1, None):
        with contextlib.suppress(FileExistsError):
            rename_to_free_name(folder, name, folder, other)
            return other
    raise FileExistsError(name)


def rename_stranger(folder: int, name: str) -> None:
    """Give a file that is none of ours another name, for captions are to have its own."""
    other = rename_to_like_name(folder, name)
    os.fsync(folder)
    log.warning("%s is not captiond's: it is called %s now, for captions have its name.", name, other)


def reason_name(name: str) -> str:
    """Return what the file is called that says why the clip ``name`` was rejected."""
    return _fitting(name, ".reason.json")


def is_reason_free(folder: int, clip_name: str, clip_id: str) -> bool:
    """Whether a clip's reason file is not in a folder, or was written about this clip by a run that was cut short."""
    try:
        # O_NONBLOCK: a pipe of this name would be waited for
        descriptor = os.open(
            reason_name(clip_name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder
        )
    except FileNotFoundError:
        return True
    except OSError:
        return False
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and clip_id.encode() in (file.read(65_536) or b"")


def _fitting(stem: str, ending: str) -> str:
    """Return a name that a file system takes, with room for a temporary one; a long stem is cut and told apart."""
    room_bytes = _LONGEST_NAME_BYTES - len(os.fsencode(ending))
    encoded = os.fsencode(stem)
    if len(encoded) > room_bytes:
        digest = hashlib.sha256(encoded).hexdigest()[:12]
        stem = os.fsdecode(encoded[: max(room_bytes - len(digest), 0)]) + digest
    return stem + ending

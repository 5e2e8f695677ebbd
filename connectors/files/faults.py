"""Faults of a file system that waiting can't mend: a name, a link or a right stands in the way, not the disk."""

import errno

NO_FOLDER = frozenset({errno.ENOTDIR, errno.ELOOP})
"""Something else lies where a folder is needed: a file, a pipe or a link."""

NOT_A_FILE = NO_FOLDER | {errno.ENOENT, errno.EINVAL, errno.ENXIO}
"""A file is gone, or a link, a pipe or a device lies there."""

_HOPELESS = NO_FOLDER | {
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EISDIR,
    errno.EXDEV,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENXIO,
    errno.EOVERFLOW,
    errno.EMLINK,
}


def can_pass(error: OSError) -> bool:
    """Whether the same may work later though nobody touches the file: a disk was full or away, memory was short."""
    return error.errno not in _HOPELESS

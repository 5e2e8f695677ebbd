"""The recorder's program: ``python -m connectors.stream.child.program``. It is told over a pipe what to record.

daemon -> recorder   one line of JSON on its standard input, with the URL and the password in it
recorder -> daemon   a byte on its standard output for each change of the index, and as a sign of life
"""

import fcntl
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict

from connectors.stream.child.cage import confine, load_what_comes_late
from connectors.stream.child.pyav import prepare
from connectors.stream.child.recorder import Recorder, RecorderRequest
from connectors.stream.child.store import Store
from connectors.stream.index import LOCK
from connectors.stream.mark import mark_of

_MAX_REQUEST = 65_536
BUSY, NO_FOLDER, UNCAGED = 3, 4, 5
"""Exit statuses: another recorder is at it; the folder can't be opened; the kernel can't confine it."""


def main() -> int:
    """Record until the daemon ends it, or is gone."""
    request = RecorderRequest(**json.loads(os.read(0, _MAX_REQUEST)))
    os.umask(0o077)
    prepare()
    try:
        folder = os.open(request.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return BUSY
    except OSError:
        return NO_FOLDER
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {mark_of(asdict(request))}".encode(), 0)
    os.set_blocking(1, False)
    load_what_comes_late()
    missing = confine(request.folder, request.ssl_cafile, outlives=request.outlives)
    if missing and request.required:
        os.write(1, f"!cage_{missing[0]}\n".encode())
        return UNCAGED
    if not request.outlives and os.getppid() != request.parent:  # it died before its death could be a signal
        return 0
    store = Store(folder, request.max_bytes)
    store.open()
    recorder = Recorder(request, store, wake)
    signal.signal(signal.SIGTERM, lambda *_: recorder.stop())
    recorder.run()
    return 0


def wake() -> None:
    """Tell the daemon that the index has more, or only that the recorder lives."""
    with suppress(OSError):  # a pipe that is full wakes its reader already; one without a reader is no loss
        os.write(1, b"\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # a traceback would show the URL
        os.write(1, f"!{type(error).__name__}\n".encode())
        sys.exit(1)

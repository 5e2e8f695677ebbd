"""The reaper of engine processes: none outlives its daemon, whatever happens to the daemon.

vLLM's engine core survives a parent that is killed and keeps the GPU (vllm-project/vllm#55510). Every process of an
engine inherits a mark in its environment; a small watcher, started beside the engine, waits for the end of the daemon
and kills whatever carries the mark. It reads /proc, so elsewhere than on Linux it does nothing. Run as a program, this
file is the watcher: it imports nothing of ours and starts in some 20 ms.
"""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

MARK = "CAPTIOND_ENGINE"
_TRACKER = b"from multiprocessing.resource_tracker import main"
_POLL_S = 0.5  # how soon the watcher sees that its parent is gone, should a stray copy keep the pipe open
_LINGER_S = 2.0  # how long killed processes are given to be gone


def marked_processes(mark: str) -> list[int]:
    """Return the processes, but for this one, whose environment began with ``CAPTIOND_ENGINE=mark``.

    Python's resource tracker is none of them: it unlinks what killed processes leave in shared memory, hundreds of MiB
    an engine, and ends by itself once they are all gone.
    """
    entry, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it went away, or is somebody else's
            is_marked = entry in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid()
            if is_marked and _TRACKER not in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def kill_marked(mark: str) -> int:
    """Kill every process that carries the mark and wait until they are gone; return how many there were."""
    killed, deadline = set[int](), time.monotonic() + _LINGER_S
    while (left := [pid for pid in marked_processes(mark) if not _is_zombie(pid)]) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        time.sleep(0.02)
    return len(killed)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class EngineReaper:
    """Marks the processes that are started while it is entered, and sees to their end.

    Between ``with`` and :meth:`close` the watcher runs. The environment is this process's own, so two engines must not
    start at the same time.
    """

    def __init__(self) -> None:
        self.mark = uuid4().hex
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "EngineReaper":
        if self._watcher is None:
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, self.mark],
                stdin=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C at the terminal is the daemon's to answer
            )
        os.environ[MARK] = self.mark
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.pop(MARK, None)

    def close(self) -> int:
        """Kill what is left of the engine and end the watcher; return how many processes were left."""
        left = kill_marked(self.mark)
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
            self._watcher = None
        return left


def _watch(mark: str) -> None:
    """Wait for the end of the pipe or of the parent, then kill."""
    parent = os.getppid()
    while os.getppid() == parent:
        if select.select([0], [], [], _POLL_S)[0] and not os.read(0, 64):
            break
    kill_marked(mark)


if __name__ == "__main__":
    _watch(sys.argv[1])

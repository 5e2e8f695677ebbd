"""The daemon's side of a recorder: a process that is told what to record over a pipe, and started again when it ends.

It is no fork of the daemon: it has nothing of the daemon's memory, and of its environment only what names no secret.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.stream.index import LOCK
from connectors.stream.mark import mark_of
from connectors.stream.settings import StreamSourceSettings

_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package connectors
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_SIGN_OF_LIFE_S = 30.0  # beside the two silences that opening a stream may take
_END_S = 2.0
_BUSY = 3  # its exit status where another records already
_FOUND = "found another at work on its folder"
_LOOK_AGAIN_S = 5.0

log = logging.getLogger(__name__)


class RecorderProcess:
    """Keeps a recorder running. ``heard`` is called for each sign of it: the index may have more.

    One that ``outlives`` the daemon is left alone at its end, and found by the next daemon, which starts no other while
    that one records the same. A keeper beside the daemon ``gives_way``: it waits while another records, whatever that
    is, and its own ends with it.
    """

    def __init__(
        self,
        name: str,
        request: Callable[[], dict[str, Any]],
        settings: StreamSourceSettings,
        heard: Callable[[], None],
        *,
        gives_way: bool = False,
    ) -> None:
        self._name, self._request, self._heard = name, request, heard
        self.outlives, self._gives_way = settings.record_while_down and not gives_way, gives_way
        self._limit_s = _SIGN_OF_LIFE_S + 2 * settings.silence_s
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.starts = 0
        self.is_at_work = False  # this one's recorder, or another that was found, records

    @property
    def pid(self) -> int | None:
        """The recorder's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it, and keep it running until :meth:`close`."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep the recorder of {self._name}")

    async def close(self) -> None:
        """End it, unless it outlives the daemon; what it has of a segment is kept."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if not self.outlives:
            await self._end()

    async def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            began = asyncio.get_running_loop().time()
            try:
                ended = await self._run()
            except (OSError, ValueError) as error:
                ended = f"can't be started: {type(error).__name__}"
            if ended == _FOUND and (self.outlives or self._gives_way):
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            log.warning("The recorder of %s %s.", self._name, ended, extra={"source": self._name})
            if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _run(self) -> str:
        """Start a recorder and return, for people, how it ended."""
        wanted = self._request()
        request = json.dumps(wanted).encode() + b"\n"
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        paths = [str(_ROOT), *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        self._process = await asyncio.create_subprocess_exec(
            # -P: no module is ever imported from the folder that somebody stands in
            *(sys.executable, "-P", "-B", "-m", "connectors.stream.child.program"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # FFmpeg's lines and tracebacks may have the URL in them
            env=environment,
            start_new_session=self.outlives,
        )
        self.starts += 1
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018 - pipes
        self._process.stdin.write(request)
        self._process.stdin.close()
        said = b""
        while True:
            try:
                async with asyncio.timeout(self._limit_s):
                    piece = await self._process.stdout.read(65_536)
            except TimeoutError:
                await self._end()
                return "gave no sign of life and was ended"
            if not piece:
                break
            said, self.is_at_work = piece, True
            self._heard()
        status = await self._process.wait()
        self._heard()
        self.is_at_work = status == _BUSY
        if status == _BUSY:
            if self.outlives:
                end_another(Path(wanted["folder"]), wanted)
            return _FOUND
        return f"ended with {status}{_why(said)}"

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def end_another(folder: Path, wanted: dict[str, Any]) -> None:
    """End the recorder that outlived a daemon, where it records something else than what is wanted now."""
    try:
        pid, mark = (folder / LOCK).read_text().split()
        is_recorder = b"connectors.stream.child.program" in Path(f"/proc/{int(pid)}/cmdline").read_bytes()
        if is_recorder and mark != mark_of(wanted, bytes.fromhex(mark.partition(":")[0])):
            os.kill(int(pid), signal.SIGTERM)
    except (OSError, ValueError):
        return  # it went away, or has only begun


def _why(said: bytes) -> str:
    """Return the name of the error that ended it, which is all that it says of one."""
    word = said.rpartition(b"!")[2].strip().decode("ascii", "replace") if b"!" in said else ""
    return f" ({word})" if word.isidentifier() and len(word) < 64 else ""

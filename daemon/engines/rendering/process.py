"""A renderer as the program sees it: started, asked, ended. One that fails once is never asked again."""

import asyncio
import contextlib
import json
import os
import pickle
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.errors import Poison, Reason, Transient
from daemon.engines.rendering.job import RenderedWindow, RenderJob
from daemon.engines.rendering.patience import patient
from daemon.engines.rendering.worker import CONFIGURE, MAX_PACKET_BYTES, READY, REFUSED, RENDER, RENDERED
from daemon.engines.vllm import library
from daemon.memory_file import parts_of, written
from daemon.windows import FrameSet

_ROOT = Path(__file__).resolve().parents[3]  # the folder that holds the package daemon
_START_S = 300.0  # it imports vLLM, some ten seconds on an idle core
_END_S = 5.0
# no device is touched; one core each; and what is not on this machine already is not looked up
_ALONE = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


class RendererProcess:
    """A renderer. Windows are rendered one at a time; the caller sees to that."""

    def __init__(self, configuration: bytes, environment: Mapping[str, str], deadline_s: float) -> None:
        self._configuration, self._environment, self._deadline_s = configuration, environment, deadline_s
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None

    @property
    def is_running(self) -> bool:
        """Whether it can be asked: it has not failed, and has not ended while nobody asked."""
        return self._socket is not None and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    async def start(self) -> None:
        """Start the process and wait until it has the model's processor; :class:`Transient` when it does not come."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        paths = [str(_ROOT), *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        try:
            self._process = await asyncio.create_subprocess_exec(
                # -P: no module is ever imported from the folder that somebody stands in
                *(
                    sys.executable,
                    "-P",
                    "-m",
                    "daemon.engines.rendering.worker",
                    str(theirs.fileno()),
                    str(os.getpid()),
                ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,  # what libraries print is a log: standard output is for captions
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ALONE, "PYTHONPATH": os.pathsep.join(paths), **self._environment},
                start_new_session=True,  # a Ctrl-C at the terminal is the daemon's to answer
            )
            theirs.close()
            await self._ask(CONFIGURE, [self._configuration], None, READY, _START_S)
        except OSError as error:
            await self.end()
            raise _died() from error
        except BaseException:
            await self.end()
            raise
        finally:
            theirs.close()

    async def render(self, job: RenderJob, frames: FrameSet, queue_ms: float) -> RenderedWindow:
        """Return a window rendered, its tensors in memory that goes with them.

        Raises :class:`Poison` or :class:`Transient` as vLLM refuses the window, and :class:`Transient` when the
        renderer died or is past its deadline; it has ended then.
        """
        begun_s = time.monotonic()
        parts: list[Any] = [pickle.dumps(job)]
        pixels = frames.frames  # held until the answer: once nobody has them, their memory is filled again
        if frames.memory_file < 0:  # frames in memory of this process alone: they are copied into the message
            parts.append(pixels)
        answer, size_bytes = await self._ask(RENDER, parts, frames.memory_file, RENDERED, self._deadline_s)
        about = json.loads(bytes(answer[0]))
        if "reason" in about:
            raise _refusal(about)
        rendered = library.decoded(answer[1:])
        return RenderedWindow(rendered, size_bytes, queue_ms, (time.monotonic() - begun_s) * 1000)

    async def _ask(
        self, kind: bytes, parts: Sequence[Any], pixels: int | None, expected: bytes, deadline_s: float
    ) -> tuple[list[memoryview], int]:
        """Send a message and return the answer's parts and size. Whatever goes wrong ends the process."""
        try:
            message = written("captiond-to-render", parts) if len(parts) == 1 else await _written(parts)
            try:
                shared = [] if pixels is None or pixels < 0 else [pixels]
                socket.send_fds(self._connected(), [kind], [message, *shared])
            finally:
                os.close(message)
            return await self._reply(expected, deadline_s)
        except TimeoutError:
            await self.end()
            detail = f"a window was not rendered within {deadline_s:g} s"
            raise Transient(detail, reason=Reason.RENDER_DEADLINE, origin="engine") from None
        except (OSError, EOFError, ValueError) as error:
            await self.end()
            raise _died() from error
        except BaseException:
            await self.end()
            raise

    async def _reply(self, expected: bytes, deadline_s: float) -> tuple[list[memoryview], int]:
        receiving = asyncio.create_task(self._receive())
        try:
            kind, descriptors = await patient(receiving, deadline_s)
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        try:
            if kind != expected and not (kind == REFUSED and expected == RENDERED):
                raise EOFError(f"the renderer answers {kind!r}")
            size_bytes = sum(os.fstat(one).st_size for one in descriptors)
            return [part for one in descriptors for part in parts_of(one)], size_bytes
        finally:
            for one in descriptors:
                os.close(one)

    async def _receive(self) -> tuple[bytes, list[int]]:
        connection, loop = self._connected(), asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(connection.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            if connection is self._socket:
                loop.remove_reader(connection.fileno())
        kind, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET_BYTES, 1)
        return kind, descriptors

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise EOFError("the renderer was ended")
        return self._socket

    async def end(self) -> None:
        """Kill the process and wait until it is gone. May be called again."""
        connection, self._socket = self._socket, None
        if connection is not None:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            connection.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _END_S)


async def _written(parts: Sequence[Any]) -> int:
    """Write a message with pixels in it: in a thread, for the event loop copies none."""
    return await asyncio.to_thread(written, "captiond-to-render", parts)


def _refusal(about: Mapping[str, Any]) -> Poison | Transient:
    reason, detail, origin = (str(about[name]) for name in ("reason", "detail", "origin"))
    if about["again"]:
        return Transient(detail, reason=reason, origin=origin)
    return Poison(reason, detail, origin=origin)


def _died() -> Transient:
    return Transient("the renderer died", reason=Reason.RENDERER_DIED, origin="engine")

"""A flood of connections to the status port of a real daemon: it still captions, answers and stops."""

import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testing.load import WINDOWS_EACH, write_load_clip
from testing.ports import free_port
from tests.pipeline.daemon_process import FolderJob
from tests.pipeline.test_stops import PROMPT_S, Running

pytestmark = pytest.mark.timeout(120)

DESCRIPTORS = 256  # of the daemon: fewer than a flood takes, more than clips do
FLOOD = 400
CALLERS = 64


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_flood_stops_neither_the_intake_nor_sigterm(sent: bytes, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FLOOD + 500)), hard))
    port = free_port()
    job = FolderJob(tmp_path, listen=f"127.0.0.1:{port}")
    daemon = Running(job)
    daemon.until_logged("Ready")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    flood: list[socket.socket] = []

    def connect(_: int) -> None:
        flood.append(socket.create_connection(("127.0.0.1", port), timeout=60))
        flood[-1].sendall(sent)

    try:
        with ThreadPoolExecutor(CALLERS) as callers:  # one alone waits a second for each time that the queue is full
            list(callers.map(connect, range(FLOOD)))
        write_load_clip(job.inbox / "clip.mp4")
        daemon.until((job.done / "clip.mp4").exists)
        alive = httpx.get(f"http://127.0.0.1:{port}/livez", timeout=60, trust_env=False)
        daemon.terminate()
        code, took_s = daemon.end()
    finally:
        for connection in flood:
            connection.close()
        daemon.process.send_signal(signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (code, alive.status_code) == (0, 200), daemon.log()
    assert took_s < PROMPT_S
    assert len(job.messages("clip.mp4")) == WINDOWS_EACH
    assert "Too many open files" not in daemon.log()

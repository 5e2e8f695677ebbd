"""Marked processes end with the engine, or with the daemon."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.engines.vllm.reaper import MARK, EngineReaper, kill_marked, marked_processes
from testing.repository import ROOT

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
DAEMON = """
import subprocess, sys, time
from daemon.engines.vllm.reaper import EngineReaper
reaper = EngineReaper()
with reaper:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(reaper.mark, flush=True)
time.sleep(60)
"""
HOLDER = """
import sys, time
from multiprocessing import get_context, shared_memory
from daemon.engines.vllm.reaper import EngineReaper

def hold(connection):
    segment = shared_memory.SharedMemory(create=True, size=2**20)
    connection.send(segment.name)
    time.sleep(60)

if __name__ == "__main__":
    spawn, reaper = get_context("spawn"), EngineReaper()
    here, there = spawn.Pipe()
    with reaper:
        spawn.Process(target=hold, args=(there,), daemon=True).start()
    print(reaper.mark, here.recv(), flush=True)
    if sys.argv[1] == "closes":
        print(reaper.close(), flush=True)
    else:
        time.sleep(60)
"""


def wait_until_gone(mark: str) -> bool:
    deadline = time.monotonic() + 60
    while marked_processes(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not marked_processes(mark)


def test_processes_started_inside_are_marked_and_killed_at_the_end() -> None:
    reaper = EngineReaper()
    with reaper:
        inside = subprocess.Popen(SLEEPER)
    outside = subprocess.Popen(SLEEPER)
    try:
        assert MARK not in os.environ
        deadline = time.monotonic() + 60
        while marked_processes(reaper.mark) != [inside.pid] and time.monotonic() < deadline:
            time.sleep(0.01)  # until the child has become its program

        assert marked_processes(reaper.mark) == [inside.pid]
        assert reaper.close() == 1

        assert inside.wait(60) == -signal.SIGKILL
        assert outside.poll() is None
        assert reaper.close() == 0
    finally:
        outside.kill()
        outside.wait()


def test_the_engine_ends_with_a_daemon_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", DAEMON], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        mark = daemon.stdout.readline().strip()
        try:
            assert len(marked_processes(mark)) == 1

            daemon.kill()
            daemon.wait()

            assert wait_until_gone(mark)
        finally:
            kill_marked(mark)


@pytest.mark.parametrize("end", ["closes", "is killed"])
def test_nothing_is_left_in_shared_memory_of_processes_that_are_killed(end: str, tmp_path: Path) -> None:
    program = tmp_path / "holder.py"  # a spawned child imports it anew
    program.write_text(HOLDER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(program), end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as daemon:
        assert daemon.stdout is not None
        mark, name = daemon.stdout.readline().split()
        segment = Path("/dev/shm", name)
        try:
            if end == "closes":
                assert daemon.stdout.readline() == "1\n"
            else:
                assert segment.exists()
                daemon.kill()
            daemon.wait()

            assert wait_until_gone(mark)
            deadline = time.monotonic() + 60
            while segment.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not segment.exists()
        finally:
            kill_marked(mark)
            segment.unlink(missing_ok=True)

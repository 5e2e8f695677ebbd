"""Two replicas of the bundled model in the real vLLM, folder to folder: one hangs, or its host is gone."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import neva
from daemon.engines.vllm.args import ENVIRONMENT
from daemon.engines.vllm.reaper import marked_processes
from testing.load import WINDOWS_EACH, fill_inbox
from testing.ports import free_port
from testing.repository import ROOT
from tests.chaos.engine_rows import ENGINE_LOST, check, run_once
from tests.chaos.folder_rows import FINISH_S, lines_written
from tests.chaos.table import Result, Row
from tests.chaos.vllm_rows import engine_of, under_load, write_config

CLIPS = 60
CLIPS_IN_FLIGHT = 12  # a replica that hangs keeps some of them: the others go on
STALL_S = 15.0
GIVE_UP_S = 60.0  # from the stall to the exit, on a busy machine: stacks are written, processes ended
LOST = re.compile(r"no progress of replica 1 \(of 2, from 0; it holds \d+ requests\)")
OF_THE_MODEL = {
    "model": Path(neva.__file__).parent / "bundled",
    "dtype": "float32",
    "max-model-len": 1024,
    "max-num-seqs": 2,
    "limit-mm-per-prompt": '{"image": 2}',
}


def lose_second(config: Path, strike: Callable[[int], None]) -> tuple[list[str], float]:
    """Strike the second of two replicas under load; return what is wrong and how long the daemon's end took.

    ``strike`` is given the daemon's process.
    """
    captions, log = config.parent / "captions", config.parent / "daemon.log"
    process = under_load(config, 2)
    if process.poll() is not None:
        return [f"the load was over before it was struck: exit {process.returncode}"], 0.0
    mark, _ = engine_of(process.pid)
    before, begun_s = lines_written(captions), time.monotonic()
    strike(process.pid)
    code = process.wait(timeout=FINISH_S)
    took_s, wrong = time.monotonic() - begun_s, []
    if code != ENGINE_LOST or took_s > STALL_S + GIVE_UP_S:
        wrong.append(f"exit {code} after {took_s:.1f} s")
    if (written := lines_written(captions) - before) < WINDOWS_EACH:
        wrong.append(f"{written} windows were captioned beside the replica that was lost")
    if not LOST.search(log.read_text()):
        wrong.append("the log does not say which replica was lost")
    if left := marked_processes(mark):
        wrong.append(f"{len(left)} processes of the engine are left")
    return wrong, took_s


def stop_second(pid: int) -> None:
    """Stop the core of a daemon's second replica, which then hangs."""
    _, (_, core) = engine_of(pid)
    os.kill(core, signal.SIGSTOP)


@contextmanager
def second_host(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the second replica as another host would, by vLLM's own command; it is gone behind the block."""
    place = {"size": 2, "size-local": 1, "start-rank": 1, "address": "127.0.0.1", "rpc-port": port}
    options = {**OF_THE_MODEL, **{f"data-parallel-{name}": value for name, value in place.items()}}
    command = [sys.executable, "-m", "tests.chaos.second_host", "--enforce-eager"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, **ENVIRONMENT, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "second-host.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        gone(process)


def gone(process: "subprocess.Popen[bytes]") -> None:
    """End a host's processes at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def e7(faults: int, folder: Path) -> Result:
    """One of two replicas is stopped while the other works: seen, exit 75, and nothing is lost after the restart."""
    total = Result()
    for number in range(faults):
        at, names = _inbox(folder / str(number))
        config = write_config(at, clips_in_flight=CLIPS_IN_FLIGHT, replicas=2, stall_s=STALL_S)
        wrong, took_s = lose_second(config, stop_second)
        total.add(_finished(config, names, wrong, took_s))
    return total


def e8(faults: int, folder: Path) -> Result:
    """The host of the second replica is gone: seen as one that hangs, exit 75; both are started again."""
    total = Result()
    for number in range(faults):
        at, names = _inbox(folder / str(number))
        port = free_port()
        place = f", data_parallel_size_local: 1, data_parallel_address: 127.0.0.1, data_parallel_rpc_port: {port}"
        config = write_config(at, clips_in_flight=CLIPS_IN_FLIGHT, replicas=2, args=place, stall_s=STALL_S)
        with second_host(at, port) as second:
            wrong, took_s = lose_second(config, lambda _, host=second: gone(host))  # type: ignore[misc]
        with second_host(at, port):
            total.add(_finished(config, names, wrong, took_s))
    return total


def _inbox(folder: Path) -> tuple[Path, list[str]]:
    folder.mkdir(parents=True)
    return folder, fill_inbox(folder / "inbox", CLIPS)


def _finished(config: Path, names: list[str], wrong: list[str], took_s: float) -> Result:
    """Let another daemon finish the load, and check all of it."""
    if (code := run_once(config)) != 0:
        wrong.append(f"the last daemon exited with {code}")
    result = check(config, names, 1, took_s)
    result.wrong += wrong
    return result


ROWS = (
    Row("E7", "vLLM: one of two replicas hangs", 3, 0, e7),
    Row("E8", "vLLM: the host of a replica is gone", 2, 0, e8),
)

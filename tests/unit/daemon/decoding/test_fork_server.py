"""A fork server that dies or does not answer, and requests that are cancelled while it forks."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors.errors import Reason, Transient
from daemon.decoding import pool
from daemon.decoding.fork_server import DecoderRequest, ForkServer, Launched
from daemon.decoding.process import DecoderProcess
from testing.open_files import open_files
from testing.repository import ROOT
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.sampling import running, sample, wrong_frames
from tests.unit.daemon.decoding.processes import children_of, is_running

pytestmark = pytest.mark.slow  # it starts decoders


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A clip of 20 s in one group of pictures, so that its last window takes a while."""
    return make(tmp_path_factory.mktemp("clips") / "long", Recipe(frames=500, options={"g": "500", "bf": "0"}))


def test_children_end_with_their_parent() -> None:
    script = (
        "import asyncio, os, signal\n"
        "from tests.corpus.sampling import make_sampler\n"
        "async def main():\n"
        "    sampler = make_sampler()\n"
        "    await sampler.start()\n"
        "    print(sampler.pool.pids[0], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    pid = int(parent.stdout)
    for _ in range(1000):
        if not is_running(pid) or "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


async def test_a_fork_server_that_dies_is_started_again(truth: Truth) -> None:
    before = open_files()
    async with running() as sampler:
        assert (await sample(sampler, truth.path)).fault is None
        server = sampler.pool._server.pid
        assert server is not None
        old = set(sampler.pool.pids)
        os.kill(server, signal.SIGKILL)
        for _ in range(1000):
            if not any(is_running(pid) for pid in old):
                break
            await asyncio.sleep(0.05)

        struck = await sample(sampler, truth.path)
        again = await sample(sampler, truth.path)

        assert struck.fault is None or struck.reason == Reason.DECODER_DIED
        assert wrong_frames(again, truth) == []
        assert sampler.pool._server.pid not in (None, server)
        assert not old & set(sampler.pool.pids)

    del struck, again
    assert open_files() == before


async def test_a_server_that_was_launched_ahead_is_the_first_one() -> None:
    before, ahead = open_files(), Launched.now()
    server = ForkServer(ahead)
    child = DecoderProcess(server, DecoderRequest(1 << 30))

    await child.start()

    assert server.pid == ahead.process.pid
    await child.end()
    await server.close()
    assert ahead.process.returncode == 0  # it was left to end by itself
    ahead.close()
    assert open_files() == before


async def test_a_server_that_died_before_it_was_needed_is_replaced() -> None:
    before, ahead = open_files(), Launched.now()
    ahead.process.kill()
    ahead.process.wait()
    server = ForkServer(ahead)
    child = DecoderProcess(server, DecoderRequest(1 << 30))

    await child.start()

    assert server.pid not in (None, ahead.process.pid)
    await child.end()
    await server.close()
    assert open_files() == before


def test_a_server_that_nobody_needs_is_ended() -> None:
    before, ahead = open_files(), Launched.now()

    ahead.close()

    assert ahead.process.returncode == -signal.SIGKILL
    assert open_files() == before


async def test_a_fork_server_that_does_not_answer_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    before, server = open_files(), ForkServer()
    first = DecoderProcess(server, DecoderRequest(1 << 30))
    await first.start()
    assert server.pid is not None
    monkeypatch.setattr("daemon.decoding.fork_server._FORK_S", 0.5)
    os.kill(server.pid, signal.SIGSTOP)
    monkeypatch.setattr("daemon.decoding.process._START_S", 0.5)
    second = DecoderProcess(server, DecoderRequest(1 << 30))

    with pytest.raises(Transient, match="the decoder died"):
        await second.start()

    await second.end()
    await first.end()
    await server.close()
    assert not second.is_running
    assert open_files() == before


@pytest.mark.parametrize("is_answered_first", [False, True])
async def test_a_request_cancelled_while_its_decoder_is_forked_ends_that_decoder_alone(is_answered_first: bool) -> None:
    before, server = open_files(), ForkServer()
    first, cancelled, next_one = (DecoderProcess(server, DecoderRequest(1 << 30)) for _ in range(3))
    await first.start()
    pid = server.pid
    assert pid is not None
    if not is_answered_first:
        os.kill(pid, signal.SIGSTOP)
    start = asyncio.create_task(cancelled.start())
    while not server._turn.locked():
        await asyncio.sleep(0)
    if is_answered_first:  # the answer lies in the socket, and nobody has read it
        while len(children_of(pid)) < 2:
            time.sleep(0.01)  # noqa: ASYNC251 - the loop is not to read it
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await cancelled.end()
    if not is_answered_first:
        os.kill(pid, signal.SIGCONT)

    await next_one.start()

    assert server.pid == pid
    assert first.is_running
    async with asyncio.timeout(60):
        while children_of(pid) != {first.pid, next_one.pid}:
            await asyncio.sleep(0.01)
    await first.end()
    await next_one.end()
    await server.close()
    assert open_files() == before


async def test_a_request_cancelled_while_it_waits_for_the_fork_server_forks_nothing() -> None:
    before, server = open_files(), ForkServer()
    processes = [DecoderProcess(server, DecoderRequest(1 << 30)) for _ in range(4)]
    starts = [asyncio.create_task(process.start()) for process in processes]
    while not server._turn.locked():
        await asyncio.sleep(0)
    for start in starts[1:3]:
        start.cancel()
    await asyncio.gather(*starts, return_exceptions=True)

    assert [process.is_running for process in processes] == [True, False, False, True]
    assert server.pid is not None
    assert children_of(server.pid) == {processes[0].pid, processes[3].pid}
    for process in processes:
        await process.end()
    await server.close()
    assert open_files() == before


async def test_a_start_that_is_cancelled_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = list[DecoderProcess](), asyncio.Event()

    async def fork(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with running() as sampler:
        monkeypatch.setattr(pool, "DecoderProcess", lambda *given: made.append(DecoderProcess(*given)) or made[0])
        monkeypatch.setattr(sampler.pool._server, "fork", fork)
        start = asyncio.create_task(sampler.pool._ready(0, pool.Sender("another", "decord")))
        await asyncio.wait([start, asyncio.create_task(asked.wait())], return_when=asyncio.FIRST_COMPLETED)
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)

    assert [child._socket for child in made] == [None]

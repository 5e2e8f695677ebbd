"""Decoding children that die or hang: the clip is tried again, the others go on, nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.errors import Reason, Transient
from daemon.decoding import pool
from daemon.decoding.fork_server import DecoderRequest, ForkServer
from daemon.decoding.process import DecoderProcess
from daemon.memory_file import mapped
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from testing.repository import ROOT
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.sampling import SECONDS, clip_of, make_sampler, running, sample, wrong_frames


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """A clip of 20 s in one group of pictures, so that its last window takes a while."""
    return make(tmp_path_factory.mktemp("clips") / "long", Recipe(frames=500, options={"g": "500", "bf": "0"}))


def open_files() -> list[str]:
    """Return what this process has open: files, sockets and memory files."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return sorted(name.split(":")[0] for name in found if not name.startswith("/dev/"))


def children_of(pid: int) -> set[int | None]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_running(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize(
    ("strike", "reason"),
    [
        (signal.SIGKILL, Reason.DECODER_DIED),
        (signal.SIGSEGV, Reason.DECODER_DIED),
        (signal.SIGSTOP, Reason.DECODE_DEADLINE),
    ],
)
async def test_a_struck_child_is_replaced(strike: signal.Signals, reason: Reason, truth: Truth) -> None:
    before = open_files()
    sampler = make_sampler(deadline_s=2.0 if strike == signal.SIGSTOP else 60.0)  # a busy machine decodes slowly
    await sampler.start()
    pids = set(sampler.pool.pids)
    for _ in range(5):
        os.kill(sampler.pool.pids[0], strike)
        struck = await sample(sampler, truth.path)
        assert struck.fault is None or struck.reason == reason
        again = await sample(sampler, truth.path)
        assert again.fault is None
        assert wrong_frames(again, truth) == []
        pids |= set(sampler.pool.pids)
    await sampler.close()

    assert sampler.budget.held_bytes == 0
    assert not [pid for pid in pids if is_running(pid)]
    assert len(pids) >= 5
    del struck, again
    assert open_files() == before


async def test_a_child_killed_in_the_middle_is_transient(truth: Truth) -> None:
    sampler = make_sampler()
    await sampler.start()
    plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
    got: list[int] = []
    fault = None
    try:
        async with aclosing(sampler.frame_sets(plan)) as sets:
            async for window in sets:
                assert isinstance(window, FrameSet)
                sampler.release(window)
                got.append(window.window.index)
                if len(got) == 2:
                    os.kill(sampler.pool.pids[0], signal.SIGKILL)
    except Transient as caught:
        fault = caught
    plan.close()
    rest = await sample(sampler, truth.path, first_window=len(got))
    await sampler.close()

    assert fault is not None
    assert fault.reason == Reason.DECODER_DIED
    assert got == list(range(len(got)))
    assert len(got) + len(rest.windows) == 20
    assert wrong_frames(rest, truth) == []
    assert sampler.budget.held_bytes == 0


async def test_another_clip_in_the_same_child_goes_on(tmp_path: Path, truth: Truth) -> None:
    async with running() as sampler:
        plan = await sampler.plan(clip_of(truth.path), WindowPolicy(NS_PER_S, NS_PER_S // 2, 0), FramePolicy())
        sets = sampler.frame_sets(plan)
        seen = []
        for _ in range(3):
            window = await anext(sets)
            assert isinstance(window, FrameSet)
            seen.append(window)
            sampler.release(window)
        await asyncio.sleep(0.5)  # the child has decoded ahead and waits
        os.kill(sampler.pool.pids[0], signal.SIGKILL)
        await sample(sampler, truth.path)  # finds the child dead, or starts a new one
        async for window in sets:
            assert isinstance(window, FrameSet)
            seen.append(window)
            sampler.release(window)
        plan.close()

    assert [window.window.index for window in seen] == list(range(len(plan.windows)))
    for window in seen:
        assert [int(pts) for pts in window.pts_ns] == [int(plan.pts_ns[n]) for n in window.window.frame_indices]


async def test_leaving_early_gives_everything_back(truth: Truth) -> None:
    before = open_files()
    async with running() as sampler:
        for count in range(4):
            plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window)
                    if window.window.index == count:
                        break
            plan.close()
            plan.close()
            assert sampler.budget.held_bytes == 0

    del window  # frames keep the descriptor of their memory file for as long as somebody has them
    assert open_files() == before


async def test_cancelled_plans_leave_nothing(truth: Truth) -> None:
    before = open_files()
    async with running() as sampler:
        for pause_s in (0, 0.001, 0.003, 0.01, 0.03):
            tasks = [asyncio.create_task(sample(sampler, truth.path)) for _ in range(6)]
            await asyncio.sleep(pause_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        outcome = await sample(sampler, truth.path)
        assert sampler.budget.held_bytes == 0
        assert wrong_frames(outcome, truth) == []

    del outcome
    assert open_files() == before


async def test_a_clip_runs_six_windows_ahead_at_most(truth: Truth) -> None:
    frame_set_bytes = 8 * 256 * 144 * 3
    async with running() as sampler:
        plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
        async with aclosing(sampler.frame_sets(plan)) as sets:
            window = await anext(sets)
            while sampler.budget.held_bytes < 7 * frame_set_bytes:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            assert sampler.budget.held_bytes == 7 * frame_set_bytes  # six ahead, and the one that was taken
            assert isinstance(window, FrameSet)
            sampler.release(window)
        plan.close()


async def test_many_clips_share_a_small_budget(tmp_path: Path) -> None:
    clips = [make(tmp_path / f"clip{k}", Recipe(frames=100)) for k in range(6)]
    windows = WindowPolicy(NS_PER_S, NS_PER_S // 2, 0)
    three_windows = 3 * 8 * 256 * 144 * 3
    async with running(in_flight_bytes=three_windows, decoders=2) as sampler:
        outcomes = await asyncio.gather(*(sample(sampler, clip.path, windows) for clip in clips))

    for clip, outcome in zip(clips, outcomes, strict=True):
        assert outcome.fault is None
        assert wrong_frames(outcome, clip) == []


async def test_children_are_replaced_after_their_share(truth: Truth) -> None:
    sampler = make_sampler()
    sampler.pool._clips_a_child = 3
    await sampler.start()
    pids = []
    for _ in range(7):
        assert (await sample(sampler, truth.path, WindowPolicy())).fault is None
        pids.append(sampler.pool.pids[0])
    await sampler.close()

    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
    assert not [pid for pid in pids if is_running(pid)]


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


async def test_a_child_holds_clips_of_one_source_alone(truth: Truth) -> None:
    async with running() as sampler:
        pids = {}
        for source in ("a", "b", "a", "c"):
            clip = replace(clip_of(truth.path), source=source)
            plan = await sampler.plan(clip, WindowPolicy(), FramePolicy())
            async with aclosing(sampler.frame_sets(plan)) as sets:
                async for window in sets:
                    assert isinstance(window, FrameSet)
                    sampler.release(window)
            assert plan.session.opened_in is not None
            pids.setdefault(source, set()).add(plan.session.opened_in.pid)
            plan.close()

    assert [len(of_source) for of_source in pids.values()] == [1, 1, 1]
    assert len(set.union(*pids.values())) == 3


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


async def test_frames_that_are_shared_come_with_their_memory_file_until_they_go(truth: Truth) -> None:
    before = open_files()
    async with running() as sampler:
        sampler.shares_frames = True
        plan = await sampler.plan(clip_of(truth.path), SECONDS, FramePolicy())
        async with aclosing(sampler.frame_sets(plan)) as sets:
            async for window in sets:
                assert isinstance(window, FrameSet)
                seen = mapped(window.memory_file, window.frames.nbytes).reshape(window.frames.shape)
                assert (seen == window.frames).all()
                sampler.release(window, let_go=True)
                assert window.memory_file == -1
                assert window.frames.max() == 0
        plan.close()
        del window, seen

    assert open_files() == before

"""A daemon over vLLM's own server on loopback: it says what the engine here says, and waits for a server that goes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio

import neva
from neva.shapes.scenes import random_scene, write_clip
from testing.load import WINDOWS_EACH, write_load_clip
from testing.ports import free_port
from tests.contract.vllm_engines import serving
from tests.pipeline.daemon_process import FolderJob

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(420),
    pytest.mark.asyncio(loop_scope="module"),
]

BUNDLED = Path(neva.__file__).parent / "bundled"
HERE = "{kind: vllm, model: bundled, dtype: float32, max_model_len: 1024, args: {enforce-eager: true, max-num-seqs: 4}}"
WHOLE = "windows: {policy: whole}\nframes: {num_frames: 8}\ngeneration: {max_tokens: 24}\n"
# captions that take a while, so that the server can go away under load; none waits for its deadline
LONG = "windows: {window_s: 1.0}\nframes: {num_frames: 2}\ngeneration: {min_tokens: 64, max_tokens: 64}\n"
SEEDS = range(18_000_100, 18_000_106)  # held out from training


def there(port: int) -> str:
    return f"{{kind: openai, base_urls: ['http://127.0.0.1:{port}/v1'], model: tiny, slots: 4}}"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(port: int) -> AsyncIterator[AsyncExitStack]:
    """What holds the server that runs; closing it takes the server away."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(BUNDLED, port))
        yield stack


def fill(job: FolderJob, clips: int = 8) -> list[str]:
    """Put clips of six windows into the inbox; return their names."""
    names = [f"c{number}.mp4" for number in range(clips)]
    for name in names:
        write_load_clip(job.inbox / name)
    return names


async def run_once(job: FolderJob) -> str:
    return await asyncio.to_thread(job.run_once)


async def test_the_same_captions_as_from_the_engine_here(servers: AsyncExitStack, port: int, tmp_path: Path) -> None:
    said = {}
    for where, engine in (("here", HERE), ("there", there(port))):
        job = FolderJob(tmp_path / where, engine=engine, more=WHOLE, timeout_s=200)
        names = [f"{seed}.mp4" for seed in SEEDS]
        for seed, name in zip(SEEDS, names, strict=True):
            write_clip(job.inbox / name, random_scene(seed))
        await run_once(job)  # waits for the server, which is still loading
        said[where] = {name: [message["text"] for message in job.messages(name)] for name in names}

    assert said["there"] == said["here"]
    assert len(set(map(tuple, said["here"].values()))) > 2  # it does not say the same of every clip


async def test_a_server_that_goes_away_under_load_is_waited_for(
    servers: AsyncExitStack, port: int, tmp_path: Path
) -> None:
    job = FolderJob(tmp_path, engine=there(port), more=LONG)
    names = fill(job)
    daemon = job.start("--once")
    try:
        await written(job, 6)
        await servers.aclose()
        before = await settled(job)
        assert before < len(names) * WINDOWS_EACH
        assert daemon.poll() is None
        await servers.enter_async_context(serving(BUNDLED, port))

        log, _ = await asyncio.to_thread(daemon.communicate, timeout=300)
    finally:
        daemon.kill()

    assert daemon.returncode == 0, log
    assert log.count("A server of the engine is away and is waited for") == 1
    for name in names:
        assert (job.done / name).is_file()
        assert [message["window"]["index"] for message in job.messages(name)] == list(range(WINDOWS_EACH))


async def test_a_server_that_hangs_under_load_costs_no_clip_an_attempt(
    servers: AsyncExitStack, port: int, tmp_path: Path
) -> None:
    job = FolderJob(tmp_path, engine=there(port), more=LONG + "timeouts: {request_deadline_s: 10, max_attempts: 2}\n")
    names = fill(job)
    daemon = job.start("--once")
    try:
        await written(job, 6)
        os.killpg(server_on(port), signal.SIGSTOP)
        try:
            await asyncio.sleep(45)  # a deadline, and the time for one word
            assert count(job) < len(names) * WINDOWS_EACH
        finally:
            os.killpg(server_on(port), signal.SIGCONT)
        log, _ = await asyncio.to_thread(daemon.communicate, timeout=200)
    finally:
        daemon.kill()

    assert daemon.returncode == 0, log
    assert "is away and is waited for: the server gave no answer within 10 s" in log
    for name in names:
        assert [message["window"]["index"] for message in job.messages(name)] == list(range(WINDOWS_EACH))


def server_on(port: int) -> int:
    """Return the process that leads the server's group."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"vllm.entrypoints.openai.api_server" in words and str(port).encode() in words:
                return int(folder.name)
    raise AssertionError(f"nothing serves {port}")


def count(job: FolderJob) -> int:
    return sum(file.read_bytes().count(b"\n") for file in job.captions.glob("*.jsonl")) if job.captions.is_dir() else 0


async def written(job: FolderJob, at_least: int) -> None:
    while count(job) < at_least:
        await asyncio.sleep(0.05)


async def settled(job: FolderJob) -> int:
    """Return how many captions there are once no more come."""
    seen = -1
    while seen != count(job):
        seen = count(job)
        await asyncio.sleep(3)
    return seen
